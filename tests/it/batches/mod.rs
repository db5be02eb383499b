//! Batches: when one goes, what it says, what becomes of its members, and what crashes and drains do to it.

mod answers;
mod config;
mod ends;
mod load;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::receiver::Received;
use crate::support::signatures::v1_verifies;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, natshook_in, secs, throughout};

/// One target `policy` on subjects `a` and `b` with `batch`, and a running connector for it.
async fn batching(batch: &str, more: &str) -> (Broker, Receiver, Config, Connector) {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = config_for(&broker, &receiver, batch, more);
    let connector = Connector::start(&config).await;
    (broker, receiver, config, connector)
}

fn config_for(broker: &Broker, receiver: &Receiver, batch: &str, more: &str) -> Config {
    Config::on(broker).target("policy", "a, b", &receiver.url("/hook"), &format!("batch = {batch}\n{more}"))
}

/// The messages of a batch that is a JSON array of numbers.
fn numbers(request: &Received) -> Vec<u64> {
    serde_json::from_slice(&request.body).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

fn all_numbers(requests: &[Received]) -> Vec<u64> {
    let mut all: Vec<u64> = requests.iter().flat_map(numbers).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_batch_goes_when_it_has_as_many_as_it_may() {
    let (broker, receiver, _, _connector) = batching("{ max_messages = 3, max_wait = \"60s\" }", "").await;

    broker.publish_numbered("a", 0..7).await;

    let seen = receiver.wait_for("/hook", 2).await;
    // Both are under way at the same time.
    let batches = BTreeSet::from([numbers(&seen[0]), numbers(&seen[1])]);
    assert_eq!(batches, BTreeSet::from([vec![0, 1, 2], vec![3, 4, 5]]));
    broker.publish_numbered("a", 7..9).await;
    let seen = receiver.wait_for("/hook", 3).await;
    assert_eq!(numbers(&seen[2]), [6, 7, 8], "the seventh waited for others");
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_batch_goes_before_its_body_is_larger_than_it_may_be() {
    let batch = "{ max_messages = 100, max_bytes = \"1KiB\", max_wait = \"60s\" }";
    let (broker, receiver, _, _connector) = batching(batch, "").await;

    for _ in 0..4 {
        broker.publish("a", format!("\"{}\"", "x".repeat(300))).await;
    }
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("natshook-batch-size").as_deref(), Some("3"));
    assert_eq!(seen[0].body.len(), 3 * 302 + 4);

    broker.publish("a", format!("\"{}\"", "y".repeat(2_000))).await;
    let seen = receiver.wait_for("/hook", 3).await;
    let sizes: Vec<_> = seen.iter().map(|request| request.header("natshook-batch-size").unwrap()).collect();
    assert_eq!(sizes, ["3", "1", "1"], "what is larger than a batch goes alone, and nobody waits for it");
}

#[tokio::test]
async fn a_batch_goes_when_its_first_message_has_waited_long_enough() {
    let (broker, receiver, _, _connector) = batching("{ max_wait = \"700ms\" }", "").await;

    let published = std::time::Instant::now();
    broker.publish_numbered("a", 0..2).await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(numbers(&seen[0]), [0, 1]);
    let waited = seen[0].at - published;
    assert!(waited >= millis(700) && waited < secs(3), "{waited:?}");
}

#[tokio::test]
async fn nothing_is_acked_before_the_2xx_and_then_everything_is() {
    let (broker, receiver, _, _connector) = batching("{ max_messages = 5, max_wait = \"60s\" }", "").await;
    let gate = crate::support::receiver::Gate::closed();
    receiver.always("/hook", Answer::ok().behind(&gate));

    broker.publish_numbered("a", 0..5).await;

    receiver.wait_for("/hook", 1).await;
    let unacked = async || broker.outstanding("EVENTS", "natshook-policy").await == Some((0, 5));
    throughout("all five wait for their ack", millis(500), unacked).await;
    gate.open();
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 1);
}

#[tokio::test]
async fn a_batch_says_who_is_in_it_and_is_signed_as_one() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let more = format!(
        "signing = {{ secrets = [{SECRET:?}] }}\nheaders = {{ \"X-Source\" = \"hms\" }}\npass_headers = \"X-Tenant\""
    );
    let (broker, receiver, _, _connector) = batching("{ max_messages = 2, max_wait = \"60s\" }", &more).await;
    let headers = [("Nats-Msg-Id", "first"), ("X-Tenant", "7"), ("Content-Type", "text/csv")];
    broker.publish_with_headers("a", &headers, " {\"n\": 1.10000000000000000001}\n").await;
    broker.publish_with_headers("a", &headers[1..], "[\n1\n]").await;

    let first = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!(first.body, b"[{\"n\": 1.10000000000000000001},[\n1\n]]", "payloads go as they were written");
    assert!(v1_verifies(first, SECRET));
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("natshook-batch-size", Some("2")),
        ("natshook-batch-ids", Some("first EVENTS-2")),
        ("natshook-subject", Some("a")),
        ("natshook-attempt", Some("1")),
        ("x-source", Some("hms")),
        ("x-tenant", None),
    ] {
        assert_eq!(first.header(name).as_deref(), value, "{name}");
    }
    assert!(first.header("webhook-id").unwrap().starts_with("batch-"));

    broker.publish("a", "1").await;
    broker.publish("b", "2").await;
    let second = &receiver.wait_for("/hook", 2).await[1];
    assert_eq!(second.header("natshook-subject"), None, "two subjects");
    assert_ne!(second.header("webhook-id"), first.header("webhook-id"));
}

#[tokio::test]
async fn ndjson_is_a_message_a_line() {
    let batch = "{ max_messages = 2, max_wait = \"60s\", as = \"ndjson\" }";
    let (broker, receiver, _, _connector) = batching(batch, "").await;

    broker.publish("a", "{\r\n  \"n\": 18446744073709551617\n}").await;
    broker.publish("a", "\"a\\nb\"").await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].body, b"{  \"n\": 18446744073709551617}\n\"a\\nb\"\n");
    assert_eq!(seen[0].header("content-type").as_deref(), Some("application/x-ndjson"));
}

#[tokio::test]
async fn a_batch_of_cloudevents_holds_events_that_came_and_events_that_were_made() {
    let batch = "{ max_messages = 3, max_wait = \"60s\", as = \"cloudevents-batch\" }";
    let (broker, receiver, _, _connector) = batching(batch, "").await;
    let own = [("ce-specversion", "1.0"), ("ce-id", "mine"), ("ce-source", "/s"), ("ce-type", "t")];

    broker.publish_with_headers("a", &own, "{\"n\":1}").await;
    broker.publish("b", "{\"n\":2}").await;
    broker.publish("b", "no JSON").await;

    let request = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!(request.header("content-type").as_deref(), Some("application/cloudevents-batch+json"));
    let events: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
    let shown = |event: &Value| format!("{} {} {}", event["id"], event["type"], event["source"]);
    assert_eq!(shown(&events[0]), r#""mine" "t" "/s""#);
    assert_eq!(shown(&events[1]), r#""EVENTS-2" "b" "/natshook/EVENTS""#);
    assert_eq!((&events[0]["data"]["n"], &events[1]["data"]["n"]), (&1.into(), &2.into()));
    assert!(events[2]["data_base64"].is_string(), "what is not JSON is data as well: {}", events[2]);
}

#[tokio::test]
async fn what_a_target_makes_of_messages_is_what_its_batches_hold() {
    let batch = "{ max_messages = 2, max_wait = \"60s\" }";
    let more = "filter = \"payload.n > 1\"\ntransform = \"{id: .n}\"";
    let (broker, receiver, _, _connector) = batching(batch, more).await;

    for n in 1..=3 {
        broker.publish("a", format!("{{\"n\":{n}}}")).await;
    }

    let request = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!(request.body, b"[{\"id\":2},{\"id\":3}]");
    assert_eq!(request.header("natshook-batch-ids").as_deref(), Some("EVENTS-2 EVENTS-3"));
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn events_of_a_batch_have_the_source_and_type_that_the_target_gives_them() {
    let batch = "{ max_messages = 2, max_wait = \"60s\", as = \"cloudevents-batch\" }";
    let more = "format = \"cloudevents-structured\"\ncloudevents = { source = \"/shop\", type = \"com.shop.{{ subject }}\" }";
    let (broker, receiver, _, _connector) = batching(batch, more).await;

    broker.publish("a", "1").await;
    broker.publish("b", "2").await;

    let request = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!(request.header("content-type").as_deref(), Some("application/cloudevents-batch+json"));
    let events: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&events[0]["source"], &events[1]["type"]), (&"/shop".into(), &"com.shop.b".into()));
}

#[tokio::test]
async fn a_test_request_to_a_target_is_a_batch_of_one() {
    let receiver = Receiver::start().await;
    let config = Config::offline().target("policy", "a", &receiver.url("/hook"), "batch = {}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natshook.toml");
    std::fs::write(&file, config.text()).unwrap();
    let file = file.to_string_lossy();

    let sent = natshook_in(&["send", "policy", "--config", &file], &[]).await;

    assert_eq!(sent.code, 0, "{}", sent.all());
    let request = &receiver.received()[0];
    let body: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((body.len(), request.header("natshook-batch-size").as_deref()), (1, Some("1")));
    let refused = natshook_in(&["send", "policy", "--data", "plain", "--config", &file], &[]).await;
    assert!(refused.code == 1 && refused.all().contains("(not_json)"), "{}", refused.all());
}
