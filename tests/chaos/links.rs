//! The links between natshook and the broker, and between natshook and its receivers, are slow, cut, reset or half open.

use std::time::{Duration, Instant};

use crate::campaign::{Run, campaign, messages};
use crate::proxy::{Link, Proxy};
use crate::rig::Rig;
use crate::support::{Config, Connector, millis, secs};

/// How often a link is broken in a run, unless it is slow all the time.
const BREAKS: usize = 3;
const SLOW: Link = Link::Slow { latency: millis(100), bytes_per_second: 128 * 1024 };

/// Which link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Broker,
    Receivers,
}

/// natshook, with a proxy on one of its links.
async fn linked(seed: u64, between: Between) -> (crate::support::Broker, Rig, Proxy, Connector) {
    let (broker, rig) = Rig::start(seed).await;
    let (proxy, config) = match between {
        Between::Broker => {
            let proxy = Proxy::start(broker.port).await;
            let servers = format!("servers = [\"nats://127.0.0.1:{}\"]", proxy.port);
            (proxy, rig.with_targets(Config::on(&broker).nats_instead(&servers), rig.sink.port, ""))
        }
        Between::Receivers => {
            let proxy = Proxy::start(rig.sink.port).await;
            let config = rig.with_targets(Config::on(&broker), proxy.port, "");
            (proxy, config)
        }
    };
    let natshook = Connector::start(&config).await;
    (broker, rig, proxy, natshook)
}

async fn slow(seed: u64, between: Between) -> Run {
    let (_broker, rig, proxy, natshook) = linked(seed, between).await;
    proxy.set(SLOW);
    rig.publish(messages(), secs(2)).await;
    rig.close(&natshook, 0, None).await
}

/// Breaks the link `times` times under load, for a time each.
async fn broken(seed: u64, between: Between, link: Link, times: usize, lasts: Duration) -> Run {
    let (_broker, rig, proxy, natshook) = linked(seed, between).await;
    for break_ in 0..times {
        rig.burst(messages() / times, break_ as u64).await;
        proxy.set(link);
        tokio::time::sleep(lasts).await;
        proxy.set(Link::Passes);
    }
    rig.close(&natshook, rig.repeats(times), Some(Instant::now())).await
}

#[tokio::test]
async fn over_a_slow_link_to_the_broker_nothing_is_lost_or_repeated() {
    campaign("30-broker-slow", "link to the broker: 100 ms and 128 KiB/s", async |seed| {
        slow(seed, Between::Broker).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_broker_is_cut_nothing_is_lost() {
    campaign("31-broker-cut", "link to the broker cut (FIN) 3 times for 1 s", async |seed| {
        broken(seed, Between::Broker, Link::Cut, BREAKS, secs(1)).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_broker_is_reset_nothing_is_lost() {
    campaign("32-broker-reset", "link to the broker reset (RST) 3 times for 1 s", async |seed| {
        broken(seed, Between::Broker, Link::Reset, BREAKS, secs(1)).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_broker_is_half_open_nothing_is_lost() {
    campaign("33-broker-half-open", "link to the broker half open for 5 s", async |seed| {
        broken(seed, Between::Broker, Link::HalfOpen, 1, secs(5)).await
    })
    .await;
}

#[tokio::test]
async fn over_a_slow_link_to_the_receivers_nothing_is_lost_or_repeated() {
    campaign("34-receiver-slow", "link to the receivers: 100 ms and 128 KiB/s", async |seed| {
        slow(seed, Between::Receivers).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_receivers_is_cut_nothing_is_lost() {
    campaign("35-receiver-cut", "link to the receivers cut (FIN) 3 times for 1 s", async |seed| {
        broken(seed, Between::Receivers, Link::Cut, BREAKS, secs(1)).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_receivers_is_reset_nothing_is_lost() {
    campaign("36-receiver-reset", "link to the receivers reset (RST) 3 times for 1 s", async |seed| {
        broken(seed, Between::Receivers, Link::Reset, BREAKS, secs(1)).await
    })
    .await;
}

#[tokio::test]
async fn when_the_link_to_the_receivers_is_half_open_nothing_is_lost() {
    campaign("37-receiver-half-open", "link to the receivers half open for 5 s", async |seed| {
        broken(seed, Between::Receivers, Link::HalfOpen, 1, secs(5)).await
    })
    .await;
}
