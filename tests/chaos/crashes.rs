//! natshook itself is killed, ended or restarted.

use std::path::PathBuf;
use std::time::Instant;

use natshook::failpoint::Failpoint;

use crate::campaign::{campaign, messages};
use crate::rig::Rig;
use crate::support::connector::binary;
use crate::support::{Connector, secs};

/// How often natshook is ended in a run.
const ENDS: usize = 3;

#[tokio::test]
async fn with_no_fault_every_message_is_sent_once() {
    campaign("00-none", "none", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let natshook = Connector::start(&rig.config(&broker)).await;
        rig.publish(messages(), secs(2)).await;
        rig.close(&natshook, 0, None).await
    })
    .await;
}

#[tokio::test]
async fn killed_at_random_moments_natshook_loses_nothing() {
    campaign("01-killed", "natshook SIGKILLed at 3 random moments", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let config = rig.config(&broker);
        let mut natshook = Connector::start(&config).await;
        for kill in 0..ENDS {
            rig.burst(messages() / ENDS, kill as u64).await;
            natshook.kill9();
            rig.nothing_was_acked_early().await;
            natshook = Connector::start(&config).await;
        }
        rig.close(&natshook, rig.repeats(ENDS), Some(Instant::now())).await
    })
    .await;
}

#[tokio::test]
async fn killed_while_a_request_is_under_way_natshook_loses_nothing() {
    campaign("02-sent", "natshook SIGKILLed with a request sent and not answered", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let config = rig.config(&broker);
        let mut natshook = Connector::start(&config).await;
        for kill in 0..ENDS {
            let held = rig.sink.hold_after(rig.random(kill as u64).usize(0..messages() / ENDS));
            rig.publish(messages() / ENDS, secs(0)).await;
            held.await.expect("the request comes");
            natshook.kill9();
            rig.nothing_was_acked_early().await;
            natshook = Connector::start(&config).await;
        }
        rig.close(&natshook, rig.repeats(ENDS), Some(Instant::now())).await
    })
    .await;
}

#[tokio::test]
async fn told_to_end_under_load_natshook_loses_and_repeats_nothing() {
    campaign("12-terminated", "SIGTERM under load, 3 times", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let config = rig.config(&broker);
        let mut natshook = Connector::start(&config).await;
        for end in 0..ENDS {
            rig.burst(messages() / ENDS, end as u64).await;
            natshook.stop().await;
            rig.nothing_was_acked_early().await;
            natshook = Connector::start(&config).await;
        }
        rig.close(&natshook, 0, Some(Instant::now())).await
    })
    .await;
}

#[tokio::test]
async fn a_rolling_restart_of_three_replicas_loses_and_repeats_nothing() {
    campaign("13-rolling", "rolling restart of 3 replicas under load", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        // Each has an admin address of its own.
        let configs = [rig.config(&broker), rig.config(&broker), rig.config(&broker)];
        let mut replicas = Vec::new();
        for config in &configs {
            replicas.push(Connector::start(config).await);
        }
        let restarts = async {
            for (replica, config) in replicas.iter_mut().zip(&configs) {
                replica.stop().await;
                *replica = Connector::start(config).await;
            }
            Instant::now()
        };
        let ((), ended) = tokio::join!(rig.publish(messages(), secs(4)), restarts);
        rig.close(&replicas[0], 0, Some(ended)).await
    })
    .await;
}

/// The build of natshook that has failpoints: the one beside these tests, unless `NATSHOOK_FAILPOINTS_BIN` names
/// another. `None` where there is none.
fn build_with_failpoints() -> Option<PathBuf> {
    match std::env::var_os("NATSHOOK_FAILPOINTS_BIN") {
        Some(given) => Some(given.into()),
        None => cfg!(feature = "failpoints").then(binary),
    }
}

/// natshook ends itself twice at `point`, the seed says which time it comes there.
async fn killed_at(point: Failpoint, place: &str) {
    let Some(program) = build_with_failpoints() else {
        println!("skipped: built without the feature failpoints, which `make test` sets");
        return;
    };
    let fault = format!("natshook killed at the failpoint `{}`, twice", point.name());
    campaign(place, &fault, async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let config = rig.config(&broker);
        // Few messages meet what follows a failure.
        let passes = match point {
            Failpoint::Fetched | Failpoint::Answered | Failpoint::BeforeAck | Failpoint::AfterAck => 60,
            Failpoint::BeforeRetryPublish | Failpoint::AfterRetryPublish => 4,
            Failpoint::BeforeDeadLetterPublish | Failpoint::AfterDeadLetterPublish => 4,
        };
        for kill in 0..2 {
            let armed = format!("{}={}*off->1*return", point.name(), rig.random(kill).usize(1..passes));
            let mut natshook = Connector::spawn_program(&program, &config, &[("FAILPOINTS", &armed)]);
            // The second may meet the failpoint in what the first left, before it is ready.
            if kill == 0 {
                natshook.wait_until_ready().await;
            }
            rig.publish(messages() / 2, secs(0)).await;
            natshook.wait_for_exit(secs(30)).await;
            rig.nothing_was_acked_early().await;
        }
        let natshook = Connector::start(&config).await;
        rig.close(&natshook, rig.repeats(2), Some(Instant::now())).await
    })
    .await;
}

#[tokio::test]
async fn killed_when_a_message_was_fetched_natshook_loses_nothing() {
    killed_at(Failpoint::Fetched, "03-fetched").await;
}

#[tokio::test]
async fn killed_when_an_answer_was_read_natshook_loses_nothing() {
    killed_at(Failpoint::Answered, "04-answered").await;
}

#[tokio::test]
async fn killed_before_a_retry_is_stored_natshook_loses_nothing() {
    killed_at(Failpoint::BeforeRetryPublish, "05-before-retry").await;
}

#[tokio::test]
async fn killed_when_a_retry_was_stored_natshook_loses_nothing() {
    killed_at(Failpoint::AfterRetryPublish, "06-after-retry").await;
}

#[tokio::test]
async fn killed_before_a_dead_letter_is_stored_natshook_loses_nothing() {
    killed_at(Failpoint::BeforeDeadLetterPublish, "07-before-dead-letter").await;
}

#[tokio::test]
async fn killed_when_a_dead_letter_was_stored_natshook_loses_nothing() {
    killed_at(Failpoint::AfterDeadLetterPublish, "08-after-dead-letter").await;
}

#[tokio::test]
async fn killed_before_an_ack_natshook_loses_nothing() {
    killed_at(Failpoint::BeforeAck, "09-before-ack").await;
}

#[tokio::test]
async fn killed_after_an_ack_natshook_loses_nothing() {
    killed_at(Failpoint::AfterAck, "10-after-ack").await;
}
