//! One run of a steady trickle: how long from publish to the receiver's answer.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use natshook_load::payload;
use tokio::time::{MissedTickBehavior, interval};

use crate::figures::Row;
use crate::rig::{Connector, Rig, SUBJECT};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "publish to 2xx, p50, µs", decimals: 0, wanted: "ratio <= 1" },
    Row { name: "publish to 2xx, p99, µs", decimals: 0, wanted: "ratio <= 1" },
];

/// Percentiles of one run, in microseconds.
pub(crate) struct Measured {
    p50_us: u64,
    p99_us: u64,
}

impl Measured {
    /// In the order of `ROWS`.
    pub(crate) fn figures(&self) -> Vec<f64> {
        vec![self.p50_us as f64, self.p99_us as f64]
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} µs, p99 {} µs", self.p50_us, self.p99_us)
    }
}

pub(crate) async fn run(
    rig: &Rig,
    connector: Connector,
    rate: u64,
    length: Duration,
) -> anyhow::Result<Measured> {
    let stage = rig.start().await?;
    let child = stage.connect(rig, connector)?;
    stage.until_pulling(connector).await?;

    let messages = rate * length.as_secs();
    let client = stage.jetstream.client();
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(rate).context("too high a rate")?);
    // A late tick is made up for: the rate is the claim, and both sides get the same clumps.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..messages {
        tick.tick().await;
        client.publish(SUBJECT, payload::write(number, rig.place.size)).await?;
    }

    stage.until_seen(messages, Duration::from_secs(10)).await?;
    let seen = stage.seen(rate).await?;
    stage.end(child).await?;
    Ok(Measured { p50_us: seen.p50_us, p99_us: seen.p99_us })
}
