//! Receivers that misbehave: whatever one does, each attempt has the right outcome within a bounded time, with
//! bounded memory, and the others notice nothing.

mod answers;
mod connections;
mod h2;
mod keep_alive;

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;

use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE, Stored, header};
use crate::support::{Broker, Config, Connector, certs::Certs, secs, until};

/// How long an attempt of these targets takes at most.
const TIMEOUT: Duration = secs(1);
/// From the publishing of a message to its settling, when everything goes wrong: the timeout, and what the
/// broker, a debug build and a busy machine take.
const BOUND: Duration = secs(5);

/// What the attempts of one test may add to natshook's memory, in MiB. What receivers offer is gigabytes.
const MEMORY_MIB: u64 = 16;

/// What becomes of a message.
#[derive(Debug, Clone)]
enum Expected {
    /// Delivered by its first attempt.
    Delivered,
    /// The receiver's answer is the outcome.
    Answered(u16),
    /// No answer came; the dead letter's error begins with the first, which is the kind of the fault, and holds
    /// the others.
    Broken(&'static [&'static str]),
}

/// One target and what becomes of the message that is published to it.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    url: String,
    expected: Expected,
    payload: usize,
}

impl Case {
    fn new(name: impl Into<String>, url: String, expected: Expected) -> Self {
        Self { name: name.into(), url, expected, payload: 2 }
    }

    fn broken(name: impl Into<String>, url: String, words: &'static [&'static str]) -> Self {
        Self::new(name, url, Expected::Broken(words))
    }

    fn delivered(name: impl Into<String>, url: String) -> Self {
        Self::new(name, url, Expected::Delivered)
    }

    /// A message of so many bytes.
    fn with_payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    fn subject(&self) -> String {
        format!("m.{}", self.name)
    }
}

/// One broker and one natshook for many cases, each with a target of its own.
struct Run {
    broker: Broker,
    connector: Connector,
    context: Context,
    cases: Vec<Case>,
    memory_at_rest: u64,
}

impl Run {
    async fn start(broker: Broker, certs: &Certs, cases: Vec<Case>) -> Self {
        Self::start_with(broker, certs, cases, TIMEOUT).await
    }

    /// Every target makes one attempt, which may take `timeout`.
    async fn start_with(broker: Broker, certs: &Certs, cases: Vec<Case>, timeout: Duration) -> Self {
        let once = "retry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 1 }";
        let mut config = Config::on(&broker).and(&format!("[defaults]\ntimeout = \"{timeout:?}\"\n{once}"));
        for case in &cases {
            config = config.target(&case.name, &case.subject(), &case.url, "");
        }
        let trusted = certs.ca.to_string_lossy();
        let connector = Connector::start_with(&config, &[("SSL_CERT_FILE", &trusted)]).await;
        let context = broker.jetstream_context().await;
        let memory_at_rest = connector.peak_memory_mib();
        Self { broker, connector, context, cases, memory_at_rest }
    }

    async fn publish(&self, case: &Case) {
        let payload = vec![b'x'; case.payload];
        let stored = self.context.publish(case.subject(), payload.into()).await.expect("sent");
        stored.await.expect("a stream holds the subject");
    }

    /// Publishes a message to every case; each must be settled within `bound`, as expected.
    async fn judge(&self, bound: Duration) {
        let published = Instant::now();
        for case in &self.cases {
            self.publish(case).await;
        }
        self.settle_all(bound.saturating_sub(published.elapsed())).await;
        self.check_all().await;
        assert_eq!(self.planned_retries().await, 0, "no second attempt was planned");
    }

    /// Has the first target's connection made by a message that is delivered.
    async fn warm_up(&self) {
        self.publish(&self.cases[0]).await;
        self.settle_all(BOUND).await;
        assert_eq!(self.dead_letters().await, 0);
    }

    /// Waits until nothing is open for any target.
    async fn settle_all(&self, within: Duration) {
        let started = Instant::now();
        for case in &self.cases {
            let left = within.saturating_sub(started.elapsed());
            until(&format!("{} is settled", case.name), left, async || self.settled(&case.name).await).await;
        }
    }

    /// Looks at what was stored as dead letters.
    async fn check_all(&self) {
        let dead = self.broker.stored(DEAD_LETTERS).await;
        for case in &self.cases {
            self.check(case, &dead);
        }
    }

    /// How many further attempts were ever planned: an attempt that is charged and fails is one.
    async fn planned_retries(&self) -> u64 {
        self.ever_stored(RETRY_QUEUE).await
    }

    async fn dead_letters(&self) -> u64 {
        self.ever_stored(DEAD_LETTERS).await
    }

    /// Whether everything that was published to a target is delivered or a dead letter.
    async fn settled(&self, target: &str) -> bool {
        let Ok(stream) = self.context.get_stream(EVENTS).await else { return false };
        let info = stream.consumer_info(format!("natshook-{target}")).await;
        info.is_ok_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    }

    /// How many messages a stream was ever given.
    async fn ever_stored(&self, stream: &str) -> u64 {
        self.context.get_stream(stream).await.map_or(0, |stream| stream.cached_info().state.last_sequence)
    }

    /// No receiver, whatever it sends, makes natshook hold much more than it held when it was started.
    fn assert_memory_bounded(&self) {
        let (rest, peak) = (self.memory_at_rest, self.connector.peak_memory_mib());
        println!("memory: {rest} MiB at rest, {peak} MiB at most");
        assert!(peak <= rest + MEMORY_MIB, "{rest} MiB at rest, {peak} MiB at most");
    }

    fn check(&self, case: &Case, dead: &[Stored]) {
        let subject = format!("natshook.dead-letter.{}", case.name);
        let letters: Vec<_> = dead.iter().filter(|letter| letter.subject == subject).collect();
        let get = |name| letters.first().and_then(|letter| header(letter, name));
        let error = get("Natshook-Last-Error").unwrap_or_default();
        match &case.expected {
            Expected::Delivered => assert!(letters.is_empty(), "{}: {error}", case.name),
            Expected::Answered(status) => {
                assert_eq!(get("Natshook-Last-Status"), Some(status.to_string()), "{}: {error}", case.name);
            }
            Expected::Broken(words) => {
                assert!(error.starts_with(words[0]), "{}: {error:?} should begin with {words:?}", case.name);
                for word in &words[1..] {
                    assert!(error.contains(word), "{}: {error:?} should hold {word:?}", case.name);
                }
                assert_eq!(get("Natshook-Last-Status"), None, "{}", case.name);
                assert_eq!(get("Natshook-Attempts").as_deref(), Some("1"), "{}", case.name);
            }
        }
    }
}
