//! One of ten targets is sick for the whole run: the other nine must not notice, and its own messages wait for it.

use std::time::Instant;

use crate::campaign::{Run, campaign, messages};
use crate::proxy::Proxy;
use crate::rig::Rig;
use crate::sink::Mood;
use crate::support::{Broker, Config, Connector, free_port, secs, until};

const TARGETS: usize = 10;
const SICK: usize = 3;
/// How long after the last publish the nine may take: two retries, and no more.
const HEALTHY_WITHIN: std::time::Duration = secs(8);

/// How the sick target is sick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sickness {
    /// Nobody listens.
    Dead,
    /// It answers later than the target's timeout.
    Slow,
    /// It answers 429 to everything.
    Overloaded,
}

async fn with_a_sick_target(seed: u64, sickness: Sickness) -> Run {
    let broker = Broker::start().await;
    let rig = Rig::new(broker.client().await, seed, TARGETS).await;
    let port = free_port();
    // The sick target has an address of its own, so that nobody needs to listen there.
    let at_first =
        if sickness == Sickness::Dead { None } else { Some(Proxy::start_on(port, rig.sink.port).await) };
    let config = rig.with_targets_at(
        Config::on(&broker),
        |target| if target == SICK { port } else { rig.sink.port },
        "",
    );
    rig.sink.set_mood(
        SICK,
        match sickness {
            Sickness::Dead => Mood::Well,
            Sickness::Slow => Mood::Late(secs(8)),
            Sickness::Overloaded => Mood::Answers(429),
        },
    );
    let natshook = Connector::start(&config).await;
    rig.publish(messages() / 2, secs(4)).await;
    let what = format!("seed {seed}: the other nine are done");
    until(&what, HEALTHY_WITHIN, async || all_but_the_sick_are_settled(&rig).await).await;
    // Sick enough that natshook has found it out.
    natshook.wait_for_line(&["breaker opened"]).await;
    natshook.signal("STOP");
    rig.nothing_was_acked_early().await;
    natshook.signal("CONT");
    let while_sick = rig.sink.ledger(|ledger| ledger.requests_to(SICK));
    rig.sink.set_mood(SICK, Mood::Well);
    let _now = match at_first {
        Some(proxy) => proxy,
        None => Proxy::start_on(port, rig.sink.port).await,
    };
    // A request that was answered too late is made again.
    let bound = if sickness == Sickness::Slow { while_sick } else { 0 };
    rig.close(&natshook, bound, Some(Instant::now())).await
}

async fn all_but_the_sick_are_settled(rig: &Rig) -> bool {
    rig.sources_are_settled((0..TARGETS).filter(|target| *target != SICK)).await
        && rig.books.waiting().await.iter().all(|(target, _)| *target == SICK)
}

#[tokio::test]
async fn a_dead_target_loses_nothing_and_holds_up_no_other() {
    campaign("60-dead-target", "1 of 10 targets dead", async |seed| {
        with_a_sick_target(seed, Sickness::Dead).await
    })
    .await;
}

#[tokio::test]
async fn a_slow_target_loses_nothing_and_holds_up_no_other() {
    campaign("61-slow-target", "1 of 10 targets answers after its timeout", async |seed| {
        with_a_sick_target(seed, Sickness::Slow).await
    })
    .await;
}

#[tokio::test]
async fn an_overloaded_target_loses_nothing_and_holds_up_no_other() {
    campaign("62-overloaded-target", "1 of 10 targets answers 429", async |seed| {
        with_a_sick_target(seed, Sickness::Overloaded).await
    })
    .await;
}
