//! What many targets cost in one process, and what replicas cost: the start, memory and CPU when nothing happens, CPU of
//! a delivery. Every target has a subject and a receiver's host of its own, and natshook makes the stream. Idle ones are
//! measured all at the same time, busy ones in turn.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use natshook_load::{host, payload};
use tokio::process::{Child, Command};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::figures::{Columns, Row};
use crate::process::{cpu_us, memory};
use crate::rig::{Rig, Stage, free_port};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "first start: stream and consumers made, ms", decimals: 0, wanted: "" },
    Row { name: "start where all is there, ms", decimals: 0, wanted: "" },
    Row { name: "end of an idle one, ms", decimals: 0, wanted: "" },
    Row { name: "idle: memory of a replica, MB", decimals: 1, wanted: "" },
    Row { name: "idle: memory per target above the first, KB", decimals: 1, wanted: "<= 50" },
    Row { name: "idle: CPU of natshook, % of a core", decimals: 2, wanted: "< 1" },
    Row { name: "idle: CPU of nats-server, % of a core", decimals: 2, wanted: "" },
    Row { name: "trickle: CPU µs per delivery, natshook", decimals: 1, wanted: "" },
    Row { name: "trickle: CPU µs per delivery, nats-server", decimals: 1, wanted: "" },
    Row { name: "trickle: publish to 2xx, p50, µs", decimals: 0, wanted: "" },
    Row { name: "trickle: publish to 2xx, p99, µs", decimals: 0, wanted: "" },
    Row { name: "rush: deliveries per second", decimals: 0, wanted: "" },
    Row { name: "rush: CPU µs per delivery, natshook", decimals: 1, wanted: "" },
    Row { name: "rush: CPU µs per delivery, nats-server", decimals: 1, wanted: "" },
    Row { name: "after the rush: memory of a replica, MB", decimals: 1, wanted: "" },
];

/// How many targets and replicas are measured, the single target first: memory is compared with it.
const CASES: &[Case] = &[
    Case { targets: 1, replicas: 1 },
    Case { targets: 100, replicas: 1 },
    Case { targets: 1_000, replicas: 1 },
    Case { targets: 1_000, replicas: 2 },
    Case { targets: 1_000, replicas: 4 },
];

/// What a start leaves behind is over by then.
const SETTLE: Duration = Duration::from_secs(5);
/// The longest that an idle natshook may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// The acks of the last deliveries are at the server by then.
const LAST_ACKS: Duration = Duration::from_millis(300);
/// The longest that messages may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds over which idle ones are measured; requests for messages are renewed every 30
    #[arg(long, default_value_t = 30)]
    pub(crate) idle: u64,
    /// Messages a second of the trickle, to the targets in turn
    #[arg(long, default_value_t = 1_000)]
    pub(crate) rate: u64,
    /// Seconds of the trickle
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Messages of the rush, to the targets in turn
    #[arg(long, default_value_t = 15_000)]
    pub(crate) messages: u64,
    /// Leave out cases with more targets
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    most_targets: usize,
    /// Leave out cases with more replicas
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    most_replicas: usize,
}

/// One column of the table.
#[derive(Debug, Clone, Copy)]
struct Case {
    targets: usize,
    replicas: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let Self { targets, replicas } = *self;
        write!(f, "{targets} target{}, {replicas} replica{}", plural(targets), plural(replicas))
    }
}

/// Measures every case `plan.rounds` times.
pub(crate) async fn table(rig: &Rig, plan: &Plan) -> anyhow::Result<String> {
    let wanted = |case: &&Case| case.targets <= plan.most_targets && case.replicas <= plan.most_replicas;
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    let mut columns = Columns::new(ROWS, cases.iter().map(ToString::to_string).collect());
    for turn in 1..=plan.rounds {
        for (column, figures) in round(rig, plan, &cases).await?.into_iter().enumerate() {
            columns.add(column, figures);
        }
        eprintln!("  round {turn} of {}", plan.rounds);
    }
    Ok(columns.table())
}

/// The figures of each case, in the order of `ROWS`.
async fn round(rig: &Rig, plan: &Plan, cases: &[&Case]) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut running = Vec::new();
    for &&case in cases {
        running.push(Running::start(rig, case).await.with_context(|| case.to_string())?);
    }
    measure_idle(&mut running, Duration::from_secs(plan.idle)).await?;
    let mut rows = Vec::new();
    for mut one in running {
        let case = one.case;
        one.measure_busy(rig, plan).await.with_context(|| case.to_string())?;
        rows.push(one.end().await?);
    }
    Ok(rows)
}

/// The processes of a case while a round lasts, and what was measured so far.
struct Running {
    case: Case,
    stage: Stage,
    replicas: Vec<Child>,
    figures: Vec<f64>,
}

/// CPU time so far of natshook, all replicas together, and of the server, in microseconds.
#[derive(Clone, Copy)]
struct Cpu {
    natshook: u64,
    server: u64,
}

impl Running {
    /// Starts natshook twice, and measures both: the first time it makes the stream and the consumers.
    async fn start(rig: &Rig, case: Case) -> anyhow::Result<Self> {
        let stage = rig.start_empty(case.targets).await?;
        stage.write_config(&config(&stage, case.targets))?;
        let (mut first, first_start) = start_replicas(rig, &stage, case.replicas).await?;
        let end = end_replicas(&mut first).await?;
        let (replicas, start) = start_replicas(rig, &stage, case.replicas).await?;
        eprintln!(
            "  {case}: ready after {first_start:.0} ms, ended in {end:.0}, ready again after {start:.0}"
        );
        Ok(Self { case, stage, replicas, figures: vec![first_start, start, end] })
    }

    fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut natshook = 0;
        for replica in &self.replicas {
            natshook += cpu_us(pid(replica)?)?;
        }
        Ok(Cpu { natshook, server: cpu_us(pid(&self.stage.nats)?)? })
    }

    /// The average of the replicas, in bytes.
    fn memory(&self) -> anyhow::Result<f64> {
        let mut sum = 0;
        for replica in &self.replicas {
            sum += memory(pid(replica)?)?;
        }
        Ok(sum as f64 / self.replicas.len() as f64)
    }

    /// A trickle, as targets mostly have it, and then as many messages as fast as they can be published.
    async fn measure_busy(&mut self, rig: &Rig, plan: &Plan) -> anyhow::Result<()> {
        let trickled = plan.rate * plan.seconds;
        let before = self.cpu()?;
        self.trickle(rig, plan).await?;
        let (natshook, server) = per_delivery(before, self.cpu()?, trickled);
        // The first second is warm-up: connections are made.
        let seen = self.stage.seen(plan.rate).await?;
        self.figures.extend([natshook, server, seen.p50_us as f64, seen.p99_us as f64]);

        let (before, began) = (self.cpu()?, Instant::now());
        self.publish(rig, trickled..trickled + plan.messages).await?;
        let seen = self.stage.until_seen(trickled + plan.messages, ARRIVE_WITHIN).await?;
        let took = began.elapsed();
        sleep(LAST_ACKS).await;
        let (natshook, server) = per_delivery(before, self.cpu()?, plan.messages);
        let per_second = plan.messages as f64 / took.as_secs_f64();
        self.figures.extend([per_second, natshook, server, self.memory()? / 1e6]);
        ensure!(seen.received == seen.distinct, "{} duplicates", seen.received - seen.distinct);
        Ok(())
    }

    async fn trickle(&self, rig: &Rig, plan: &Plan) -> anyhow::Result<()> {
        let messages = plan.rate * plan.seconds;
        let mut tick =
            interval(Duration::from_secs(1) / u32::try_from(plan.rate).context("too high a rate")?);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..messages {
            tick.tick().await;
            self.publish(rig, number..number + 1).await?;
        }
        self.stage.until_seen(messages, ARRIVE_WITHIN).await?;
        Ok(())
    }

    /// Publishes messages of these numbers, to the targets in turn.
    async fn publish(&self, rig: &Rig, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let client = self.stage.jetstream.client();
        for number in numbers {
            let target = usize::try_from(number)? % self.case.targets;
            client.publish(subject(target), payload::write(number, rig.place.size)).await?;
        }
        Ok(())
    }

    async fn end(mut self) -> anyhow::Result<Vec<f64>> {
        let last = self.replicas.pop().context("no replica")?;
        for mut replica in self.replicas {
            replica.kill().await.context("ending a replica")?;
        }
        self.stage.end(last).await?;
        Ok(self.figures)
    }
}

/// Memory and CPU of all cases while nothing happens, over the same `window`.
async fn measure_idle(running: &mut [Running], window: Duration) -> anyhow::Result<()> {
    sleep(SETTLE).await;
    let before = running.iter().map(Running::cpu).collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    sleep(window).await;
    let after = running.iter().map(Running::cpu).collect::<anyhow::Result<Vec<_>>>()?;
    let percent =
        |before: u64, after: u64| (after - before) as f64 / began.elapsed().as_micros() as f64 * 100.0;
    let alone = running.first().context("no case")?.memory()?;
    for ((one, before), after) in running.iter_mut().zip(before).zip(after) {
        let memory = one.memory()?;
        let further = one.case.targets - 1;
        let per_target = if further == 0 { f64::NAN } else { (memory - alone) / further as f64 / 1e3 };
        let natshook = percent(before.natshook, after.natshook);
        one.figures.extend([memory / 1e6, per_target, natshook, percent(before.server, after.server)]);
        eprintln!("  {}: {:.1} MB, {natshook:.2} % when idle", one.case, memory / 1e6);
    }
    Ok(())
}

/// Starts all replicas at once, and says how many milliseconds it took until the last one was ready.
async fn start_replicas(rig: &Rig, stage: &Stage, count: usize) -> anyhow::Result<(Vec<Child>, f64)> {
    let mut admins = Vec::new();
    for _ in 0..count {
        admins.push(format!("127.0.0.1:{}", free_port()?));
    }
    let began = Instant::now();
    let replicas = admins.iter().map(|admin| stage.start_replica(rig, admin));
    let replicas = replicas.collect::<anyhow::Result<Vec<_>>>()?;
    for admin in &admins {
        stage.until_ready(admin).await?;
    }
    Ok((replicas, began.elapsed().as_secs_f64() * 1e3))
}

/// Has all replicas drain at once, and says how many milliseconds it took until the last one had ended.
async fn end_replicas(replicas: &mut [Child]) -> anyhow::Result<f64> {
    let began = Instant::now();
    let pids = replicas.iter().map(|replica| Ok(pid(replica)?.to_string()));
    let pids = pids.collect::<anyhow::Result<Vec<_>>>()?;
    Command::new("kill").arg("-TERM").args(pids).status().await.context("sending SIGTERM")?;
    for replica in replicas {
        let status = timeout(ENDS_WITHIN, replica.wait()).await.context("natshook does not end")??;
        ensure!(status.success(), "natshook ended with {status}");
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Microseconds of natshook and of the server.
fn per_delivery(before: Cpu, after: Cpu, deliveries: u64) -> (f64, f64) {
    let each = |before: u64, after: u64| (after - before) as f64 / deliveries as f64;
    (each(before.natshook, after.natshook), each(before.server, after.server))
}

fn config(stage: &Stage, targets: usize) -> String {
    let mut config = stage.head();
    for number in 0..targets {
        let (subject, host) = (subject(number), host(number));
        let port = stage.receiver_port();
        config.push_str(&format!(
            "\n[[targets]]\nname = \"t{number}\"\nsubjects = [\"{subject}\"]\nurl = \"http://{host}:{port}/\"\n"
        ));
    }
    config
}

fn subject(target: usize) -> String {
    format!("bench.t{target}")
}

fn pid(child: &Child) -> anyhow::Result<u32> {
    child.id().context("the process has ended")
}
