//! Replies: what receivers answer goes back to NATS.

use async_nats::Subscriber;
use async_nats::jetstream::stream;
use futures_util::StreamExt;

use crate::support::broker::{Stored, header};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, throughout, until};

const ANSWERS: &str = "ANSWERS";

fn core(broker: &Broker) -> Config {
    Config::on(broker).top("source = \"core\"")
}

/// A stream for answers, with `more` of its limits.
async fn make_stream(broker: &Broker, more: stream::Config) {
    let subjects = vec!["answers.>".to_owned()];
    let config = stream::Config { name: ANSWERS.to_owned(), subjects, ..more };
    broker.jetstream_context().await.create_stream(config).await.unwrap();
}

async fn wait_for_answers(broker: &Broker, n: usize) -> Vec<Stored> {
    until("the answers are there", secs(15), async || broker.count(ANSWERS).await >= n as u64).await;
    broker.stored(ANSWERS).await
}

async fn listen(broker: &Broker, subject: &'static str) -> Subscriber {
    let client = broker.client().await;
    let subscriber = client.subscribe(subject).await.unwrap();
    // A flush only writes. What comes back was sent after the subscription, so the server has that too.
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    next(&mut echo).await;
    subscriber
}

async fn next(subscriber: &mut Subscriber) -> async_nats::Message {
    tokio::time::timeout(secs(15), subscriber.next()).await.expect("in time").unwrap()
}

fn header_of<'a>(message: &'a async_nats::Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

#[tokio::test]
async fn an_answer_is_stored_with_its_status_headers_and_body_under_an_id_of_the_message() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    make_stream(&broker, stream::Config::default()).await;
    let answer = Answer::status(201)
        .header("Content-Type", "application/json")
        .header("X-Id", "7")
        .header("X-Secret", "no")
        .body("{\"order\":7}");
    receiver.always("/hook", answer);
    let more = "reply = { subject = \"answers.{{ subject }}\", headers = [\"X-Id\"] }";
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish_with_headers("orders.new", &[("Nats-Msg-Id", "order-1")], "1").await;

    let answers = wait_for_answers(&broker, 1).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(answers[0].subject, "answers.orders.new");
    assert_eq!(answers[0].payload, b"{\"order\":7}");
    for (name, value) in [
        ("Natshook-Status", "201"),
        ("Natshook-Id", "order-1"),
        ("Natshook-Target", "policy"),
        ("Natshook-Subject", "orders.new"),
        ("Content-Type", "application/json"),
        ("X-Id", "7"),
    ] {
        assert_eq!(header(&answers[0], name).as_deref(), Some(value), "{name}");
    }
    assert!(header(&answers[0], "Nats-Msg-Id").unwrap().ends_with(":policy:reply"));
    assert_eq!(header(&answers[0], "X-Secret"), None);
    assert_eq!(header(&answers[0], "Natshook-Body"), None);
}

#[tokio::test]
async fn an_answer_on_a_subject_without_a_stream_reaches_whoever_listens() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().body("yes"));
    let more = "reply = { subject = \"answers\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    let mut answers = listen(&broker, "answers").await;
    broker.publish("a", "1").await;

    let answer = next(&mut answers).await;
    assert_eq!((&answer.payload[..], header_of(&answer, "Natshook-Status")), (&b"yes"[..], Some("200")));
    broker.wait_until_settled("policy").await;
    broker.publish("a", "2").await;
    next(&mut answers).await;
}

#[tokio::test]
async fn a_long_body_is_cut_and_says_so() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    make_stream(&broker, stream::Config::default()).await;
    receiver.next("/hook", [Answer::ok().body("12345678"), Answer::ok().body("123456789")]);
    let more = "concurrency = 1\nreply = { subject = \"answers.a\", max_body_bytes = 8 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more).target(
        "large",
        "b",
        &receiver.url("/large"),
        "reply = { subject = \"answers.b\", max_body_bytes = \"512KiB\" }",
    );
    receiver.always("/large", Answer::ok().body("x".repeat(300_000)));
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    broker.publish("a", "2").await;
    wait_for_answers(&broker, 2).await;
    broker.publish("b", "3").await;

    let answers = wait_for_answers(&broker, 3).await;
    let told: Vec<_> = answers.iter().map(|a| (a.payload.len(), header(a, "Natshook-Body"))).collect();
    let cut = "cut: the answer has more than these 8 bytes".to_owned();
    assert_eq!(told, [(8, None), (8, Some(cut)), (300_000, None)]);
}

#[tokio::test]
async fn an_answer_that_the_server_does_not_take_is_told_without_its_body() {
    let broker = Broker::start_with("max_payload: 16384", async_nats::ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    make_stream(&broker, stream::Config::default()).await;
    receiver.always("/hook", Answer::ok().body("x".repeat(20_000)));
    let target = |config: Config, name: &str, subject: &str| {
        config.target(name, "a", &receiver.url("/hook"), &format!("reply = {{ subject = {subject:?} }}"))
    };
    let config = target(target(Config::on(&broker), "stored", "answers.a"), "plain", "plain");
    let _connector = Connector::start(&config).await;
    let mut plain = listen(&broker, "plain").await;
    broker.publish("a", "1").await;

    let stored = &wait_for_answers(&broker, 1).await[0];
    let cut = "cut: the answer has more than these 0 bytes";
    assert_eq!((stored.payload.len(), header(stored, "Natshook-Body").as_deref()), (0, Some(cut)));
    let plain = next(&mut plain).await;
    assert_eq!((plain.payload.len(), header_of(&plain, "Natshook-Body")), (0, Some(cut)));
    assert_eq!(header_of(&plain, "Natshook-Status"), Some("200"));
}

#[tokio::test]
async fn only_what_settles_a_delivery_is_told_and_a_failure_only_where_it_is_wanted() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    make_stream(&broker, stream::Config::default()).await;
    let target = |config: Config, name: &str, on: &str| {
        let retry = "retry = { delays = [\"0s\"], jitter = 0 }";
        let more = format!("{retry}\nreply = {{ subject = \"answers.{name}\"{on} }}");
        config.target(name, "a", &receiver.url(&format!("/{name}")), &more)
    };
    for path in ["/quiet", "/all"] {
        receiver.next(path, [Answer::status(503).body("busy"), Answer::ok().body("fine")]);
        receiver.always(path, Answer::status(422).body("wrong"));
    }
    let config = target(target(Config::on(&broker), "quiet", ""), "all", ", on = \"answered\"");
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    wait_for_answers(&broker, 2).await;
    broker.publish("a", "2").await;
    broker.wait_for_dead_letters(2).await;

    let mut told: Vec<_> = wait_for_answers(&broker, 3)
        .await
        .iter()
        .map(|answer| {
            let body = String::from_utf8_lossy(&answer.payload).into_owned();
            (answer.subject.clone(), header(answer, "Natshook-Status").unwrap(), body)
        })
        .collect();
    told.sort();
    let expected = [("all", "200", "fine"), ("all", "422", "wrong"), ("quiet", "200", "fine")];
    assert_eq!(
        told,
        expected.map(|(name, status, body)| (format!("answers.{name}"), status.to_owned(), body.to_owned()))
    );
}

#[tokio::test]
async fn a_message_is_not_acked_before_its_answer_is_stored() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let limits =
        stream::Config { max_messages: 1, discard: stream::DiscardPolicy::New, ..Default::default() };
    make_stream(&broker, limits).await;
    let more = "reply = { subject = \"answers.a\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    wait_for_answers(&broker, 1).await;
    broker.wait_until_settled("policy").await;

    broker.publish("a", "2").await;
    connector.wait_for_line(&["ERROR", "cannot publish an answer", "policy"]).await;
    assert_eq!(broker.outstanding("EVENTS", "natshook-policy").await, Some((0, 1)), "it waits unacked");
    let (_, metrics) = connector.get("/metrics").await;
    let failures = "natshook_store_failures_total{target=\"policy\",to=\"reply\"}";
    assert!(metrics.contains(failures), "{metrics}");

    let context = broker.jetstream_context().await;
    context.get_stream(ANSWERS).await.unwrap().purge().await.unwrap();
    until("the second answer is stored", secs(40), async || broker.count(ANSWERS).await == 1).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 2, "no attempt is made twice for it");
}

#[tokio::test]
async fn a_crash_between_a_delivery_and_its_answer_loses_no_answer() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let limits =
        stream::Config { max_messages: 1, discard: stream::DiscardPolicy::New, ..Default::default() };
    make_stream(&broker, limits).await;
    let more = "reply = { subject = \"answers.a\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let mut connector = Connector::start(&config).await;
    broker.publish("answers.a", "fills the stream").await;
    receiver.always("/hook", Answer::ok().body("done"));
    broker.publish("a", "1").await;
    connector.wait_for_line(&["ERROR", "cannot publish an answer"]).await;

    connector.kill9();
    let context = broker.jetstream_context().await;
    context.get_stream(ANSWERS).await.unwrap().purge().await.unwrap();
    connector.restart().await;

    // The broker hands the message out again once its ack_wait of 20 s is over.
    until("the answer is stored", secs(60), async || broker.count(ANSWERS).await == 1).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.stored(ANSWERS).await[0].payload, b"done");
    assert_eq!(receiver.count("/hook"), 2, "at least once");
}

#[tokio::test]
async fn who_requests_on_a_core_subject_gets_the_receiver_s_answer() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().body("pong"));
    let config = core(&broker)
        .target("asked", "ask", &receiver.url("/hook"), "reply = {}")
        .target("told", "tell", &receiver.url("/hook"), "reply = { subject = \"answers\" }")
        .target("quiet", "quiet", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    let client = broker.client().await;

    for subject in ["ask", "tell"] {
        let answer = tokio::time::timeout(secs(15), client.request(subject, "ping".into())).await;
        let answer = answer.expect("in time").unwrap();
        assert_eq!((&answer.payload[..], header_of(&answer, "Natshook-Status")), (&b"pong"[..], Some("200")));
    }
    let mut answers = listen(&broker, "answers").await;
    client.publish("tell", "ping".into()).await.unwrap();
    assert_eq!(&next(&mut answers).await.payload[..], b"pong", "nobody waits, so it goes to the subject");

    let mut inbox = listen(&broker, "_INBOX.mine").await;
    client.publish_with_reply("quiet", "_INBOX.mine", "ping".into()).await.unwrap();
    client.publish("ask", "ping".into()).await.unwrap();
    client.flush().await.unwrap();
    receiver.wait_for("/hook", 5).await;
    let silent = tokio::time::timeout(secs(1), inbox.next()).await;
    assert!(silent.is_err(), "a target that is not told to tells nothing: {silent:?}");
}

#[tokio::test]
async fn no_publisher_makes_natshook_speak_to_the_server_to_itself_or_in_circles() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().body("pong"));
    let config = core(&broker).target("asked", "ask.>", &receiver.url("/hook"), "reply = {}");
    let connector = Connector::start(&config).await;
    let client = broker.client().await;
    let mut everything = listen(&broker, ">").await;
    let places = ["ask.again", "$JS.API.STREAM.DELETE.ORDERS", "natshook.control.status"];
    for place in places {
        client.publish_with_reply("ask.once", place, "ping".into()).await.unwrap();
        client.flush().await.unwrap();
    }

    connector.wait_for_line(&["WARN", "an answer goes nowhere"]).await;
    receiver.wait_for("/hook", places.len()).await;
    throughout("no delivery causes another", secs(1), async || receiver.count("/hook") == places.len()).await;
    let mut seen = Vec::new();
    while let Ok(Some(message)) = tokio::time::timeout(secs(1), everything.next()).await {
        seen.push(message.subject.to_string());
    }
    seen.retain(|subject| !subject.starts_with("_INBOX."));
    assert_eq!(seen, ["ask.once"; 3], "and nothing is published");
}
