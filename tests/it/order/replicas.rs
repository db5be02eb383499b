//! One replica leads, the others stand by: what happens when the leader ends, dies or stands still.

use std::time::Instant;

use super::{AT_ONCE, arrivals, assert_in_order, publish_each, subjects, wait_for_last};
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, millis, secs, until_some};

/// Which of the replicas leads the target, once exactly one does.
async fn leader(replicas: &[Connector]) -> usize {
    until_some("one replica leads", secs(40), async || {
        let mut leaders = Vec::new();
        for (i, replica) in replicas.iter().enumerate() {
            if leads(replica).await {
                leaders.push(i);
            }
        }
        (leaders.len() == 1).then(|| leaders[0])
    })
    .await
}

async fn leads(replica: &Connector) -> bool {
    let metrics = http::get(replica.admin_port, "/metrics").await;
    metrics.is_some_and(|(_, text)| text.contains("natshook_order_leader{target=\"policy\"} 1"))
}

/// A receiver that fails a fifth of all requests, each in its own time.
async fn moody_receiver() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.judge("/hook", |_| match fastrand::u8(0..10) {
        0 => Answer::status(500),
        1 => Answer::status(503).after(millis(20)),
        n => Answer::ok().after(millis(u64::from(n))),
    });
    receiver
}

fn config(broker: &Broker, receiver: &Receiver) -> Config {
    let more = format!("order = \"subject\"\nconcurrency = 4\n{AT_ONCE}");
    Config::on(broker).target("policy", "orders.>", &receiver.url("/hook"), &more)
}

async fn three(config: &Config) -> Vec<Connector> {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Connector::start(&config.another()).await);
    }
    replicas
}

#[tokio::test]
async fn order_survives_leaders_that_are_killed_under_load() {
    let (broker, receiver) = (Broker::start().await, moody_receiver().await);
    let mut replicas = three(&config(&broker, &receiver)).await;
    let subjects = subjects(8);
    for round in 0..3 {
        publish_each(&broker, &subjects, 100 * round..100 * (round + 1)).await;
        if round < 2 {
            let seen = receiver.count("/hook");
            receiver.wait_long_for("/hook", seen + 100, secs(40)).await;
            let leading = leader(&replicas).await;
            replicas.remove(leading).kill9();
            let seen = receiver.count("/hook");
            // Another one leads.
            receiver.wait_long_for("/hook", seen + 50, secs(45)).await;
        }
    }
    wait_for_last(&receiver, "/hook", &subjects, 299, 60).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects, 300);
}

#[tokio::test]
async fn a_leader_that_ends_hands_over_at_once() {
    let (broker, receiver) = (Broker::start().await, moody_receiver().await);
    let config = config(&broker, &receiver);
    let mut replicas = three(&config).await;
    let subjects = subjects(8);
    publish_each(&broker, &subjects, 0..300).await;
    for _ in 0..2 {
        let seen = receiver.count("/hook");
        receiver.wait_for("/hook", seen + 100).await;
        let leading = leader(&replicas).await;
        let mut leader = replicas.remove(leading);
        let told = Instant::now();
        leader.stop().await;
        let seen = receiver.count("/hook");
        receiver.wait_for("/hook", seen + 1).await;
        // Before what the leader had comes back by itself, which is after 20 s.
        assert!(told.elapsed() < secs(10), "{:?}", told.elapsed());
    }
    let shown = natshook_with(&config, &["targets"]).await;
    assert!(shown.stdout.contains("running"), "{}", shown.all());
    wait_for_last(&receiver, "/hook", &subjects, 299, 60).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects, 300);
    for sequence in arrivals(&receiver, "/hook").values() {
        assert!(sequence.len() < 300 * 2, "{sequence:?}");
    }
}

#[tokio::test]
async fn a_leader_that_stood_still_begins_nothing_when_another_leads() {
    let (broker, receiver) = (Broker::start().await, moody_receiver().await);
    let replicas = three(&config(&broker, &receiver)).await;
    let subjects = subjects(8);
    publish_each(&broker, &subjects, 0..100).await;
    receiver.wait_for("/hook", 50).await;
    let first = leader(&replicas).await;
    replicas[first].signal("STOP");
    let stopped = Instant::now();
    publish_each(&broker, &subjects, 100..200).await;
    let seen = receiver.count("/hook");
    receiver.wait_long_for("/hook", seen + 50, secs(45)).await;
    assert!(stopped.elapsed() > secs(20), "nobody takes over before: {:?}", stopped.elapsed());
    tokio::time::sleep(secs(40).saturating_sub(stopped.elapsed())).await;
    publish_each(&broker, &subjects, 200..300).await;
    replicas[first].signal("CONT");
    replicas[first].wait_for_line(&["does not lead the ordered target any more"]).await;

    wait_for_last(&receiver, "/hook", &subjects, 299, 60).await;
    // What it had handed to its connections when it was stopped can still come: its four attempts at most.
    let mut stale = 0;
    for (subject, numbers) in arrivals(&receiver, "/hook") {
        stale += numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let mut first_arrivals = Vec::new();
        for number in numbers {
            if !first_arrivals.contains(&number) {
                first_arrivals.push(number);
            }
        }
        assert_eq!(first_arrivals, (0..300).collect::<Vec<_>>(), "{subject}");
    }
    assert!(stale <= 4, "{stale}");
    assert_ne!(leader(&replicas).await, first);
}

#[tokio::test]
async fn who_stands_by_is_ready_and_says_so() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let config = config(&broker, &receiver);
    let one = Connector::start(&config).await;
    let two = Connector::start(&config.another()).await;
    two.wait_for_line(&["stands by"]).await;
    assert_eq!(two.get("/readyz").await.0, 200);
    assert!(leads(&one).await && !leads(&two).await);
    let (_, metrics) = two.get("/metrics").await;
    assert!(metrics.contains("natshook_order_leader{target=\"policy\"} 0"), "{metrics}");
    let json = natshook_with(&config, &["targets", "--json"]).await.stdout;
    assert!(json.contains("\"standby\"") && json.contains("\"leading\""), "{json}");
    let (_, page) = two.get("/").await;
    assert!(page.contains("Standby"), "{page}");
}
