//! A replay is killed at random moments and run again: each message arrives exactly once. And there may be very many.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use natshook::dead_letter::{DeadLetterOffice, Replayed};
use natshook::target::TargetName;

use crate::dead_letters::users;
use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::connector::{Running, natshook_with};
use crate::support::{Broker, Config, Connector, Receiver, letters, secs, until};

const LETTERS: usize = 3_000;

/// Who works off the retry queue while the replays are killed.
#[derive(Clone, Copy, PartialEq)]
enum Natshook {
    Runs,
    /// So that copies wait in the retry queue for the next replay.
    IsStopped,
}

/// Kills replays with SIGKILL at moments that `seed` chooses, six times at least and, where copies wait to be counted, until
/// one has died between its two steps; then lets one come to its end.
async fn killed_at_random(seed: u64, natshook: Natshook, window: Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, window).await;
    letters::store(&context, "policy", 0..LETTERS).await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = match natshook {
        Natshook::Runs => Some(Connector::start(&config).await),
        Natshook::IsStopped => None,
    };

    let (mut killed, mut halves) = (0, 0);
    while killed < 6 || (connector.is_none() && halves == 0) {
        let mut replay = Running::start(&config, &["dead-letters", "replay", "--all"], Stdio::null());
        let (left, fewer) = (broker.count(DEAD_LETTERS).await, random.u64(1..100));
        until("it goes on", secs(30), async || broker.count(DEAD_LETTERS).await + fewer <= left).await;
        assert!(replay.kill9(), "seed {seed}: it had ended before it was killed");
        killed += 1;
        let copies = broker.count(RETRY_QUEUE).await;
        halves = halves.max((copies + broker.count(DEAD_LETTERS).await).saturating_sub(LETTERS as u64));
        if window < secs(1) {
            // Nothing but time makes the broker forget the ids of what was stored.
            let forgotten = Instant::now() + 2 * window;
            until("the duplicate window has passed", secs(10), async || Instant::now() >= forgotten).await;
        }
    }
    let last = natshook_with(&config, &["dead-letters", "replay", "--all"]).await;

    assert_eq!(last.code, 0, "seed {seed}: {}", last.all());
    assert_eq!(broker.count(DEAD_LETTERS).await, 0, "seed {seed}");
    println!("seed {seed}: {killed} killed, at most {halves} left half done; then {}", last.stdout.trim());
    if connector.is_none() {
        assert_eq!(broker.count(RETRY_QUEUE).await, LETTERS as u64, "seed {seed}");
        connector = Some(Connector::start(&config).await);
    }
    until("everything is delivered", secs(60), async || broker.count(RETRY_QUEUE).await == 0).await;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for body in receiver.bodies("/hook") {
        *seen.entry(body).or_default() += 1;
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "seed {seed}: {doubled:?}");
    assert_eq!(seen.len(), LETTERS, "seed {seed}: none is lost");
    assert_eq!(broker.count(DEAD_LETTERS).await, 0, "seed {seed}");
    drop(connector);
}

#[tokio::test]
async fn a_killed_replay_is_made_good_while_natshook_runs() {
    killed_at_random(1, Natshook::Runs, secs(120)).await;
}

#[tokio::test]
async fn a_killed_replay_is_made_good_while_natshook_is_stopped() {
    killed_at_random(2, Natshook::IsStopped, secs(120)).await;
}

#[tokio::test]
async fn a_killed_replay_is_made_good_long_after_while_natshook_runs() {
    // The broker forgets ids before the next replay begins.
    killed_at_random(3, Natshook::Runs, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_killed_replay_is_made_good_long_after_while_natshook_is_stopped() {
    killed_at_random(4, Natshook::IsStopped, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_single_replay_knows_the_copy_of_one_that_ended_half_done_long_before() {
    let test = ConnectOptions::with_user_and_password("test".into(), "pw".into());
    let remove = "$JS.API.STREAM.MSG.DELETE.NATSHOOK_DEAD_LETTER";
    let broker = Broker::start_with(&users(remove), test).await;
    let window = Duration::from_millis(200);
    letters::own_streams(&broker.jetstream_context().await, window).await;
    letters::store(&broker.jetstream_context().await, "policy", 0..2).await;
    let config = Config::on(&broker)
        .nats("user = \"app\"\npassword = \"pw\"")
        .target("policy", "a", "http://127.0.0.1:1/", "")
        .text();
    let config = natshook::config::Config::from_toml(&config, "a test").unwrap();
    let client = natshook::source::connect(&config.connections[0].nats, &config.name).await.unwrap();
    let office = DeadLetterOffice::new(std::sync::Arc::new(client), config.name.clone());
    let replay = async |id| office.replay(id, TargetName::new("policy")).await;

    let error = replay(1).await.unwrap_err().to_string();
    assert!(error.contains(remove), "{error}");
    assert_eq!((broker.count(DEAD_LETTERS).await, broker.count(RETRY_QUEUE).await), (2, 1));
    broker.reload(&users("nothing.at.all")).await;
    let forgotten = Instant::now() + 2 * window;
    until("the duplicate window has passed", secs(10), async || Instant::now() >= forgotten).await;

    assert_eq!(replay(1).await.unwrap(), Replayed::AlreadyWaiting);
    assert_eq!(replay(2).await.unwrap(), Replayed::Stored);
    assert_eq!(replay(3).await.unwrap(), Replayed::Missing);
    assert_eq!((broker.count(DEAD_LETTERS).await, broker.count(RETRY_QUEUE).await), (0, 2));
}

#[tokio::test]
async fn two_replays_at_once_double_nothing() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, secs(120)).await;
    letters::store(&context, "policy", 0..LETTERS).await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    let all = ["dead-letters", "replay", "--all"];
    let (one, two) =
        (Running::start(&config, &all, Stdio::null()), Running::start(&config, &all, Stdio::null()));

    assert_eq!((one.finish(secs(60)).await.0, two.finish(secs(60)).await.0), (0, 0));
    until("everything is delivered", secs(60), async || broker.count(RETRY_QUEUE).await == 0).await;
    let mut bodies = receiver.bodies("/hook");
    bodies.dedup();
    assert_eq!((bodies.len(), receiver.count("/hook")), (LETTERS, LETTERS));
}

const MANY: usize = 100_000;
/// What a command may have in memory, in MiB; the letters alone have some 60 MB of headers.
const MEMORY_MAX: u64 = 60;

#[tokio::test]
async fn a_hundred_thousand_letters_are_listed_and_replayed_in_little_memory() {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, secs(120)).await;
    letters::store(&context, "policy", 0..MANY).await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");

    let listed = tempfile::NamedTempFile::new().unwrap();
    let began = Instant::now();
    let list = Running::start(&config, &["dead-letters", "list"], Stdio::from(listed.reopen().unwrap()));
    let (code, peak) = list.finish(secs(120)).await;
    println!("listed in {:?}, {peak} MiB at most", began.elapsed());
    assert_eq!((code, peak < MEMORY_MAX), (0, true), "{peak} MiB");
    assert_eq!(std::fs::read_to_string(listed.path()).unwrap().lines().count(), MANY + 1);

    let began = Instant::now();
    let replay = Running::start(&config, &["dead-letters", "replay", "--all"], Stdio::null());
    let (code, peak) = replay.finish(secs(200)).await;
    println!("replayed in {:?}, {peak} MiB at most", began.elapsed());
    assert_eq!((code, peak < MEMORY_MAX), (0, true), "{peak} MiB");
    assert_eq!((broker.count(DEAD_LETTERS).await, broker.count(RETRY_QUEUE).await), (0, MANY as u64));
}
