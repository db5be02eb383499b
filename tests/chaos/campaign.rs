//! A fault's row in the table: its seeds run side by side in small groups, and what they came to is added up and
//! written to `target/chaos/`.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::ledger::Tally;

/// What one seed came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) tally: Tally,
    /// The most duplicates that there may be.
    pub(crate) bound: usize,
    /// From the end of the fault until everything was settled; `None` where it lasts from beginning to end.
    pub(crate) recovery: Option<Duration>,
}

/// A number from the environment, or its default.
fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: a number is wanted, not {text:?}")),
        Err(_) => default,
    }
}

/// How many messages each seed publishes.
pub(crate) fn messages() -> usize {
    setting("NATSHOOK_CHAOS_MESSAGES", 200)
}

/// Whether this is the campaign behind the table, and not the short one that every test run makes.
pub(crate) fn is_long() -> bool {
    seeds() > 1
}

fn seeds() -> usize {
    setting("NATSHOOK_CHAOS_SEEDS", 1)
}

/// Runs `one` for each seed and writes the row. `place` orders the rows.
pub(crate) async fn campaign(place: &str, fault: &str, one: impl AsyncFn(u64) -> Run) {
    let at_once = setting("NATSHOOK_CHAOS_AT_ONCE", 3);
    let runs = stream::iter(1..=seeds() as u64).map(|seed| {
        let run = one(seed);
        async move {
            println!("{fault}: seed {seed} begins");
            let run = run.await;
            println!("{fault}: seed {seed}: {run:?}");
            run
        }
    });
    let runs: Vec<Run> = runs.buffer_unordered(at_once).collect().await;
    let folder = std::env::var_os("NATSHOOK_CHAOS_ROWS")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../chaos"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("the folder for rows can be made");
    std::fs::write(folder.join(format!("{place}.row")), row(fault, &runs)).expect("the row can be written");
}

fn row(fault: &str, runs: &[Run]) -> String {
    let sum = |part: fn(&Run) -> usize| runs.iter().map(part).sum::<usize>();
    let mut recoveries: Vec<Duration> = runs.iter().filter_map(|run| run.recovery).collect();
    recoveries.sort();
    let recovery = match recoveries.last() {
        None => "–".to_owned(),
        Some(max) => {
            let median = recoveries[recoveries.len() / 2];
            format!("{:.1} s / {:.1} s", median.as_secs_f64(), max.as_secs_f64())
        }
    };
    let lost = match sum(|run| run.tally.taken) {
        0 => sum(|run| run.tally.lost).to_string(),
        taken => format!("{} (+{taken} *)", sum(|run| run.tally.lost)),
    };
    format!(
        "| {fault} | {} | {} | {} | {} | {} | {} | {} | {recovery} |\n",
        runs.len(),
        sum(|run| run.tally.messages),
        sum(|run| run.tally.delivered),
        sum(|run| run.tally.dead_lettered),
        lost,
        sum(|run| run.tally.duplicates),
        sum(|run| run.bound),
    )
}
