//! natshook is killed at random moments: no message is lost, and duplicates are bounded by what was in
//! flight.

use std::collections::HashMap;

use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE};
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

const MESSAGES: usize = 400;
const CONCURRENCY: usize = 16;
const KILLS: usize = 3;

/// Kills natshook with SIGKILL at moments that `seed` chooses, while it works off a backlog for a receiver
/// that delays every answer and fails some first attempts.
async fn killed_at_random(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let failing = random.usize(0..20);
    receiver.next("/hook", (0..failing).map(|_| Answer::status(500).after(millis(5))));
    receiver.always("/hook", Answer::ok().after(millis(20)));
    let more = format!(
        "concurrency = {CONCURRENCY}\nretry = {{ delays = [\"1s\", \"1s\", \"1s\", \"1s\", \"1s\"], jitter = 0 }}"
    );
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
    let mut connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..MESSAGES).await;

    let mut unsettled = 0;
    for _ in 0..KILLS {
        let from = receiver.count("/hook");
        let more = random.usize(1..60);
        until("work goes on", secs(30), async || receiver.count("/hook") >= from + more).await;
        tokio::time::sleep(std::time::Duration::from_micros(random.u64(0..30_000))).await;
        connector.kill9();
        // Cumulative: what earlier kills left comes back only after `ack_wait`.
        unsettled = unsettled.max(broker.outstanding(EVENTS, "natshook-policy").await.unwrap().1);
        connector = Connector::start(&config).await;
    }

    let all = async || {
        let done = broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0));
        done && broker.count("NATSHOOK_RETRY").await == 0
    };
    until("everything is settled", secs(60), all).await;
    let mut deliveries: HashMap<String, usize> = HashMap::new();
    for body in receiver.bodies("/hook") {
        *deliveries.entry(body).or_default() += 1;
    }
    assert_eq!(deliveries.len(), MESSAGES, "seed {seed}: every message was seen");
    assert_eq!(broker.count(DEAD_LETTERS).await, 0, "seed {seed}");
    let requests: usize = deliveries.values().sum();
    let duplicates = requests - MESSAGES - failing;
    println!("seed {seed}: {duplicates} duplicates, {unsettled} unsettled in {KILLS} kills");
    // What was in flight: taken from the broker and not settled there. A retry in flight adds to it.
    assert!(
        duplicates <= unsettled + failing,
        "seed {seed}: {duplicates} duplicates, {unsettled} were unsettled"
    );
    let at_most = KILLS * 2 * CONCURRENCY;
    assert!(unsettled <= at_most, "seed {seed}: {unsettled} unsettled at {KILLS} kills, {at_most} expected");
}

#[tokio::test]
async fn killed_at_random_moments_nothing_is_lost_seed_1() {
    killed_at_random(1).await;
}

#[tokio::test]
async fn killed_at_random_moments_nothing_is_lost_seed_2() {
    killed_at_random(2).await;
}

#[tokio::test]
async fn killed_at_random_moments_nothing_is_lost_seed_3() {
    killed_at_random(3).await;
}

#[tokio::test]
async fn killed_at_random_moments_nothing_is_lost_seed_4() {
    killed_at_random(4).await;
}

#[tokio::test]
async fn the_other_replica_takes_over_within_seconds() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let target = |config: Config| config.target("policy", "a", &receiver.url("/hook"), "concurrency = 8");
    let mut first = Connector::start(&target(Config::on(&broker))).await;
    receiver.next("/hook", (0..8).map(|_| Answer::ok().after(secs(60))));
    broker.publish_numbered("a", 0..8).await;
    receiver.wait_for("/hook", 8).await;
    let _second = Connector::start(&target(Config::on(&broker))).await;

    first.kill9();

    let seen = receiver.wait_long_for("/hook", 16, secs(30)).await;
    let bodies: std::collections::HashSet<_> = seen[8..].iter().map(|r| r.body.clone()).collect();
    assert_eq!(bodies.len(), 8);
}

#[tokio::test]
async fn a_slow_answer_is_no_crash() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    // Longer than the consumer's `ack_wait`: only progress acks keep the message ours.
    receiver.always("/hook", Answer::ok().after(secs(25)));
    let target = |config: Config| config.target("policy", "a", &receiver.url("/hook"), "timeout = \"40s\"");
    let _one = Connector::start(&target(Config::on(&broker))).await;
    let _two = Connector::start(&target(Config::on(&broker))).await;

    broker.publish("a", "1").await;

    receiver.wait_for("/hook", 1).await;
    let settled = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0));
    until("the slow answer is taken", secs(35), settled).await;
    assert_eq!(receiver.count("/hook"), 1);
}

/// A user `app` (natshook) whose acks on the source stream are, or are not, let through.
fn users(acks: bool) -> String {
    let deny = if acks { "nothing.at.all" } else { "$JS.ACK.EVENTS.>" };
    format!(
        "authorization {{ users: [ {{ user: app, password: pw, permissions: {{ publish: {{ allow: \">\", deny: {deny:?} }}, \
         subscribe: \">\" }} }}, {{ user: test, password: t }} ] }}"
    )
}

/// natshook stored the message elsewhere, and its ack was lost: how often is it stored in the end?
async fn stored_again(status: u16, stream: &str) -> usize {
    let test = async_nats::ConnectOptions::with_user_and_password("test".into(), "t".into());
    let broker = Broker::start_with(&users(false), test).await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(status));
    let config = Config::on(&broker).nats("user = \"app\"\npassword = \"pw\"").target(
        "policy",
        "a",
        &receiver.url("/hook"),
        "retry = { delays = [\"1h\"] }",
    );
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    until("it is stored", secs(10), async || broker.count(stream).await == 1).await;
    connector.wait_for_line(&["$JS.ACK.EVENTS"]).await;

    broker.reload(&users(true)).await;

    // After `ack_wait` it is delivered again, and then settled.
    let settled = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0));
    until("it is settled", secs(60), settled).await;
    assert_eq!(receiver.count("/hook"), 2);
    broker.stored(stream).await.len()
}

#[tokio::test]
async fn a_dead_letter_whose_ack_was_lost_is_stored_once() {
    assert_eq!(stored_again(400, DEAD_LETTERS).await, 1);
}

#[tokio::test]
async fn a_retry_whose_ack_was_lost_is_stored_once() {
    assert_eq!(stored_again(500, RETRY_QUEUE).await, 1);
}
