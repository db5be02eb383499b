//! What every run has: receivers with their ledger, the broker's books, messages to publish, and the end, where the
//! invariants are held against both. The faults are the sentences' own.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use futures_util::{StreamExt, stream};

use crate::books::{Books, Standing};
use crate::campaign::Run;
use crate::ledger::{Fate, Key, Numbered};
use crate::sink::{SECRET, Sink};
use crate::support::broker::{EVENTS, RETRY_QUEUE};
use crate::support::{Broker, Config, Connector, millis, secs, until};

/// All targets get what is published here.
pub(crate) const SUBJECT: &str = "a";
/// Of each target; what may be in flight, and the unit of the bounds on duplicates.
pub(crate) const CONCURRENCY: usize = 16;
/// The longest that a receiver which is well takes for an answer.
const LATENCY: Duration = millis(40);
/// The longest that all may take to be settled once the fault is over.
const SETTLED_WITHIN: Duration = secs(100);
/// The most memory that natshook may ever have resident, in MiB; a build without optimization takes more.
const MEMORY_MAX_MIB: u64 = 96;

/// The parts of one run.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) seed: u64,
    pub(crate) books: Books,
    pub(crate) sink: Sink,
    targets: usize,
    published: Cell<u64>,
    /// The dead letters and the waiting deliveries that the test itself took out of natshook's streams.
    taken: RefCell<(HashSet<Key>, HashSet<Key>)>,
}

impl Rig {
    /// `client` is the test's own way to the broker, which no fault lies on.
    pub(crate) async fn new(client: Client, seed: u64, targets: usize) -> Self {
        let sink = Sink::start(targets, LATENCY).await;
        Self {
            seed,
            books: Books::new(client),
            sink,
            targets,
            published: Cell::new(0),
            taken: RefCell::default(),
        }
    }

    /// A broker of its own, and two targets.
    pub(crate) async fn start(seed: u64) -> (Broker, Self) {
        let broker = Broker::start().await;
        let rig = Self::new(broker.client().await, seed, 2).await;
        (broker, rig)
    }

    /// natshook's config with all targets of the run.
    pub(crate) fn config(&self, broker: &Broker) -> Config {
        self.with_targets(Config::on(broker), self.sink.port, "")
    }

    /// Adds the targets, which are reached at `port`; each has `more` lines.
    pub(crate) fn with_targets(&self, config: Config, port: u16, more: &str) -> Config {
        self.with_targets_at(config, |_| port, more)
    }

    /// The same, with a port for each target.
    pub(crate) fn with_targets_at(
        &self,
        mut config: Config,
        port: impl Fn(usize) -> u16,
        more: &str,
    ) -> Config {
        let delays = "\"1s\", \"1s\", \"2s\", \"2s\"".to_owned() + &", \"3s\"".repeat(40);
        for target in 0..self.targets {
            let text = format!(
                "concurrency = {CONCURRENCY}\ntimeout = \"5s\"\nsigning = {{ secrets = [{SECRET:?}] }}\n\
                 retry = {{ delays = [{delays}] }}\n{more}"
            );
            let url = format!("http://127.0.0.1:{}/{target}", port(target));
            config = config.target(&target.to_string(), SUBJECT, &url, &text);
        }
        config
    }

    /// Random numbers of this seed; `part` keeps the parts of a run apart.
    pub(crate) fn random(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(part))
    }

    /// Publishes `count` messages evenly `over` a time, each again and again until the stream has confirmed it.
    pub(crate) async fn publish(&self, count: usize, over: Duration) {
        let first = self.published.get();
        self.published.set(first + count as u64);
        let started = Instant::now();
        let messages = (0..count as u32).map(|i| async move {
            let at = started + over * i / count as u32;
            tokio::time::sleep_until(at.into()).await;
            self.publish_one(first + u64::from(i)).await;
        });
        stream::iter(messages).buffer_unordered(64).collect::<()>().await;
    }

    async fn publish_one(&self, number: u64) {
        let fate = match self.random(number + 1_000).u32(0..100) {
            0..12 => Fate::FailsOnce,
            12..20 => Fate::Refused,
            _ => Fate::Accepted,
        };
        let message = Numbered { number, fate };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", message.id());
        loop {
            let sent =
                self.books.context.publish_with_headers(SUBJECT, headers.clone(), message.payload().into());
            if let Ok(sent) = sent.await
                && let Ok(ack) = sent.await
            {
                return self.sink.ledger(|ledger| ledger.published(message, ack.sequence));
            }
            tokio::time::sleep(millis(100)).await;
        }
    }

    /// Publishes a burst, and returns when the seed's share of the requests that it makes has come.
    pub(crate) async fn burst(&self, count: usize, part: u64) {
        let requests = self.random(part).usize(1..count * self.targets);
        let wanted = self.sink.ledger(|ledger| ledger.requests()) + requests;
        let come = async || self.sink.ledger(|ledger| ledger.requests()) >= wanted;
        tokio::join!(self.publish(count, Duration::ZERO), until("requests come", secs(60), come));
        tokio::time::sleep(Duration::from_micros(self.random(part).u64(0..30_000))).await;
    }

    /// While natshook stands still or is gone: whatever it has acked was accepted by the receiver, or is held by one
    /// of natshook's own streams.
    pub(crate) async fn nothing_was_acked_early(&self) {
        let mut standings = Vec::new();
        for target in 0..self.targets {
            standings.push(self.books.target(target).await);
        }
        let waiting = self.books.waiting().await;
        let dead: HashSet<_> = self.books.dead_letters().await.into_iter().collect();
        self.sink.ledger(|ledger| {
            for (target, standing) in standings.iter().enumerate() {
                let is_safe = |number: &u64| {
                    let key = (target, *number);
                    ledger.is_accepted(key) || waiting.contains(&key) || dead.contains(&key)
                };
                let all = ledger.published_to(u64::MAX);
                let safe = all.iter().filter(|number| is_safe(number)).count();
                let acked = (all.len() as u64).saturating_sub(standing.pending) as usize;
                let acked = acked.saturating_sub(standing.unacked);
                assert!(acked <= safe, "seed {}: target {target}: {acked} acked, {safe} safe", self.seed);
                let early = ledger.published_to(standing.floor);
                let early: Vec<_> = early.iter().filter(|number| !is_safe(number)).collect();
                assert!(early.is_empty(), "seed {}: target {target}: {early:?} acked early", self.seed);
            }
        });
    }

    /// Waits until the stream holds nothing that is not settled, and no delivery waits.
    pub(crate) async fn settle(&self) {
        let started = Instant::now();
        while !self.all_is_settled().await {
            if started.elapsed() > SETTLED_WITHIN {
                let books = self.books.report(self.targets).await;
                let mut unended = Vec::new();
                for target in 0..self.targets {
                    unended.extend(self.unended(target).await);
                }
                panic!(
                    "seed {}: not settled within {SETTLED_WITHIN:?}: {books}; came to no end: {unended:?}",
                    self.seed
                );
            }
            tokio::time::sleep(millis(200)).await;
        }
    }

    /// Waits until everything is settled and holds the invariants against what came of it. `fault_ended` is when
    /// the last fault was over.
    pub(crate) async fn close(
        &self,
        natshook: &Connector,
        bound: usize,
        fault_ended: Option<Instant>,
    ) -> Run {
        self.settle().await;
        let recovery = fault_ended.map(|ended| ended.elapsed());
        let letters = self.books.dead_letters().await;
        let mut dead: HashSet<_> = letters.iter().copied().collect();
        let seed = self.seed;
        assert_eq!(letters.len(), dead.len(), "seed {seed}: a dead letter is stored once");
        let taken = self.taken.borrow();
        dead.extend(&taken.0);
        let memory = natshook.peak_memory_mib();
        assert!(memory <= MEMORY_MAX_MIB, "seed {seed}: natshook took {memory} MiB");
        self.sink.ledger(|ledger| {
            assert_eq!(ledger.wrongs(), [""; 0], "seed {seed}");
            assert_eq!(
                ledger.count_published() as u64,
                self.published.get(),
                "seed {seed}: all were published"
            );
            let tally = ledger.tally(self.targets, &dead, &taken.1);
            let ended: HashSet<_> = dead.union(&taken.1).copied().collect();
            let lost: Vec<_> = (0..self.targets).flat_map(|target| ledger.unended(target, &ended)).collect();
            assert_eq!(tally.lost, 0, "seed {seed}: {tally:?}: {lost:?}");
            let unplanned: Vec<_> =
                dead.iter().filter(|(_, number)| !ledger.is(*number, Fate::Refused)).collect();
            assert!(
                unplanned.is_empty(),
                "seed {seed}: only what was refused is a dead letter: {unplanned:?}"
            );
            assert!(tally.duplicates <= bound, "seed {seed}: {tally:?}, {bound} duplicates allowed");
            Run { tally, bound, recovery }
        })
    }

    /// Notes what natshook's own streams hold, which the test is about to delete: natshook has not lost that.
    pub(crate) async fn note_taken(&self) {
        let letters = self.books.dead_letters().await;
        let waiting = self.books.waiting().await;
        let mut taken = self.taken.borrow_mut();
        taken.0.extend(letters);
        taken.1.extend(waiting);
    }

    /// These deliveries are gone, and not by natshook's doing.
    pub(crate) fn note_gone(&self, keys: impl Iterator<Item = Key>) {
        self.taken.borrow_mut().1.extend(keys);
    }

    /// What was published to a target and has come to no end, with its sequence in the stream.
    pub(crate) async fn unended(&self, target: usize) -> Vec<(Key, u64)> {
        let dead: HashSet<_> = self.books.dead_letters().await.into_iter().collect();
        self.sink.ledger(|ledger| ledger.unended(target, &dead))
    }

    /// Whether all that the source stream holds is settled; retries may wait.
    pub(crate) async fn sources_are_settled(&self, targets: impl Iterator<Item = usize>) -> bool {
        for target in targets {
            let standing = self.books.consumer(EVENTS, &format!("natshook-{target}")).await;
            if !standing.is_some_and(Standing::is_settled) {
                return false;
            }
        }
        true
    }

    /// Asks the retry queue's consumer and not its stream: after a change of leaders a cluster may keep messages in
    /// a work queue that were acked.
    async fn all_is_settled(&self) -> bool {
        self.sources_are_settled(0..self.targets).await
            && self.books.consumer(RETRY_QUEUE, "natshook-retry").await.is_some_and(Standing::is_settled)
    }

    /// The most requests that `faults` faults may repeat. Each catches at most twice the concurrency of deliveries for
    /// each target: as many in flight, and as many more that were taken ahead or whose ack had not arrived yet. Where
    /// one of them fails first, its retry may be repeated as well.
    pub(crate) fn repeats(&self, faults: usize) -> usize {
        let failing = self.sink.ledger(|ledger| ledger.count(Fate::FailsOnce)) * self.targets;
        faults * self.targets * 2 * CONCURRENCY + if faults == 0 { 0 } else { failing }
    }
}
