//! Single frames between natshook and the broker are lost or late: acks, and the confirmations of what natshook stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::campaign::{campaign, messages};
use crate::frames::{Filter, Frame, Verdict};
use crate::proxy::{Proxy, Way};
use crate::rig::Rig;
use crate::support::{Config, Connector, secs};

fn is_ack(frame: &Frame) -> bool {
    frame.line().starts_with("PUB $JS.ACK.") && frame.payload().starts_with(b"+ACK")
}

/// The confirmation of a message in one of natshook's own streams.
fn is_own_confirmation(frame: &Frame) -> bool {
    let text = String::from_utf8_lossy(frame.payload());
    text.trim_start().starts_with("{\"stream\":\"NATSHOOK_")
}

#[tokio::test]
async fn when_acks_are_lost_nothing_is_lost() {
    campaign("40-acks-lost", "all acks lost for 5 s", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let (losing, lost) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let filter: Filter = {
            let (losing, lost) = (Arc::clone(&losing), Arc::clone(&lost));
            Arc::new(move |frame| {
                if losing.load(Ordering::Relaxed) && is_ack(frame) {
                    lost.fetch_add(1, Ordering::Relaxed);
                    return Verdict::Lose;
                }
                Verdict::Pass
            })
        };
        let proxy = Proxy::filtering(broker.port, Way::Up, filter).await;
        let servers = format!("servers = [\"nats://127.0.0.1:{}\"]", proxy.port);
        let config = rig.with_targets(Config::on(&broker).nats_instead(&servers), rig.sink.port, "");
        let natshook = Connector::start(&config).await;
        rig.publish(messages(), secs(5)).await;
        losing.store(false, Ordering::Relaxed);
        let ended = Instant::now();
        // Each lost ack costs one delivery more, and that one's retry.
        let lost = lost.load(Ordering::Relaxed);
        assert!(lost >= messages(), "seed {seed}: {lost} acks were lost");
        rig.close(&natshook, lost + rig.repeats(1), Some(ended)).await
    })
    .await;
}

#[tokio::test]
async fn when_confirmations_come_later_than_ack_wait_nothing_is_lost_or_repeated() {
    campaign("41-confirmations-late", "PubAcks of natshook's own streams 25 s late", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let delaying = Arc::new(AtomicBool::new(true));
        let filter: Filter = {
            let delaying = Arc::clone(&delaying);
            Arc::new(move |frame| match delaying.load(Ordering::Relaxed) && is_own_confirmation(frame) {
                true => Verdict::Hold(secs(25)),
                false => Verdict::Pass,
            })
        };
        let proxy = Proxy::filtering(broker.port, Way::Down, filter).await;
        let servers = format!("servers = [\"nats://127.0.0.1:{}\"]", proxy.port);
        let config = rig.with_targets(Config::on(&broker).nats_instead(&servers), rig.sink.port, "");
        let natshook = Connector::start(&config).await;
        rig.publish(messages(), secs(2)).await;
        tokio::time::sleep(secs(23)).await;
        delaying.store(false, Ordering::Relaxed);
        rig.close(&natshook, 0, Some(Instant::now())).await
    })
    .await;
}
