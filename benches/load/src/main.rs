//! `load`: runs natshook and the bare loop in turn on the same work, and prints what each of them
//! cost. Every process is started fresh for each run, on 127.0.0.1, and ends with it. Linux only
//! (CPU time and peak memory come from /proc).

mod backlog;
mod figures;
mod isolation;
mod latency;
mod process;
mod rig;
mod scale;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::rig::{Connector, Rig};

/// Measures natshook against a bare loop of async-nats and reqwest.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A backlog, natshook and the bare loop in turn: throughput, CPU, peak memory
    Backlog(Backlog),
    /// natshook alone on a large backlog: does its memory grow with it?
    Memory(Memory),
    /// A steady trickle, natshook and the bare loop in turn: publish to 2xx
    Latency(Latency),
    /// Nine healthy targets with and without a sick tenth: latency and throughput of the nine
    Isolation(Isolation),
    /// 1, 100 and 1,000 targets, and 2 and 4 replicas: start, memory and CPU when idle, CPU of a delivery
    Scale(scale::Plan),
    /// Backlog, memory and latency
    All(Backlog),
}

#[derive(Debug, Clone, Args)]
struct Place {
    /// The natshook binary, a release build
    #[arg(long, global = true, env = "NATSHOOK_BIN", default_value = "target/release/natshook")]
    natshook: PathBuf,
    /// The nats-server binary
    #[arg(long, global = true, env = "NATSHOOK_NATS_SERVER", default_value = "target/tools/nats-server")]
    nats_server: PathBuf,
    /// Where the streams are stored while a run lasts: a real disk, not a tmpfs
    #[arg(long, global = true, default_value = "target/load-store")]
    store: PathBuf,
    /// Requests in flight
    #[arg(long, global = true, default_value_t = 64)]
    concurrency: usize,
    /// Bytes of a message
    #[arg(long, global = true, default_value_t = 1024)]
    size: usize,
    /// Run only one side, to profile it or to try the bench
    #[arg(long, global = true)]
    only: Option<Connector>,
}

#[derive(Debug, Args)]
struct Backlog {
    /// Messages that wait when the connector starts
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Runs of each side
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

#[derive(Debug, Args)]
struct Memory {
    /// Messages that wait when natshook starts
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
}

#[derive(Debug, Args)]
struct Latency {
    /// Messages a second
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// Seconds of publishing in each run
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Runs of each side
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Debug, Args)]
struct Isolation {
    /// Messages a second to each target in the latency runs
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Seconds of publishing in each latency run
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Messages that wait for each target in the throughput runs
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
    /// Pairs of runs for each sickness
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Measure one sickness alone
    #[arg(long)]
    sickness: Option<isolation::Sickness>,
}

const MEMORY: Memory = Memory { messages: 1_000_000 };
const LATENCY: Latency = Latency { rate: 500, seconds: 20, runs: 3 };

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // Leaving through here, and not through the signal's own end of the process, ends the children.
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = run(&cli) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let rig = Rig::new(cli.place.clone())?;
    println!("{}", rig.describe());
    match &cli.what {
        What::Backlog(args) => compare_backlog(&rig, args).await,
        What::Memory(args) => measure_memory(&rig, args).await,
        What::Latency(args) => compare_latency(&rig, args).await,
        What::Isolation(args) => measure_isolation(&rig, args).await,
        What::Scale(plan) => measure_scale(&rig, plan).await,
        What::All(args) => {
            compare_backlog(&rig, args).await?;
            measure_memory(&rig, &MEMORY).await?;
            compare_latency(&rig, &LATENCY).await
        }
    }
}

async fn compare_backlog(rig: &Rig, args: &Backlog) -> anyhow::Result<()> {
    println!(
        "\nBacklog: {} messages of {} bytes, {} in flight, {} runs each, interleaved",
        args.messages, rig.place.size, rig.place.concurrency, args.runs
    );
    let mut runs = figures::Pairs::new(backlog::ROWS);
    for turn in 0..args.runs {
        for connector in rig.turn(turn) {
            let measured = backlog::run(rig, connector, args.messages)
                .await
                .with_context(|| format!("backlog, {connector}, run {}", turn + 1))?;
            eprintln!("  {connector:<8} {measured}");
            runs.add(connector, measured.figures());
        }
    }
    println!("{}", runs.table());
    println!("CPU is counted from the first delivery to the last ack, so without either side's start.");
    Ok(())
}

async fn measure_isolation(rig: &Rig, args: &Isolation) -> anyhow::Result<()> {
    let Isolation { rate, seconds, messages, runs, sickness } = *args;
    println!(
        "\nIsolation: nine healthy targets with and without a sick tenth. Latency from publish to 2xx at {rate} messages a \
         second to each target for {seconds} s, both sides at the same time; throughput over a backlog of {messages} \
         messages for each target, in turn. {runs} pairs for each, medians, ratios as median (min to max).\n"
    );
    println!(
        "{}",
        isolation::table(rig, &isolation::Plan { rate, seconds, messages, runs, sickness }).await?
    );
    Ok(())
}

async fn measure_scale(rig: &Rig, plan: &scale::Plan) -> anyhow::Result<()> {
    println!(
        "\nScale: {} rounds. Idle: over {} s, all cases at the same time. Trickle: {} messages a second for {} s, to the \
         targets in turn. Rush: {} messages as fast as they can be published. CPU is that of all replicas together.\n",
        plan.rounds, plan.idle, plan.rate, plan.seconds, plan.messages
    );
    println!("{}", scale::table(rig, plan).await?);
    Ok(())
}

async fn measure_memory(rig: &Rig, args: &Memory) -> anyhow::Result<()> {
    println!("\nMemory: natshook alone, a backlog of {} messages of {} bytes", args.messages, rig.place.size);
    let measured = backlog::run(rig, Connector::Natshook, args.messages).await.context("memory run")?;
    println!("  {measured}");
    Ok(())
}

async fn compare_latency(rig: &Rig, args: &Latency) -> anyhow::Result<()> {
    println!(
        "\nLatency: {} messages a second for {} s, {} runs each, interleaved",
        args.rate, args.seconds, args.runs
    );
    let mut runs = figures::Pairs::new(latency::ROWS);
    for turn in 0..args.runs {
        for connector in rig.turn(turn) {
            let measured = latency::run(rig, connector, args.rate, Duration::from_secs(args.seconds))
                .await
                .with_context(|| format!("latency, {connector}, run {}", turn + 1))?;
            eprintln!("  {connector:<8} {measured}");
            runs.add(connector, measured.figures());
        }
    }
    println!("{}", runs.table());
    println!(
        "From the moment of publishing to the moment the receiver answers; the first second is warm-up."
    );
    Ok(())
}
