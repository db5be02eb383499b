//! What a sick target costs nine healthy ones: the same work with and without it, side by side.

use std::fmt::{self, Write};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use natshook_load::{Seen, payload};
use tokio::time::{MissedTickBehavior, interval};

use crate::backlog;
use crate::figures::{median, spread};
use crate::rig::{Rig, SUBJECT, Stage};

/// Healthy targets.
const HEALTHY: u64 = 9;

/// A way for the tenth target to be sick for the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sickness {
    Dead,
    Failing,
    Throttling,
    Slow,
    Silent,
    Closing,
}

impl Sickness {
    /// The path at which the receiver behaves so; none where nobody listens.
    fn path(self) -> Option<&'static str> {
        match self {
            Self::Dead => None,
            Self::Failing => Some("sick/500"),
            Self::Throttling => Some("sick/429"),
            Self::Slow => Some("sick/slow"),
            Self::Silent => Some("sick/silent"),
            Self::Closing => Some("sick/close"),
        }
    }
}

impl fmt::Display for Sickness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dead => "dead: refuses connections",
            Self::Failing => "answers 500",
            Self::Throttling => "answers 429",
            Self::Slow => "answers after 5 s",
            Self::Silent => "never answers",
            Self::Closing => "closes without an answer",
        })
    }
}

/// How much is measured.
pub(crate) struct Plan {
    /// Messages a second, each for every target, in the latency runs.
    pub(crate) rate: u64,
    /// How long they last.
    pub(crate) seconds: u64,
    /// Messages of the backlog in the throughput runs.
    pub(crate) messages: u64,
    /// Pairs of runs for each figure and sickness.
    pub(crate) runs: usize,
    /// The one that is measured; all where it is left out.
    pub(crate) sickness: Option<Sickness>,
}

/// The figures of one sickness, pair by pair.
#[derive(Default)]
struct Pairs {
    p99_without: Vec<f64>,
    p99_with: Vec<f64>,
    rate_without: Vec<f64>,
    rate_with: Vec<f64>,
}

pub(crate) async fn table(rig: &Rig, plan: &Plan) -> anyhow::Result<String> {
    let mut table = String::from(
        "| the tenth target                 | p99 without, µs | p99 with, µs | ratio                 | \
         deliveries/s without | deliveries/s with | ratio                 |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for &sickness in Sickness::value_variants() {
        if plan.sickness.is_some_and(|only| only != sickness) {
            continue;
        }
        let pairs = pairs(rig, plan, sickness).await.with_context(|| sickness.to_string())?;
        let ratios = |with: &[f64], without: &[f64]| with.iter().zip(without).map(|(a, b)| a / b).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {sickness:<32} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {} |",
            median(pairs.p99_without.clone()),
            median(pairs.p99_with.clone()),
            spread(ratios(&pairs.p99_with, &pairs.p99_without), 2),
            median(pairs.rate_without.clone()),
            median(pairs.rate_with.clone()),
            spread(ratios(&pairs.rate_with, &pairs.rate_without), 2),
        );
    }
    Ok(table)
}

async fn pairs(rig: &Rig, plan: &Plan, sickness: Sickness) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::default();
    for turn in 0..plan.runs {
        // At the same time, so that both have the same share of whatever else the machine does.
        let (without, with) = tokio::try_join!(latency(rig, plan, None), latency(rig, plan, Some(sickness)))?;
        pairs.p99_without.push(without.p99_us as f64);
        pairs.p99_with.push(with.p99_us as f64);
        // In turn, and the other one first each time: each of them wants the whole machine.
        let (without, with) = if turn % 2 == 0 {
            let without = throughput(rig, plan, None).await?;
            (without, throughput(rig, plan, Some(sickness)).await?)
        } else {
            let with = throughput(rig, plan, Some(sickness)).await?;
            (throughput(rig, plan, None).await?, with)
        };
        pairs.rate_without.push(without);
        pairs.rate_with.push(with);
        eprintln!(
            "  {sickness:<25} p99 {:.0} and {:.0} µs, {without:.0} and {with:.0}/s",
            pairs.p99_without[turn], pairs.p99_with[turn]
        );
    }
    Ok(pairs)
}

/// A steady trickle to all targets.
async fn latency(rig: &Rig, plan: &Plan, sick: Option<Sickness>) -> anyhow::Result<Seen> {
    let stage = rig.start().await?;
    let child = stage.start_natshook(rig, &config(&stage, sick)?)?;
    for target in 0..HEALTHY {
        stage.until_pulling_as(&format!("natshook-healthy{target}")).await?;
    }
    let messages = plan.rate * plan.seconds;
    let client = stage.jetstream.client();
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(plan.rate).context("too high a rate")?);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..messages {
        tick.tick().await;
        client.publish(SUBJECT, payload::write(number, rig.place.size)).await?;
    }
    stage.until_seen(messages * HEALTHY, Duration::from_secs(30)).await?;
    // The first second is warm-up.
    let seen = stage.seen(plan.rate * HEALTHY).await?;
    ensure!(seen.received == seen.distinct, "{} duplicates", seen.received - seen.distinct);
    stage.end(child).await?;
    Ok(seen)
}

/// A backlog for all targets; deliveries a second to the healthy ones.
async fn throughput(rig: &Rig, plan: &Plan, sick: Option<Sickness>) -> anyhow::Result<f64> {
    let stage = rig.start().await?;
    backlog::publish(&stage, plan.messages, rig.place.size).await.context("laying the backlog")?;
    let child = stage.start_natshook(rig, &config(&stage, sick)?)?;
    let limit = Duration::from_secs(60 + plan.messages * HEALTHY / 1_000);
    let seen = stage.until_seen(plan.messages * HEALTHY, limit).await?;
    stage.end(child).await?;
    Ok(seen.distinct as f64 * 1e9 / seen.span_ns as f64)
}

/// Nine healthy targets, and the sick one if there is to be one, all for every message.
fn config(stage: &Stage, sick: Option<Sickness>) -> anyhow::Result<String> {
    let mut config = stage.head();
    let mut target = |name: &str, url: &str| {
        config.push_str(&format!(
            "\n[[targets]]\nname = \"{name}\"\nsubjects = [\"{SUBJECT}\"]\nurl = \"{url}\"\nstart = \"all\"\n"
        ));
    };
    for number in 0..HEALTHY {
        target(&format!("healthy{number}"), &format!("{}{number}/{HEALTHY}", stage.receiver_url));
    }
    match sick.map(Sickness::path) {
        None => {}
        Some(Some(path)) => target("sick", &format!("{}{path}", stage.receiver_url)),
        Some(None) => target("sick", &format!("http://127.0.0.1:{}/", crate::rig::free_port()?)),
    }
    Ok(config)
}
