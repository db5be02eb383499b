//! The stream of events itself, as it goes over the wire.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::receiver::Gate;
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs};

struct Events(TcpStream);

impl Events {
    async fn open(connector: &Connector, view: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", connector.admin_port)).await.unwrap();
        let request = format!("GET /events?{view} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// What comes within `span`, or until the stream ends.
    async fn read_for(&mut self, span: Duration) -> String {
        let mut seen = Vec::new();
        let _ = tokio::time::timeout(span, self.0.read_to_end(&mut seen)).await;
        String::from_utf8_lossy(&seen).into_owned()
    }
}

#[tokio::test]
async fn only_what_changed_is_sent_and_silence_is_kept_alive() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    let mut quiet = Events::open(&connector, "view=dead-letters").await;
    let mut busy = Events::open(&connector, "view=target&name=policy").await;

    let (quiet, seen) = tokio::join!(quiet.read_for(secs(13)), async {
        let first = busy.read_for(secs(3)).await;
        broker.publish("a", "1").await;
        receiver.wait_for("/hook", 1).await;
        (first, busy.read_for(secs(8)).await)
    });

    assert!(quiet.starts_with("HTTP/1.1 200") && quiet.contains("text/event-stream"), "{quiet}");
    assert_eq!(quiet.matches("event: fragment").count(), 1, "{quiet}");
    assert!(quiet.contains("\n:\n") || quiet.contains("\r\n:\n"), "a comment keeps it alive: {quiet}");
    let (first, then) = seen;
    for part in ["\"steering\"", "\"facts\"", "\"charts\"", "\"failures\""] {
        assert!(first.contains(part), "all parts come first: {first}");
    }
    assert!(then.contains("1 delivered"), "{then}");
    assert!(!then.contains("\"failures\""), "what did not change is not sent again: {then}");
}

#[tokio::test]
async fn streams_end_at_a_drain_and_unknown_pages_have_none() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let gate = Gate::closed();
    receiver.always("/hook", Answer::ok().behind(&gate));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    for view in ["view=target&name=nobody", "view=nothing", ""] {
        let status = connector.get(&format!("/events?{view}")).await.0;
        assert!(matches!(status, 400 | 404), "{view}: {status}");
    }
    let mut events = Events::open(&connector, "view=overview").await;
    broker.publish("a", "held").await;
    receiver.wait_for("/hook", 1).await;

    connector.signal("TERM");

    let asked = Instant::now();
    let seen = events.read_for(secs(10)).await;
    assert!(asked.elapsed() < secs(8), "it ended");
    assert!(seen.contains("target-policy"), "{seen}");
    assert!(connector.exited().is_none(), "natshook still drains");
    assert_eq!(connector.get("/events?view=overview").await.0, 503);
    gate.open();
    connector.wait_for_exit(secs(20)).await;
}
