//! From a hand-written forwarder to natshook and back, as docs/migration.md says: the programs that it shows, a real broker,
//! and somebody who goes on publishing all the while.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::stream;

use crate::support::broker::EVENTS;
use crate::support::connector::natshook_with;
use crate::support::tools::{python_libraries, tool};
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, signal, until};

/// The line that docs/migration.md adds to a forwarder without JetStream.
const ID_LINE: &str = "        \"webhook-id\": message.headers[\"Nats-Msg-Id\"],\n";

/// A running forwarder; ended with its test.
struct Forwarder(Child);

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Forwarder {
    /// Starts a program of docs/migration; `None` where Python or its libraries are missing.
    async fn start(broker: &Broker, program: &str, url: &str, durable: &str) -> Option<Self> {
        let libraries = python_libraries()?;
        let file = broker.dir().join("forwarder.py");
        let out = broker.dir().join("forwarder.out");
        std::fs::write(&file, program).unwrap();
        let child = Command::new(tool("python3")?)
            .arg(&file)
            .env("PYTHONPATH", libraries)
            .env("NATS_URL", broker.url())
            .env("ORDERS_URL", url)
            .env("ORDERS_TOKEN", "t0ken")
            .env("DURABLE", durable)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .spawn()
            .unwrap();
        let forwarder = Self(child);
        until("the forwarder forwards", secs(20), async || {
            std::fs::read_to_string(&out).is_ok_and(|text| text.contains("forwarding"))
        })
        .await;
        Some(forwarder)
    }

    /// SIGTERM, and its end.
    async fn stop(&mut self) {
        signal(self.0.id(), "TERM");
        until("the forwarder ends", secs(20), async || self.0.try_wait().unwrap().is_some()).await;
    }
}

fn program(name: &str) -> String {
    let path = format!("{}/docs/migration/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Publishes orders, each with an id, until it is told to stop.
struct Publisher {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Publisher {
    /// A plain NATS publish, as the services made it before there was a stream.
    async fn start(broker: &Broker) -> Self {
        let client = broker.client().await;
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&published));
        let task = tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("order-{n}"));
                client.publish_with_headers("orders.created", headers, n.to_string().into()).await.unwrap();
                client.flush().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(millis(5)).await;
            }
        });
        Self { stop, published, task }
    }

    fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    /// Waits until so many more are published.
    async fn publish_more(&self, n: usize) {
        let now = self.published();
        until("more is published", secs(20), async || self.published() >= now + n).await;
    }

    /// How many there are in all.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.published.load(Ordering::Relaxed)
    }
}

async fn make_stream(broker: &Broker) {
    let config = stream::Config {
        name: EVENTS.to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    broker.jetstream_context().await.create_stream(config).await.unwrap();
}

/// The sequence up to which a consumer has everything acked, and how many messages it has out.
async fn ack_floor(broker: &Broker, consumer: &str) -> (u64, usize) {
    let stream = broker.jetstream_context().await.get_stream(EVENTS).await.unwrap();
    let info = stream.consumer_info(consumer).await.unwrap();
    (info.ack_floor.stream_sequence, info.num_ack_pending)
}

async fn wait_for_distinct(receiver: &Receiver, n: usize) {
    until("every order has come", secs(30), async || {
        receiver.bodies("/orders").iter().collect::<HashSet<_>>().len() >= n
    })
    .await;
}

#[tokio::test]
async fn a_forwarder_without_jetstream_hands_over_and_every_order_comes_doubles_under_one_id() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/orders");
    let authorization = "        \"Authorization\": f\"Bearer {TOKEN}\",\n";
    let text = program("forwarder.py").replace(authorization, &format!("{authorization}{ID_LINE}"));
    assert!(text.contains(ID_LINE), "the line has its place in forwarder.py");
    let Some(mut forwarder) = Forwarder::start(&broker, &text, &url, "").await else { return };
    let publisher = Publisher::start(&broker).await;
    publisher.publish_more(50).await;

    // Paused before the first start: from here on the stream holds what is published.
    let more = "auth = { bearer = \"t0ken\" }\nretry = { delays = [\"1s\", \"5s\", \"30s\"] }";
    let config = Config::on(&broker).target("orders", "orders.>", &url, more);
    // Nothing of natshook is on the broker yet, so the pause makes its bucket.
    let paused = natshook_with(&config, &["targets", "pause", "orders"]).await;
    assert_eq!(paused.code, 0, "{}", paused.all());
    let _connector = Connector::start(&config).await;
    publisher.publish_more(50).await;
    let waiting = broker.outstanding(EVENTS, "natshook-orders").await.unwrap();
    assert!(waiting.0 > 0 && waiting.1 == 0, "orders wait in the stream: {waiting:?}");
    forwarder.stop().await;
    let by_forwarder = receiver.count("/orders");
    let resumed = natshook_with(&config, &["targets", "resume", "orders"]).await;
    assert_eq!(resumed.code, 0, "{}", resumed.all());

    publisher.publish_more(50).await;
    let published = publisher.stop().await;
    wait_for_distinct(&receiver, published).await;
    broker.wait_until_settled("orders").await;
    let mut bodies: HashMap<String, Vec<u8>> = HashMap::new();
    for request in receiver.at("/orders") {
        assert_eq!(request.header("authorization").as_deref(), Some("Bearer t0ken"));
        let id = request.header("webhook-id").unwrap();
        let body = bodies.entry(id.clone()).or_insert_with(|| request.body.clone());
        assert_eq!((*body == request.body, id), (true, format!("order-{}", String::from_utf8_lossy(body))));
    }
    assert_eq!(bodies.len(), published, "every order has come");
    assert!(receiver.count("/orders") < by_forwarder + published, "not everything came twice");
}

#[tokio::test]
async fn a_durable_forwarder_hands_over_and_gets_it_back_and_every_order_comes_exactly_once() {
    let broker = Broker::start().await;
    make_stream(&broker).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/orders");
    let text = program("forwarder_durable.py");
    let Some(mut forwarder) = Forwarder::start(&broker, &text, &url, "forwarder").await else { return };
    let publisher = Publisher::start(&broker).await;
    publisher.publish_more(50).await;

    // There: natshook begins behind what the forwarder has acked.
    forwarder.stop().await;
    let (floor, out) = ack_floor(&broker, "forwarder").await;
    assert!(floor > 0 && out == 0, "{floor} {out}");
    let more = format!("start = {}\nretry = {{ delays = [\"1s\", \"1s\"] }}", floor + 1);
    let config = Config::on(&broker).target("orders", "orders.>", &url, &more);
    let mut connector = Connector::start(&config).await;
    publisher.publish_more(50).await;

    // And back: the forwarder takes from natshook's consumer, beside natshook until nothing waits in the retry queue.
    receiver.next("/orders", [Answer::status(503)]);
    broker.wait_for_retries(1).await;
    let Some(mut forwarder) = Forwarder::start(&broker, &text, &url, "natshook-orders").await else { return };
    until("the retry queue is empty", secs(20), async || broker.count("NATSHOOK_RETRY").await == 0).await;
    connector.stop().await;
    publisher.publish_more(50).await;
    let published = publisher.stop().await;
    wait_for_distinct(&receiver, published).await;
    forwarder.stop().await;

    let requests = receiver.at("/orders");
    let refused = requests.len() - published;
    assert_eq!(refused, 1, "every order once, and the one that was refused once more");
    let ids: HashSet<String> = requests.iter().map(|request| request.header("webhook-id").unwrap()).collect();
    assert_eq!(ids.len(), published, "each order under one id, whoever sent it");
}

#[tokio::test]
async fn a_forwarder_and_natshook_share_one_consumer_and_no_order_comes_twice() {
    let broker = Broker::start().await;
    make_stream(&broker).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/orders");
    let config = Config::on(&broker).target("orders", "orders.>", &url, "concurrency = 1");
    let _connector = Connector::start(&config).await;
    let text = program("forwarder_durable.py");
    let Some(mut forwarder) = Forwarder::start(&broker, &text, &url, "natshook-orders").await else { return };
    let publisher = Publisher::start(&broker).await;
    publisher.publish_more(200).await;
    let published = publisher.stop().await;
    wait_for_distinct(&receiver, published).await;
    forwarder.stop().await;
    broker.wait_until_settled("orders").await;
    let by_natshook =
        receiver.at("/orders").iter().filter(|r| r.header("natshook-attempt").is_some()).count();
    assert_eq!(receiver.count("/orders"), published);
    assert!(by_natshook > 0 && by_natshook < published, "both took some: {by_natshook} of {published}");
}
