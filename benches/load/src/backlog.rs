//! One run over a backlog: publish, start the connector, wait until all is delivered and acked.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use natshook_load::payload;
use tokio::process::Child;

use crate::figures::Row;
use crate::process::{cpu_us, peak_memory};
use crate::rig::{Connector, Rig, SUBJECT, Stage};

/// Publishes under way at once while the backlog is laid.
const PUBLISHES: usize = 256;

pub(crate) const ROWS: &[Row] = &[
    Row { name: "deliveries per second", decimals: 0, wanted: "ratio >= 1" },
    Row { name: "CPU µs per delivery: connector", decimals: 1, wanted: "ratio <= 1" },
    Row { name: "CPU µs per delivery: nats-server", decimals: 1, wanted: "" },
    Row { name: "CPU µs per delivery: receiver", decimals: 1, wanted: "" },
    Row { name: "peak memory of the connector, MB", decimals: 1, wanted: "natshook < 25" },
];

/// What one run cost.
pub(crate) struct Measured {
    per_second: f64,
    connector_us: f64,
    broker_us: f64,
    receiver_us: f64,
    peak_memory: u64,
    duplicates: u64,
}

impl Measured {
    /// In the order of `ROWS`.
    pub(crate) fn figures(&self) -> Vec<f64> {
        let memory = self.peak_memory as f64 / 1e6;
        vec![self.per_second, self.connector_us, self.broker_us, self.receiver_us, memory]
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.0}/s, CPU µs per delivery: connector {:.1}, nats-server {:.1}, receiver {:.1}; peak memory {:.1} MB",
            self.per_second,
            self.connector_us,
            self.broker_us,
            self.receiver_us,
            self.peak_memory as f64 / 1e6
        )?;
        match self.duplicates {
            0 => Ok(()),
            some => write!(f, "; {some} DUPLICATES"),
        }
    }
}

pub(crate) async fn run(rig: &Rig, connector: Connector, messages: u64) -> anyhow::Result<Measured> {
    let stage = rig.start().await?;
    publish(&stage, messages, rig.place.size).await.context("laying the backlog")?;

    // A hang must end the bench, so the limit is what 2,000 deliveries a second would need.
    let limit = Duration::from_secs(60 + messages / 2_000);
    let child = stage.connect(rig, connector)?;
    let began = stage.until_seen(1, Duration::from_secs(30)).await?;
    let before = Usage::of(&stage, &child)?;
    let mut ended = stage.until_seen(messages, limit).await?;
    stage.until_acked(connector).await?;
    let after = Usage::of(&stage, &child)?;
    ended.received = stage.seen(0).await?.received;
    let peak_memory = peak_memory(pid(&child)?)?;
    stage.end(child).await?;

    // Part of the backlog is over before the first sample; with too few left the figures mean nothing.
    ensure!(began.distinct * 2 < messages, "{messages} messages are too few to measure");
    let counted = (ended.distinct - began.distinct) as f64;
    let per_delivery = |before: u64, after: u64| (after - before) as f64 / counted;
    Ok(Measured {
        per_second: ended.distinct as f64 * 1e9 / ended.span_ns as f64,
        connector_us: per_delivery(before.connector_us, after.connector_us),
        broker_us: per_delivery(before.broker_us, after.broker_us),
        receiver_us: per_delivery(before.receiver_us, after.receiver_us),
        peak_memory,
        duplicates: ended.received - ended.distinct,
    })
}

/// CPU time of the three processes at one moment.
struct Usage {
    connector_us: u64,
    broker_us: u64,
    receiver_us: u64,
}

impl Usage {
    fn of(stage: &Stage, connector: &Child) -> anyhow::Result<Self> {
        Ok(Self {
            connector_us: cpu_us(pid(connector)?)?,
            broker_us: cpu_us(pid(&stage.nats)?)?,
            receiver_us: cpu_us(pid(&stage.receiver)?)?,
        })
    }
}

fn pid(child: &Child) -> anyhow::Result<u32> {
    child.id().context("the process has ended")
}

/// Stores `messages` messages of `size` bytes.
pub(crate) async fn publish(stage: &Stage, messages: u64, size: usize) -> anyhow::Result<()> {
    let jetstream = &stage.jetstream;
    stream::iter(0..messages)
        .map(|number| async move {
            let stored = jetstream.publish(SUBJECT, payload::write(number, size)).await?;
            stored.await.map_err(anyhow::Error::from)
        })
        .buffered(PUBLISHES)
        .try_for_each(async |_| Ok(()))
        .await
}
