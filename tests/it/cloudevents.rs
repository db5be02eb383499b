//! CloudEvents: what a message becomes, what it stays, and what the official SDK says of it, as receiver and as sender.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::broker::header;
use crate::support::receiver::Received;
use crate::support::signatures::v1_verifies;
use crate::support::tools::{python_libraries, tool};
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, secs, until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Two targets for `a`, one for each mode.
fn both(broker: &Broker, url: impl Fn(&str) -> String, more: &str) -> Config {
    let target = |config: Config, name: &str, format: &str| {
        config.target(name, "a", &url(&format!("/{name}")), &format!("format = {format:?}\n{more}"))
    };
    let config = target(Config::on(broker), "binary", "cloudevents-binary");
    target(config, "structured", "cloudevents-structured")
}

fn json_of(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn events_in_headers(request: &Received) -> Vec<String> {
    let headers = request.headers.iter().filter(|(name, _)| name.starts_with("ce-"));
    headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
}

#[tokio::test]
async fn a_message_that_is_no_event_becomes_one_on_every_attempt_the_same_and_signed() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/structured", [Answer::status(500)]);
    let more = format!(
        "signing = {{ secrets = [{SECRET:?}] }}\nretry = {{ delays = [\"0s\"], jitter = 0 }}\n\
         cloudevents = {{ source = \"/shops/{{{{ headers[\\\"X-Shop\\\"] }}}}\", type = \"com.example.{{{{ subject }}}}\" }}"
    );
    let config = both(&broker, |path| receiver.url(path), &more);
    let _connector = Connector::start(&config).await;
    let headers = [("Nats-Msg-Id", "order-1"), ("X-Shop", "7"), ("ce-id", "stray")];
    broker.publish_with_headers("a", &headers, "{\"n\": 1.10}").await;

    let binary = &receiver.wait_for("/binary", 1).await[0];
    let time = binary.header("ce-time").unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-31T08:00:00.123456Z".len(), "{time}");
    for (name, value) in [
        ("webhook-id", "order-1"),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "order-1"),
        ("ce-source", "/shops/7"),
        ("ce-type", "com.example.a"),
        ("ce-subject", "a"),
    ] {
        assert_eq!(binary.header_all(name), [value], "{name}");
    }
    assert_eq!(binary.body, b"{\"n\": 1.10}");

    let attempts = receiver.wait_for("/structured", 2).await;
    assert_eq!(attempts[0].body, attempts[1].body);
    for attempt in &attempts {
        assert!(v1_verifies(attempt, SECRET), "the body that is sent is what is signed");
        assert_eq!(events_in_headers(attempt), [""; 0]);
        assert_eq!(attempt.header("content-type").as_deref(), Some("application/cloudevents+json"));
        let event = json_of(attempt);
        assert_eq!((&event["id"], &event["type"]), (&json!("order-1"), &json!("com.example.a")));
        assert_eq!((&event["time"], &event["source"]), (&json!(time), &json!("/shops/7")));
        assert!(String::from_utf8_lossy(&attempt.body).contains("\"data\":{\"n\": 1.10}"), "digit for digit");
    }
}

#[tokio::test]
async fn a_message_that_is_an_event_keeps_its_attributes_in_either_mode() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let _connector = Connector::start(&both(&broker, |path| receiver.url(path), "concurrency = 1")).await;
    let text = "{ \"specversion\":\"1.0\", \"id\":\"e 1\", \"source\":\"/s\", \"type\":\"t\", \"n\":7, \"data\":[1.0] }";
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e%201"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-n", "7"),
        ("ce-datacontenttype", "application/json"),
    ];
    broker.publish_with_headers("a", &headers, "[1.0]").await;
    broker.publish_with_headers("a", &[("Content-Type", "application/cloudevents+json")], text).await;
    broker.publish("a", text).await;

    for request in receiver.wait_for("/binary", 3).await {
        let mut attributes = events_in_headers(&request);
        attributes.sort();
        assert_eq!(
            attributes,
            ["ce-id: e%201", "ce-n: 7", "ce-source: /s", "ce-specversion: 1.0", "ce-type: t"]
        );
        assert_eq!(request.header_all("content-type"), ["application/json"]);
        assert_eq!(request.body, b"[1.0]");
    }
    let structured = receiver.wait_for("/structured", 3).await;
    let mut made = json_of(&structured[0]);
    assert_eq!(made["n"], "7", "a header has no other type than text");
    made["n"] = json!(7);
    made.as_object_mut().unwrap().remove("datacontenttype");
    assert_eq!(made, serde_json::from_str::<Value>(text).unwrap());
    for request in &structured[1..] {
        assert_eq!(String::from_utf8_lossy(&request.body), text, "byte for byte");
    }
    let ids: Vec<_> = structured.iter().map(|request| request.header("webhook-id").unwrap()).collect();
    assert_eq!(ids, ["EVENTS-1", "EVENTS-2", "EVENTS-3"], "the webhook's id stays natshook's");
}

#[tokio::test]
async fn an_event_that_breaks_a_rule_is_the_data_of_a_new_one() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let _connector = Connector::start(&both(&broker, |path| receiver.url(path), "")).await;
    let text = "{\"specversion\":\"1.0\",\"source\":\"/s\",\"type\":\"t\"}";
    broker.publish_with_headers("a", &[("Content-Type", "application/cloudevents+json")], text).await;

    let structured = json_of(&receiver.wait_for("/structured", 1).await[0]);
    assert_eq!((&structured["id"], &structured["source"]), (&json!("EVENTS-1"), &json!("/natshook/EVENTS")));
    assert_eq!(structured["data"], serde_json::from_str::<Value>(text).unwrap());
    let binary = &receiver.wait_for("/binary", 1).await[0];
    assert_eq!(binary.header("content-type").as_deref(), Some("application/json"), "it is JSON and no event");
    assert_eq!((binary.header("ce-id").unwrap(), &binary.body[..]), ("EVENTS-1".to_owned(), text.as_bytes()));
}

#[tokio::test]
async fn a_message_that_lacks_what_an_attribute_needs_is_a_dead_letter_and_says_so() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let more = "format = \"cloudevents-binary\"\ncloudevents = { type = \"{{ payload.kind }}\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish("a", "{}").await;
    broker.publish("a", "{\"kind\":\"k\"}").await;

    let letters = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&letters[0], "Natshook-Reason").as_deref(), Some("transform_error"));
    let error = header(&letters[0], "Natshook-Last-Error").unwrap();
    assert!(error.contains("cloudevents.type: payload.kind is missing"), "{error}");
    assert_eq!(letters[0].payload, b"{}", "as it came");
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("ce-type").as_deref(), Some("k"));
}

#[tokio::test]
async fn without_a_format_a_message_passes_as_it_came() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).and("[defaults]\nformat = \"cloudevents-structured\"").target(
        "policy",
        "a",
        &receiver.url("/hook"),
        "format = \"raw\"",
    );
    let _connector = Connector::start(&config).await;
    broker.publish_with_headers("a", &[("ce-id", "1"), ("Content-Type", "text/plain")], "x").await;

    let seen = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!((events_in_headers(seen), &seen.body[..]), (vec!["ce-id: 1".to_owned()], &b"x"[..]));
    assert_eq!(seen.header("content-type").as_deref(), Some("text/plain"));
}

/// The receiver made of the official SDK; ended with its test.
struct SdkReceiver {
    child: Child,
    port: u16,
    out: std::path::PathBuf,
}

impl Drop for SdkReceiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fixture(name: &str) -> String {
    format!("{}/tests/it/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Python with the official SDK; `None` where it cannot be had.
fn python(program: &str) -> Option<Command> {
    let libraries = python_libraries()?;
    let mut command = Command::new(tool("python3")?);
    command.arg(fixture(program)).env("PYTHONPATH", libraries).stdin(Stdio::null());
    Some(command)
}

impl SdkReceiver {
    async fn start(broker: &Broker) -> Option<Self> {
        let (port, out) = (free_port(), broker.dir().join("cloudevents_receiver.out"));
        let stdout = std::fs::File::create(&out).unwrap();
        let child = python("cloudevents_receiver.py")?.arg(port.to_string()).stdout(stdout).spawn().unwrap();
        let receiver = Self { child, port, out };
        until("the receiver listens", secs(20), async || !receiver.said().is_empty()).await;
        Some(receiver)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn said(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the SDK read of the requests on `path`, once there are `n`.
    async fn read(&self, path: &str, n: usize) -> Vec<Value> {
        let of_path = || self.said().into_iter().filter(|said| said["path"] == path).collect::<Vec<_>>();
        until("the events have come", secs(20), async || of_path().len() >= n).await;
        of_path()
    }
}

#[tokio::test]
async fn the_official_sdk_reads_what_natshook_makes_of_messages() {
    let broker = Broker::start().await;
    let Some(receiver) = SdkReceiver::start(&broker).await else { return };
    let config = both(&broker, |path| receiver.url(path), "concurrency = 1");
    let _connector = Connector::start(&config).await;
    type Published<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);
    let messages: [Published<'_>; 5] = [
        (&[("Nats-Msg-Id", "ä 100% \"x\"")], b"{\"a\": [1, \"\xc3\xa9\"]}"),
        (&[("Content-Type", "text/csv")], b"a,b\n1,2"),
        (&[("Content-Type", "application/octet-stream")], b"\x00\xff"),
        (&[], b"\x01\xfe"),
        (&[], b""),
    ];
    for (headers, payload) in messages {
        broker.publish_with_headers("a", headers, payload).await;
    }

    let (binary, structured) = (receiver.read("/binary", 5).await, receiver.read("/structured", 5).await);
    let bytes = |text: &str| json!({ "base64": text });
    let octets = "application/octet-stream";
    let expected = [
        ("%C3%A4%20100%25%20\"x\"", Some("application/json"), json!({ "a": [1, "é"] })),
        ("EVENTS-2", Some("text/csv"), json!("a,b\n1,2")),
        ("EVENTS-3", Some(octets), bytes("AP8=")),
        ("EVENTS-4", Some(octets), bytes("Af4=")),
        ("EVENTS-5", None, Value::Null),
    ];
    for (read, mode) in [(binary, "binary"), (structured, "structured")] {
        for (event, (id, kind, data)) in read.iter().zip(&expected) {
            assert_eq!(event.get("refused"), None, "{mode}: {event}");
            let attributes = &event["attributes"];
            assert_eq!(attributes["id"], *id, "{mode}");
            assert_eq!(
                (&attributes["source"], &attributes["type"]),
                (&json!("/natshook/EVENTS"), &json!("a"))
            );
            assert_eq!((&attributes["subject"], &attributes["specversion"]), (&json!("a"), &json!("1.0")));
            assert!(attributes["time"].as_str().unwrap().ends_with("+00:00"), "the SDK read a time: {event}");
            // A request always has a content type, and the SDK takes it for the data's.
            if mode == "structured" || kind.is_some() {
                assert_eq!(attributes.get("datacontenttype").and_then(Value::as_str), *kind, "{mode} {id}");
            }
            assert_eq!(event["data"], *data, "{mode} {id}");
        }
    }
}

#[tokio::test]
async fn events_that_the_official_sdk_sends_through_nats_arrive_as_they_were() {
    let broker = Broker::start().await;
    let Some(receiver) = SdkReceiver::start(&broker).await else { return };
    let config = both(&broker, |path| receiver.url(path), "concurrency = 1");
    let _connector = Connector::start(&config).await;
    let Some(mut sender) = python("cloudevents_sender.py") else { return };
    let sent = tokio::task::spawn_blocking({
        let url = broker.url();
        move || sender.env("NATS_URL", url).output().unwrap()
    });
    let sent = sent.await.unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));

    let expected = [
        ("application/json", json!({ "order": 1, "names": ["é"] })),
        ("application/json", json!({ "order": 2 })),
        ("application/octet-stream", json!({ "base64": "AP8=" })),
        ("image/png", json!({ "base64": "AP8=" })),
        ("application/xml", json!("<order/>")),
    ];
    for path in ["/binary", "/structured"] {
        for (number, (event, (kind, data))) in receiver.read(path, 5).await.iter().zip(&expected).enumerate()
        {
            assert_eq!(
                event["attributes"],
                json!({
                    "specversion": "1.0",
                    "id": format!("sdk-{} 100%", number + 1),
                    "source": "https://shop.example/orders",
                    "type": "com.example.order",
                    "subject": "Käse \"5\"",
                    "time": "2024-02-29T12:00:00.250000+00:00",
                    "datacontenttype": kind,
                    "tenant": "a b",
                }),
                "{path}"
            );
            assert_eq!(event["data"], *data, "{path} {number}");
        }
    }
}
