//! `natshook targets` and what it can do to them. Everything goes over NATS, so it works from any machine that reaches the
//! broker: running natshooks are asked how they stand, pauses are kept in the state bucket. `table` is how it is shown.

mod table;

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep};

use super::{Failure, Global, print, process};
use crate::{
    config::{Reach, SourceKind},
    connector::{PAUSE_KEY, STATUS, TEST, TestAnswer},
    source::{self, Audience, Broker, Bucket},
    status::{Pause, Snapshot},
};

/// How long natshook may take to answer at all.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long a test may take: the longest `timeout` of a target, and the way.
const TEST_WAIT: Duration = Duration::from_secs(310);
/// How often a live table is drawn anew.
const REFRESH: Duration = Duration::from_secs(2);
/// How long every replica may take to follow a pause before the command says that some have not.
const FOLLOW_WAIT: Duration = Duration::from_secs(5);

/// Show how the targets stand, pause and resume them, test them
///
/// Asks every running natshook of this `name`, over NATS: state, breaker, requests in flight, what waits and how old it
/// is, deliveries per second over a minute, the share of attempts that succeeded over five minutes, the last error. Needs
/// only `name`, `source` and `[nats]` of a config.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  natshook targets                    a table
  natshook targets --watch            the same, live
  natshook targets pause policy       nothing is sent to it until it is resumed; its messages wait
  natshook targets resume policy
  natshook targets test policy        one test request, sent by a running natshook")]
pub(super) struct Targets {
    /// Draw the table anew every two seconds, until Ctrl-C
    #[arg(long, short)]
    watch: bool,

    /// One JSON object for each replica, a line each
    #[arg(long, conflicts_with = "watch")]
    json: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send nothing to a target until it is resumed; its messages wait in their stream
    ///
    /// Holds for all replicas and survives restarts: it is kept in the key-value bucket <NAME>_STATE.
    Pause {
        /// The target's name
        target: String,
    },
    /// Let a paused target go on
    Resume {
        /// The target's name
        target: String,
    },
    /// Have a running natshook send one test request to a target, and print what it answered
    ///
    /// The request is made where natshook runs, with its credentials and its egress guard, past the target's lane.
    /// `natshook send` makes one from this machine. Exits 0 when the target answered with a 2xx.
    Test {
        /// The target's name
        target: String,
    },
}

/// An operator's way to natshook.
struct Office {
    reach: Reach,
    broker: Arc<Broker>,
}

impl Targets {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let target = match &self.action {
            None => None,
            Some(Action::Pause { target } | Action::Resume { target } | Action::Test { target }) => {
                Some(target.as_str())
            }
        };
        let reach = global.reach(target)?;
        process::block_on(async {
            let broker = Arc::new(source::connect(&reach.nats, &reach.name).await?.for_command());
            let office = Office { reach, broker };
            match &self.action {
                None if self.watch => office.watch().await,
                None => office.list(self.json).await,
                Some(Action::Pause { target }) => {
                    office.decide(target, Pause::Paused { since: SystemTime::now() }).await
                }
                Some(Action::Resume { target }) => {
                    office.decide(target, Pause::Lifted { at: SystemTime::now() }).await
                }
                Some(Action::Test { target }) => office.test(target).await,
            }
        })
    }
}

impl Office {
    async fn list(&self, json: bool) -> Result<(), Failure> {
        let replicas = self.replicas().await?;
        if replicas.is_empty() {
            return Err(self.nobody());
        }
        if json {
            let lines = replicas.iter().map(|replica| serde_json::to_string(replica).unwrap_or_default());
            return print(&(lines.collect::<Vec<_>>().join("\n") + "\n"));
        }
        print(&table::text(&replicas))
    }

    async fn watch(&self) -> Result<(), Failure> {
        let clear = if io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" };
        loop {
            let replicas = self.replicas().await?;
            let text =
                if replicas.is_empty() { format!("{}\n", self.nobody()) } else { table::text(&replicas) };
            print(&format!("{clear}{text}"))?;
            sleep(REFRESH).await;
        }
    }

    /// Keeps a pause, or its end, and waits until every running natshook obeys it.
    async fn decide(&self, target: &str, pause: Pause) -> Result<(), Failure> {
        if self.reach.source == SourceKind::Core {
            return Err(Failure::Usage(
                "a pause needs JetStream, where it is kept and where messages wait; this config has source = \"core\""
                    .to_owned(),
            ));
        }
        let replicas = self.replicas().await?;
        known(&replicas, target)?;
        let word = if pause.is_paused() { "paused" } else { "resumed" };
        let there = replicas.iter().flat_map(|replica| &replica.targets).filter(|t| t.name == target);
        if !replicas.is_empty() && there.clone().all(|t| t.paused == pause.is_paused()) {
            return print(&format!("{target}: {word} already\n"));
        }
        let Reach { name, state_replicas, .. } = &self.reach;
        let bucket = Bucket::decisions(Arc::clone(&self.broker), name, *state_replicas);
        bucket.ensure().await?;
        bucket.put(&format!("{PAUSE_KEY}{target}"), pause.to_json()).await?;
        if replicas.is_empty() {
            return print(&format!("{target}: {word}; no natshook answered, it holds when one starts\n"));
        }
        let (obeying, all) = self.obeyed(target, pause).await?;
        print(&format!("{target}: {word} on {obeying} of {all} replicas\n"))
    }

    /// How many replicas obey, of how many; waits a while for all.
    async fn obeyed(&self, target: &str, pause: Pause) -> Result<(usize, usize), Failure> {
        let deadline = Instant::now() + FOLLOW_WAIT;
        loop {
            let replicas = self.replicas().await?;
            let obeys = |replica: &&Snapshot| {
                replica.targets.iter().any(|t| t.name == target && t.paused == pause.is_paused())
            };
            let obeying = replicas.iter().filter(obeys).count();
            if obeying == replicas.len() || Instant::now() >= deadline {
                return Ok((obeying, replicas.len()));
            }
        }
    }

    async fn test(&self, target: &str) -> Result<(), Failure> {
        let subject = self.reach.name.control_subject(TEST);
        let question = bytes::Bytes::copy_from_slice(target.as_bytes());
        let answers = source::ask(&self.broker, subject, question, Audience::Any, TEST_WAIT).await?;
        let Some(answer) = answers.first() else { return Err(self.nobody()) };
        match serde_json::from_slice(answer) {
            Ok(TestAnswer::Report(report)) => {
                print(&table::report(target, &report))?;
                if report.delivered { Ok(()) } else { Err(Failure::NotDelivered("nothing was retried")) }
            }
            Ok(TestAnswer::Refused(why)) => Err(Failure::Usage(why)),
            Err(error) => Err(Failure::Answer(error.to_string())),
        }
    }

    /// How every running natshook stands, in the order of their names.
    async fn replicas(&self) -> Result<Vec<Snapshot>, Failure> {
        let subject = self.reach.name.control_subject(STATUS);
        let nothing = bytes::Bytes::new();
        let answers = source::ask(&self.broker, subject, nothing, Audience::All, ANSWER_WAIT).await?;
        let read = answers.iter().map(|answer| serde_json::from_slice(answer));
        let mut replicas =
            read.collect::<Result<Vec<Snapshot>, _>>().map_err(|error| Failure::Answer(error.to_string()))?;
        replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
        Ok(replicas)
    }

    fn nobody(&self) -> Failure {
        Failure::Nobody { name: self.reach.name.as_str().to_owned() }
    }
}

/// Refuses a name that no running natshook has, if any answered.
fn known(replicas: &[Snapshot], target: &str) -> Result<(), Failure> {
    let names: BTreeSet<&str> =
        replicas.iter().flat_map(|replica| &replica.targets).map(|target| target.name.as_str()).collect();
    if replicas.is_empty() || names.contains(target) {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    Err(Failure::Usage(format!("no target {target:?}; known are {}", names.join(", "))))
}
