//! What a collector of traces gets, and what receivers and deliveries notice of it.

use crate::support::broker::header;
use crate::support::collector::{Seen, TRACES, spans, wait_for_spans};
use crate::support::faults::Fault;
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, secs, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A connector that sends its traces to a collector at `base`.
fn config(broker: &Broker, base: &str, more: &str) -> Config {
    Config::on(broker).and(&format!("[telemetry]\notlp_endpoint = {base:?}\n{more}"))
}

/// The only one of `seen` for which `holds`.
fn only<'a>(seen: &'a [Seen], what: &str, holds: impl Fn(&Seen) -> bool) -> &'a Seen {
    let found: Vec<_> = seen.iter().filter(|seen| holds(seen)).collect();
    assert_eq!(found.len(), 1, "{what}: {seen:#?}");
    found[0]
}

#[tokio::test]
async fn a_message_s_trace_goes_on_through_the_delivery_and_its_attempt_to_the_webhook() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    let config = config(&broker, &collector.url(""), "").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook?key=s3cret"),
        "",
    );
    let _connector = Connector::start(&config).await;

    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("Traceparent", parent.as_str()), ("tracestate", "vendor=1"), ("Nats-Msg-Id", "policy-7")];
    let sequence = broker.publish_with_headers("PolicyUpdated", &headers, "body-s3cret").await;

    let seen = wait_for_spans(&collector, 2).await;
    let delivery = only(&seen, "a delivery", |seen| seen.span.name == "deliver policy");
    assert_eq!((delivery.trace().as_str(), delivery.parent().as_str()), (TRACE, SPAN));
    assert_eq!(delivery.span.kind, 5, "consumer");
    for (key, value) in [
        ("messaging.system", "nats"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "PolicyUpdated"),
        ("messaging.message.id", "policy-7"),
        ("messaging.message.body.size", "11"),
        ("natshook.target", "policy"),
        ("natshook.stream", "EVENTS"),
        ("natshook.sequence", &sequence.to_string()),
        ("natshook.disposition", "ack"),
    ] {
        assert_eq!(delivery.attribute(key).as_deref(), Some(value), "{key}");
    }
    let attempt = only(&seen, "an attempt", |seen| seen.span.name == "POST");
    assert_eq!((attempt.trace().as_str(), attempt.parent()), (TRACE, delivery.id()));
    assert_eq!(attempt.span.kind, 3, "client");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("server.port", &receiver.port.to_string()),
        ("natshook.target", "policy"),
        ("natshook.attempt", "1"),
    ] {
        assert_eq!(attempt.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert!(!delivery.failed() && !attempt.failed());
    assert_eq!(delivery.sender("service.name").as_deref(), Some("natshook"));
    assert_eq!(delivery.sender("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(delivery.sender("natshook.name").as_deref(), Some("natshook"));
    assert!(delivery.sender("service.instance.id").is_some_and(|id| id.len() == 32));
    assert!(!format!("{seen:?}").contains("s3cret"), "{seen:?}");

    let request = &receiver.wait_for("/hook?key=s3cret", 1).await[0];
    assert_eq!(request.header("traceparent"), Some(format!("00-{TRACE}-{}-01", attempt.id())));
    assert_eq!(request.header("tracestate").as_deref(), Some("vendor=1"));
}

#[tokio::test]
async fn all_attempts_of_a_delivery_are_one_trace_also_after_a_restart() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    receiver.next("/hook", [Answer::status(503)]);
    let config = config(&broker, &collector.url("/"), "").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "retry = { delays = [\"2s\"], jitter = 0 }",
    );
    let mut first = Connector::start(&config).await;
    broker.publish("PolicyUpdated", "1").await;
    broker.wait_for_retries(1).await;
    first.stop().await;
    assert_eq!(spans(&collector).len(), 2, "the last spans are sent before natshook ends");

    let mut second = Connector::start(&config).await;
    receiver.wait_for("/hook", 2).await;
    broker.wait_until_settled("policy").await;
    second.stop().await;

    let seen = spans(&collector);
    let [delivery, attempt, retry, second_attempt] = &seen[..] else { panic!("{seen:#?}") };
    assert!(seen.iter().all(|seen| seen.trace() == delivery.trace()), "{seen:#?}");
    assert_eq!([delivery.parent(), attempt.parent()], [String::new(), delivery.id()]);
    assert_eq!([retry.parent(), second_attempt.parent()], [delivery.id(), retry.id()]);
    assert!(delivery.failed() && attempt.failed() && !retry.failed() && !second_attempt.failed());
    assert_eq!(delivery.attribute("natshook.disposition").as_deref(), Some("retry"));
    assert_eq!(attempt.attribute("error.type").as_deref(), Some("503"));
    assert_eq!(second_attempt.attribute("natshook.attempt").as_deref(), Some("2"));
    assert_ne!(delivery.sender("service.instance.id"), retry.sender("service.instance.id"));
    let carried =
        receiver.received().iter().map(|request| request.header("traceparent").unwrap()).collect::<Vec<_>>();
    let expected = [attempt, second_attempt].map(|seen| format!("00-{}-{}-01", seen.trace(), seen.id()));
    assert_eq!(carried, expected);
}

#[tokio::test]
async fn what_is_given_up_says_why_and_its_dead_letter_names_the_trace() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    receiver.always("/hook", Answer::status(400));
    let dead = free_port();
    let config = config(&broker, &collector.url(""), "")
        .target("refuses", "a", &receiver.url("/hook"), "")
        .target("large", "b", &receiver.url("/hook"), "max_payload_bytes = 1")
        .target("down", "c", &format!("http://127.0.0.1:{dead}/"), "retry = { delays = [], jitter = 0 }");
    let _connector = Connector::start(&config).await;
    broker.publish("a", "11").await;
    broker.publish("b", "11").await;
    broker.publish("c", "11").await;

    let seen = wait_for_spans(&collector, 5).await;
    let letters = broker.wait_for_dead_letters(3).await;
    for (target, reason) in
        [("refuses", "permanent_status"), ("large", "message_too_large"), ("down", "attempts_exhausted")]
    {
        let delivery = only(&seen, target, |seen| seen.span.name == format!("deliver {target}"));
        assert!(delivery.failed(), "{target}");
        assert_eq!(delivery.attribute("natshook.disposition").as_deref(), Some("dead_letter"));
        assert_eq!(delivery.attribute("error.type").as_deref(), Some(reason));
        let letter = letters.iter().find(|letter| letter.subject.ends_with(target)).expect(target);
        let named = format!("00-{}-{}-01", delivery.trace(), delivery.id());
        assert_eq!(header(letter, "Natshook-Trace"), Some(named));
    }
    let down = only(&seen, "down", |seen| {
        seen.span.kind == 3 && seen.attribute("natshook.target").as_deref() == Some("down")
    });
    assert_eq!(down.attribute("error.type").as_deref(), Some("connection_refused"));
    assert_eq!(down.attribute("http.response.status_code"), None);
    assert!(down.span.status.as_ref().is_some_and(|status| status.message.contains("refused")), "{down:?}");
}

#[tokio::test]
async fn what_is_not_recorded_is_not_sent_and_receivers_are_told() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    receiver.next("/hook", [Answer::status(503), Answer::status(503)]);
    let config = config(&broker, &collector.url(""), "sample_ratio = 0.0").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "retry = { delays = [\"1s\"], jitter = 0 }",
    );
    let mut connector = Connector::start(&config).await;
    let unrecorded = format!("00-{TRACE}-{SPAN}-00");
    broker.publish_with_headers("PolicyUpdated", &[("traceparent", &unrecorded)], "unrecorded").await;
    receiver.wait_for("/hook", 1).await;
    broker.publish("PolicyUpdated", "begins here").await;
    receiver.wait_for("/hook", 4).await;
    let recorded = format!("00-{TRACE}-{SPAN}-01");
    broker.publish_with_headers("PolicyUpdated", &[("traceparent", &recorded)], "recorded").await;
    receiver.wait_for("/hook", 5).await;
    broker.wait_until_settled("policy").await;
    connector.stop().await;

    let seen = spans(&collector);
    assert_eq!(seen.len(), 2, "the recorded one: {seen:#?}");
    assert!(seen.iter().all(|seen| seen.trace() == TRACE));
    let carried = |body: &str| {
        let of_body = receiver.received().into_iter().filter(|request| request.body == body.as_bytes());
        of_body.map(|request| request.header("traceparent").expect("one")).collect::<Vec<_>>()
    };
    let unrecorded = carried("unrecorded");
    assert_eq!(unrecorded.len(), 2);
    assert!(
        unrecorded.iter().all(|carried| carried.contains(TRACE) && carried.ends_with("-00")),
        "{unrecorded:?}"
    );
    let begun = carried("begins here");
    assert_eq!(begun.len(), 2);
    assert!(
        begun.iter().all(|carried| carried[..35] == begun[0][..35] && carried.ends_with("-00")),
        "{begun:?}"
    );
}

#[tokio::test]
async fn the_collector_gets_the_headers_that_it_asks_for_and_nobody_else_sees_them() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    let port = collector.port;
    let base = format!("http://user:pa%24s@127.0.0.1:{port}/otel?tenant=t-4901");
    let more = "otlp_headers = { \"x-api-key\" = { env = \"OTLP_KEY\" } }";
    let config = config(&broker, &base, more).target("policy", "PolicyUpdated", &receiver.url("/hook"), "");
    let env = [("OTLP_KEY", "otlp-key-4902"), ("RUST_LOG", "trace")];
    let mut connector = Connector::start_with(&config, &env).await;
    broker.publish("PolicyUpdated", "1").await;
    let path = "/otel/v1/traces?tenant=t-4901";
    let request = collector.wait_for(path, 1).await.remove(0);
    collector.always(path, Answer::status(401).body("otlp-key-4902"));
    broker.publish("PolicyUpdated", "2").await;
    connector.wait_for_line(&["spans are lost", "401"]).await;
    connector.stop().await;

    assert_eq!(request.header("x-api-key").as_deref(), Some("otlp-key-4902"));
    assert_eq!(request.header("authorization").as_deref(), Some("Basic dXNlcjpwYSRz"));
    assert_eq!(request.header("content-type").as_deref(), Some("application/x-protobuf"));
    let told = connector.output();
    for secret in ["otlp-key-4902", "pa$s", "pa%24s", "dXNlcjpwYSRz", "t-4901"] {
        assert!(!told.contains(secret), "{secret} shows:\n{told}");
    }
    let carried = format!("{:?}", receiver.received());
    assert!(!carried.contains("otlp-key-4902"), "{carried}");
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_two_lines() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let port = free_port();
    let config = config(&broker, &format!("http://127.0.0.1:{port}"), "").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "",
    );
    let mut connector = Connector::start(&config).await;
    broker.publish_numbered("PolicyUpdated", 0..2_000).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 2_000);
    connector.wait_for_line(&["spans are lost", "refused"]).await;

    let collector = Receiver::start_on(port, None).await;
    let published = std::cell::Cell::new(0);
    until("the collector is seen to be back", secs(40), async || {
        broker.publish("PolicyUpdated", "again").await;
        published.set(published.get() + 1);
        connector.output().contains("the collector takes spans again")
    })
    .await;
    broker.wait_until_settled("policy").await;
    connector.stop().await;
    let told = connector.output();
    let about_it = told.lines().filter(|line| line.contains("spans") || line.contains("collector")).count();
    assert_eq!(about_it, 2, "{told}");
    let over =
        told.lines().find(|line| line.contains("the collector takes spans again")).expect("it is there");
    let over: serde_json::Value = serde_json::from_str(over).expect("a line of JSON");
    let lost = over["lost"].as_u64().expect("a number") as usize;
    assert!(lost > 0);
    assert_eq!(
        spans(&collector).len() + lost,
        2 * (2_000 + published.get()),
        "each was sent or counted as lost"
    );
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_neither_deliveries_nor_the_end() {
    let (broker, receiver, collector) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    collector.always(TRACES, Answer::fault(Fault::NeverAnswer));
    let config =
        config(&broker, &collector.url(""), "").target("policy", "PolicyUpdated", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    let before = connector.peak_memory_mib();
    for thousand in 0..8 {
        broker.publish_numbered("PolicyUpdated", thousand * 1_000..(thousand + 1) * 1_000).await;
    }
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 8_000);
    connector.wait_for_line(&["spans are lost"]).await;
    let grown = connector.peak_memory_mib() - before;
    assert!(grown < 64, "{grown} MiB more");

    let began = std::time::Instant::now();
    connector.stop().await;
    assert!(began.elapsed() < secs(8), "{:?}", began.elapsed());
    let told = connector.output();
    assert_eq!(told.matches("spans are lost").count(), 1, "{told}");
    let last = told.lines().find(|line| line.contains("has not taken all spans")).expect("it is there");
    let last: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
    assert_eq!(last["lost"], 16_000, "two for each delivery");
}

#[tokio::test]
async fn a_collector_behind_tls_is_reached_when_its_authority_is_trusted_and_only_then() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let certs = crate::support::certs::Certs::in_folder(broker.dir());
    let collector = Receiver::start_tls(certs.server_config()).await;
    let config =
        config(&broker, &collector.url(""), "").target("policy", "PolicyUpdated", &receiver.url("/hook"), "");
    let mut mistrusting = Connector::start(&config).await;
    broker.publish("PolicyUpdated", "1").await;
    mistrusting.wait_for_line(&["spans are lost", "tls: "]).await;
    mistrusting.stop().await;
    assert_eq!(spans(&collector).len(), 0);

    let trusted = certs.ca.to_string_lossy();
    let _connector = Connector::start_with(&config, &[("SSL_CERT_FILE", &trusted)]).await;
    broker.publish("PolicyUpdated", "2").await;
    wait_for_spans(&collector, 2).await;
}

#[tokio::test]
async fn with_core_nats_all_attempts_of_a_delivery_are_in_one_span() {
    let (broker, receiver, collector) =
        (Broker::start_without_jetstream().await, Receiver::start().await, Receiver::start().await);
    receiver.next("/hook", [Answer::status(503)]);
    let config = config(&broker, &collector.url(""), "").top("source = \"core\"").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "retry = { delays = [\"1s\", \"1h\"], jitter = 0 }",
    );
    let mut connector = Connector::start(&config).await;
    let client = broker.client().await;
    client.publish("PolicyUpdated", "1".into()).await.unwrap();
    client.flush().await.unwrap();
    receiver.wait_for("/hook", 2).await;
    let seen = wait_for_spans(&collector, 3).await;
    let delivery = only(&seen, "a delivery", |seen| seen.span.kind == 5);
    assert_eq!(delivery.attribute("natshook.disposition").as_deref(), Some("ack"));
    let attempts: Vec<_> = seen.iter().filter(|seen| seen.span.kind == 3).collect();
    assert!(attempts.iter().all(|attempt| attempt.parent() == delivery.id()), "{seen:#?}");
    assert_eq!(attempts.iter().map(|attempt| attempt.failed()).collect::<Vec<_>>(), [true, false]);

    receiver.always("/hook", Answer::status(503));
    client.publish("PolicyUpdated", "2".into()).await.unwrap();
    client.publish("PolicyUpdated", "3".into()).await.unwrap();
    client.flush().await.unwrap();
    receiver.wait_for("/hook", 4).await;
    connector.stop().await;
    let given_up = spans(&collector).into_iter().filter(|seen| seen.span.kind == 5 && seen.failed());
    let reasons: Vec<_> = given_up.map(|seen| seen.attribute("error.type").expect("one")).collect();
    assert_eq!(reasons, ["shut_down", "shut_down"], "nobody else has them");
}
