//! By what messages are told apart, and that the keys do not wait for each other.

use async_nats::jetstream;
use futures_util::StreamExt;

use super::{AT_ONCE, arrivals, assert_in_order, publish_each, subject, subjects, wait_for_last};
use crate::support::broker::DEAD_LETTERS;
use crate::support::receiver::Received;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs};

#[tokio::test]
async fn a_failing_message_holds_back_those_of_its_subject_and_no_others() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.judge("/hook", |request| {
        let failing = subject(request) == "orders.0";
        let healed = request.header("natshook-attempt").is_some_and(|n| n.parse::<u32>().unwrap() > 3);
        if failing && !healed { Answer::status(500) } else { Answer::ok() }
    });
    let more = format!("order = \"subject\"\n{AT_ONCE}");
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), &more);
    let _connector = Connector::start(&config).await;
    let subjects = subjects(5);
    publish_each(&broker, &subjects, 0..40).await;

    wait_for_last(&receiver, "/hook", &subjects, 39, 30).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects, 40);
    let arrived = arrivals(&receiver, "/hook");
    assert_eq!(arrived["orders.0"].len(), 4 * 40, "each of them needed four attempts");
    assert_eq!(arrived["orders.1"].len(), 40);
    let requests = receiver.at("/hook");
    let is_failing = |r: &&Received| subject(r) == "orders.0";
    let last_of_others = requests.iter().rposition(|r| !is_failing(&r)).unwrap();
    let of_failing = requests[..last_of_others].iter().filter(is_failing).count();
    assert!(of_failing < 80, "the others did not wait for it: {of_failing}");
}

#[tokio::test]
async fn all_messages_of_a_target_can_be_in_one_line() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::ok(), Answer::status(503)]);
    receiver.always("/hook", Answer::ok().after(millis(2)));
    let more = format!("order = \"target\"\n{AT_ONCE}");
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), &more);
    let _connector = Connector::start(&config).await;
    publish_each(&broker, &subjects(1), 0..100).await;

    receiver.wait_for("/hook", 101).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects(1), 100);
    assert_eq!(receiver.most_in_flight("/hook"), 1);
}

#[tokio::test]
async fn a_token_or_a_header_can_be_the_key_and_what_has_none_is_in_one_line() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    for path in ["/token", "/header"] {
        receiver.always(path, Answer::ok().after(millis(30)));
    }
    let config = Config::on(&broker)
        .target("token", "a.>", &receiver.url("/token"), "order = { token = 2 }")
        .target("header", "a.>", &receiver.url("/header"), "order = { header = \"key\" }");
    let _connector = Connector::start(&config).await;
    for number in 0..10 {
        for key in ["x", "y"] {
            let subject = format!("a.{key}.{number}");
            broker.publish_with_headers(&subject, &[("Key", "one")], number.to_string()).await;
        }
    }
    for path in ["/token", "/header"] {
        receiver.wait_for(path, 20).await;
    }
    assert_eq!(receiver.most_in_flight("/token"), 2);
    assert_eq!(receiver.most_in_flight("/header"), 1);
    broker.wait_until_settled("header").await;
    for number in 20..30 {
        broker.publish(&format!("a.x.{number}"), "1").await;
    }
    receiver.wait_for("/header", 30).await;
    assert_eq!(receiver.most_in_flight("/header"), 1, "those without the header are in one line");
}

#[tokio::test]
async fn after_a_dead_letter_its_line_goes_on() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.judge("/hook", |request| match &*request.body {
        b"3" => Answer::status(500),
        b"5" => Answer::status(422),
        _ => Answer::ok(),
    });
    let more = "order = \"subject\"\nretry = { delays = [\"100ms\", \"100ms\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    publish_each(&broker, &subjects(1), 0..10).await;

    let letters = broker.wait_for_dead_letters(2).await;
    wait_for_last(&receiver, "/hook", &subjects(1), 9, 20).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(arrivals(&receiver, "/hook")["orders.0"], [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9]);
    let reasons: Vec<_> = letters.iter().flat_map(|letter| letter.header_all("Natshook-Reason")).collect();
    assert_eq!(reasons, ["attempts_exhausted", "permanent_status"]);
    assert_eq!(broker.count(DEAD_LETTERS).await, 2);
}

#[tokio::test]
async fn what_is_too_large_to_be_parked_holds_its_line_from_memory() {
    let broker = Broker::start_with("max_payload: 100000", async_nats::ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500), Answer::status(500)]);
    let more = format!("order = \"subject\"\n{AT_ONCE}");
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), &more);
    let _connector = Connector::start(&config).await;
    broker.publish("orders.0", vec![b'0'; 99_000]).await;
    broker.publish("orders.0", "1").await;

    let received = receiver.wait_for("/hook", 4).await;
    let lengths: Vec<usize> = received.iter().map(|request| request.body.len()).collect();
    assert_eq!(lengths, [99_000, 99_000, 99_000, 1]);
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn what_somebody_else_takes_from_the_consumer_is_waited_for() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.always("/hook", Answer::ok().after(millis(10)));
    let config = Config::on(&broker).target(
        "policy",
        "orders.>",
        &receiver.url("/hook"),
        "order = \"subject\"\nconcurrency = 4",
    );
    let connector = Connector::start(&config).await;
    let subjects = subjects(8);
    publish_each(&broker, &subjects, 0..200).await;
    receiver.wait_for("/hook", 100).await;

    let stream = broker.jetstream_context().await.get_stream("EVENTS").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = stream.get_consumer("natshook-policy").await.unwrap();
    let mut taken = consumer.fetch().max_messages(3).expires(secs(5)).messages().await.unwrap();
    let mut stolen = 0;
    while let Some(message) = taken.next().await {
        message.unwrap();
        stolen += 1;
    }
    assert!(stolen > 0 && receiver.count("/hook") < 8 * 200, "taken from the middle: {stolen}");

    wait_for_last(&receiver, "/hook", &subjects, 199, 60).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects, 200);
    connector.wait_for_line(&["handed out elsewhere"]).await;
}
