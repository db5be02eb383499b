//! The one broker dies, or stands still.

use std::time::Instant;

use crate::campaign::{campaign, is_long, messages};
use crate::rig::Rig;
use crate::support::{Connector, millis, secs};

/// What a nats-server that is killed may have forgotten of the acks it had taken: it writes where its consumers stand
/// at short intervals, not with each ack.
const FORGOTTEN: std::time::Duration = secs(1);

#[tokio::test]
async fn a_killed_broker_loses_nothing() {
    campaign("20-broker-killed", "nats-server SIGKILLed and restarted under load, twice", async |seed| {
        let (mut broker, rig) = Rig::start(seed).await;
        let natshook = Connector::start(&rig.config(&broker)).await;
        let mut forgotten = 0;
        for kill in 0..2 {
            rig.burst(messages() / 2, kill).await;
            broker.kill9();
            forgotten += rig.sink.ledger(|ledger| ledger.ended_within(FORGOTTEN, Instant::now()));
            // Long enough for natshook to notice, and to run out of work.
            tokio::time::sleep(secs(1)).await;
            broker.restart().await;
        }
        let ended = Instant::now();
        rig.close(&natshook, rig.repeats(2) + forgotten, Some(ended)).await
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_stands_still_loses_nothing() {
    let pause = if is_long() { secs(60) } else { secs(12) };
    let fault = format!("nats-server paused (SIGSTOP) for {} s under load", pause.as_secs());
    campaign("21-broker-paused", &fault, async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let natshook = Connector::start(&rig.config(&broker)).await;
        let pausing = async {
            tokio::time::sleep(millis(rig.random(1).u64(200..1_500))).await;
            broker.pause();
            tokio::time::sleep(pause).await;
            broker.resume();
            Instant::now()
        };
        let ((), ended) = tokio::join!(rig.publish(messages(), secs(2)), pausing);
        rig.close(&natshook, rig.repeats(1), Some(ended)).await
    })
    .await;
}
