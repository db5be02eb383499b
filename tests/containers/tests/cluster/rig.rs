//! Three servers, three natshooks, an inbox; and the account of what became of each message.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use natshook_containers::{
    container::Container, natshook::Folder, secs, until, Cluster, Engine, Inbox, Natshook, Network,
};
use tokio::time::sleep;

use crate::load::Load;

const SUBJECT: &str = "a";
/// The targets' names, and the inbox's paths: one works, one sometimes fails once, one sometimes refuses for good.
const TARGETS: [&str; 3] = ["works", "sometimes-fails", "sometimes-refuses"];
/// How many deliveries each natshook may have on their way to each target.
const CONCURRENCY: usize = 32;
/// How long the receiver takes to answer, so that there always are deliveries on their way.
const RECEIVER_DELAY: &str = "100ms";
/// How long the load goes on before the fault, and after it.
const AROUND: Duration = secs(5);
/// How long all may take to be delivered after that: a crashed natshook's come back after 20 s, and one that was cut off
/// without a word has to be missed first.
const SETTLED_WITHIN: Duration = secs(120);

/// Which deliveries a fault may make twice.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Doubled {
    None,
    /// Their receivers had answered, and nobody could say so to the broker any more.
    WhatWasInFlight,
}

pub(crate) struct Rig {
    pub(crate) natshooks: Vec<Natshook>,
    inbox: Inbox,
    pub(crate) cluster: Cluster,
    folder: Folder,
}

impl Rig {
    pub(crate) async fn start(engine: &Engine, version: &str) -> Self {
        let cluster = Cluster::start(Network::new(engine).await, version).await;
        let inbox = Inbox::start_slow(cluster.network(), RECEIVER_DELAY).await;
        let folder = Folder::with(&[("natshook.toml", &config(&cluster, &inbox))]);
        let mut natshooks = Vec::new();
        for name in ["natshook0", "natshook1", "natshook2"] {
            natshooks.push(Natshook::start(cluster.network(), name, &folder).await);
        }
        Self { natshooks, inbox, cluster, folder }
    }

    /// Messages begin to come; returns when they flow.
    pub(crate) async fn load(&self) -> Load {
        let load = Load::start(self.cluster.client().await, SUBJECT);
        until("messages flow", secs(30), async || load.stored() > 50).await;
        sleep(AROUND).await;
        load
    }

    pub(crate) async fn cut_off_for(&self, container: &Container, time: Duration) {
        self.cluster.network().cut_off(container).await;
        sleep(time).await;
        self.cluster.network().bring_back(container).await;
    }

    /// As a deployment does it: the old one drains and is gone, then the new one starts.
    pub(crate) async fn replace_natshook(&mut self, number: usize) {
        let old = self.natshooks.remove(number);
        assert_eq!(old.container().stop(secs(45)).await, 0, "{}", old.container().stderr().await);
        let name = format!("natshook{number}-next");
        self.natshooks.insert(number, Natshook::start(self.cluster.network(), &name, &self.folder).await);
    }

    /// Ends the load, waits until every message is settled, and holds the account to the promise.
    pub(crate) async fn settle(&self, what: &str, load: Load, doubled: Doubled) {
        sleep(AROUND).await;
        let stored = load.stop().await;
        let began = Instant::now();
        self.wait_until_settled().await;
        let account = self.account(stored).await;
        let row = format!(
            "| {what} | {stored} | {} | {} | {} | {:.1} s | {:.0} s |",
            account.lost,
            account.doubled,
            account.dead_letters_wrong,
            account.silence.as_secs_f64(),
            began.elapsed().as_secs_f64(),
        );
        println!("{row}");
        keep(what, &row);
        assert_eq!((account.lost, account.dead_letters_wrong), (0, 0), "{row}");
        let in_flight = 3 * CONCURRENCY * TARGETS.len();
        // Twice: what was on its way when the fault began, and what was handed out before everybody knew of it.
        let allowed = if doubled == Doubled::None { 0 } else { 2 * in_flight };
        assert!(account.doubled <= allowed, "{row}");
    }

    async fn wait_until_settled(&self) {
        let context = jetstream::new(self.cluster.client().await);
        until("every message is settled", SETTLED_WITHIN, async || settled(&context).await.unwrap_or(false))
            .await;
    }

    async fn account(&self, stored: usize) -> Account {
        let dead = self.dead_letters().await;
        let mut account = Account { silence: self.silence().await, ..Account::default() };
        for target in TARGETS {
            let delivered = self.inbox.delivered(&format!("/{target}")).await;
            account.doubled += delivered.values().filter(|times| **times > 1).count();
            for number in (0..stored).map(|number| number.to_string()) {
                let dead = dead.get(&(target.to_owned(), number.clone())).copied().unwrap_or(0);
                match (delivered.contains_key(&number), dead) {
                    (false, 0) => account.lost += 1,
                    (true, 0) | (false, 1) => {}
                    _ => account.dead_letters_wrong += 1,
                }
            }
        }
        account
    }

    /// How often each message of each target is a dead letter.
    async fn dead_letters(&self) -> HashMap<(String, String), usize> {
        let listed =
            self.natshooks[0].container().exec(&["/natshook", "dead-letters", "list", "--json"]).await;
        assert_eq!(listed.0, 0, "{}", listed.2);
        let mut letters = HashMap::new();
        for line in listed.1.lines() {
            let letter: serde_json::Value = serde_json::from_str(line).expect("an object a line");
            let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
            *letters.entry((text("target"), text("body"))).or_default() += 1;
        }
        letters
    }

    /// The longest time in which the target that works got nothing.
    async fn silence(&self) -> Duration {
        let received = self.inbox.received().await;
        let times: HashSet<u64> =
            received.iter().filter(|r| r.path() == "/works").map(|r| millis(r.time())).collect();
        let mut times: Vec<u64> = times.into_iter().collect();
        times.sort_unstable();
        Duration::from_millis(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
    }
}

/// What became of the messages, over all targets.
#[derive(Default)]
struct Account {
    /// Neither delivered nor a dead letter.
    lost: usize,
    /// Delivered more than once.
    doubled: usize,
    /// A dead letter twice, or delivered and a dead letter as well.
    dead_letters_wrong: usize,
    silence: Duration,
}

fn config(cluster: &Cluster, inbox: &Inbox) -> String {
    let mut text = format!("nats = {{ servers = {:?} }}\n", cluster.urls());
    for table in ["stream", "retry_queue", "dead_letter", "state"] {
        text.push_str(&format!("{table} = {{ replicas = 3 }}\n"));
    }
    text.push_str("egress = { allow = [\"172.16.0.0/12\", \"192.168.0.0/16\"], allow_http = true }\n");
    for name in TARGETS {
        let url = inbox.url(&format!("/{name}"));
        text.push_str(&format!("[[targets]]\nname = {name:?}\nsubjects = [{SUBJECT:?}]\nurl = {url:?}\n"));
        text.push_str(&format!(
            "concurrency = {CONCURRENCY}\nretry = {{ delays = [\"1s\", \"2s\", \"4s\", \"8s\", \"16s\"] }}\n"
        ));
    }
    text
}

/// Whether no consumer has a message ahead or on its way, the retry queue's among them. What a stream holds says less: after
/// a change of leaders it may keep messages that were acked.
async fn settled(context: &jetstream::Context) -> Result<bool, async_nats::Error> {
    let consumers = TARGETS.map(|target| ("EVENTS", format!("natshook-{target}")));
    for (stream, consumer) in consumers.into_iter().chain([("NATSHOOK_RETRY", "natshook-retry".to_owned())]) {
        let info = context.get_stream(stream).await?.consumer_info(consumer).await?;
        if info.num_pending > 0 || info.num_ack_pending > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Milliseconds of a day, of `2026-11-24T09:30:00.123Z`; no test runs over midnight without being run again.
fn millis(time: &str) -> u64 {
    let number =
        |range: std::ops::Range<usize>| time[range].parse::<u64>().expect("RFC 3339 with milliseconds");
    ((number(11..13) * 60 + number(14..16)) * 60 + number(17..19)) * 1000 + number(20..23)
}

/// Keeps the row for the table of `scripts/test-containers`.
fn keep(what: &str, row: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster");
    fs::create_dir_all(&folder).expect("a folder for the table");
    let name: String = what.chars().filter(char::is_ascii_alphanumeric).collect();
    fs::write(folder.join(name), format!("{row}\n")).expect("a row of the table");
}
