//! `natshook dead-letters`: one file per subcommand, and here what they share: how letters are selected, and how the
//! broker is asked. `shown` is how a letter looks.

mod list;
mod purge;
mod replay;
mod show;
mod shown;
mod watch;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};

use super::{Failure, Global, process, target};
use crate::{
    config::{self, Reach, SourceKind},
    dead_letter::{DeadLetterOffice, OfficeError, Selection},
    disposition::Reason,
    source::{self, Broker},
    target::{Rate, TargetName},
};

/// Look at what was given up, send it again, or throw it away
///
/// Dead letters are messages that a target did not get: the attempts were used up, or the receiver refused them for
/// good. They are kept in a stream. The commands need the same config file as `natshook run` and work from any machine
/// that reaches the broker, while natshook runs and while it does not.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters list --target policy --since 2h
  natshook dead-letters show 17
  natshook dead-letters replay --target policy --reason attempts_exhausted --rate 50/s
  natshook dead-letters list --json | jq -r .subject | sort | uniq -c
  natshook dead-letters purge --before 30d --yes")]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Watch(watch::Watch),
    Replay(replay::Replay),
    Purge(purge::Purge),
}

impl DeadLetters {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.reach(None)?;
        process::block_on(async {
            let broker = Arc::new(source::connect(&config.nats, &config.name).await?.for_command());
            let desk = Desk {
                office: DeadLetterOffice::new(Arc::clone(&broker), config.name.clone()),
                broker,
                config,
            };
            match &self.command {
                Command::List(command) => command.execute(&desk).await,
                Command::Show(command) => command.execute(&desk).await,
                Command::Watch(command) => command.execute(&desk).await,
                Command::Replay(command) => command.execute(&desk).await,
                Command::Purge(command) => command.execute(&desk).await,
            }
        })
    }
}

/// What every subcommand works with.
struct Desk {
    config: Reach,
    broker: Arc<Broker>,
    office: DeadLetterOffice,
}

impl Desk {
    /// The targets of the config, and those that have registered as far as a running natshook tells.
    async fn known(&self) -> Result<Vec<TargetName>, Failure> {
        let mut known = self.config.targets.clone();
        if self.config.registry {
            known.extend(target::registered(&self.broker, &self.config.name).await?);
        }
        Ok(known)
    }

    /// The selection that the arguments mean.
    async fn selection(&self, filters: &Filters) -> Result<Selection, Failure> {
        let Filters { target, reason, since, before } = filters;
        let target = match target {
            None => None,
            Some(name) => Some(self.target(name).await?),
        };
        Ok(Selection { target, reason: *reason, since: *since, before: *before })
    }

    /// A target of the config, or one that left it and still has dead letters.
    async fn target(&self, name: &str) -> Result<TargetName, Failure> {
        let known = self.known().await?;
        let mut known: BTreeSet<String> = known.iter().map(ToString::to_string).collect();
        match (TargetName::new(name), known.contains(name)) {
            (Some(target), true) => return Ok(target),
            (Some(target), false) => {
                let stored = self.office.targets().await.unwrap_or_default();
                if stored.contains_key(name) {
                    return Ok(target);
                }
                known.extend(stored.into_keys());
            }
            (None, _) => {}
        }
        let known: Vec<String> = known.into_iter().collect();
        Err(Failure::Usage(format!("no target {name:?}; known are {}", known.join(", "))))
    }

    /// How many letters `selection` has, where the broker tells without reading them.
    async fn total(&self, selection: &Selection) -> Result<Option<u64>, OfficeError> {
        let Selection { target, reason: None, since: None, before: None } = selection else {
            return Ok(None);
        };
        let counts = self.office.targets().await?;
        Ok(Some(match target {
            Some(target) => counts.get(target.as_str()).copied().unwrap_or_default(),
            None => counts.values().sum(),
        }))
    }

    fn needs_retry_queue(&self) -> Result<(), Failure> {
        match self.config.source {
            SourceKind::JetStream => Ok(()),
            SourceKind::Core => Err(Failure::NoRetryQueue),
        }
    }
}

/// Which dead letters are meant.
#[derive(Args, Debug)]
struct Filters {
    /// Only those of this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// Only those given up for this reason
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<Reason>,

    /// Only those stored since: a span such as 2h or 3d, or a time such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<SystemTime>,

    /// Only those stored before: a span or a time, as for --since
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    before: Option<SystemTime>,
}

impl Filters {
    fn is_given(&self) -> bool {
        let Self { target, reason, since, before } = self;
        target.is_some() || reason.is_some() || since.is_some() || before.is_some()
    }
}

/// Which dead letters a command changes: they have to be named, one way or another.
#[derive(Args, Debug)]
struct Chosen {
    /// The ids, as `list` shows them
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    ids: Vec<u64>,

    #[command(flatten)]
    filters: Filters,

    /// All of them
    #[arg(long)]
    all: bool,
}

/// What was chosen.
enum Choice<'a> {
    Ids(&'a [u64]),
    Selection(Selection),
}

impl Chosen {
    async fn choice(&self, desk: &Desk) -> Result<Choice<'_>, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        match (self.ids.is_empty(), self.filters.is_given(), self.all) {
            (false, false, false) => Ok(Choice::Ids(&self.ids)),
            (true, true, false) => Ok(Choice::Selection(desk.selection(&self.filters).await?)),
            (true, false, true) => Ok(Choice::Selection(Selection::default())),
            (true, false, false) => {
                usage("say which dead letters: ids, --target, --reason, --since, --before, or --all")
            }
            _ => usage("ids, filters and --all do not go together; give one of them"),
        }
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == text)
        .ok_or_else(|| format!("no such reason; known are {}", Reason::ALL.map(Reason::as_str).join(", ")))
}

/// A span before now, or a time.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    let ago = humantime::parse_duration(text).ok().and_then(|span: Duration| now.checked_sub(span));
    ago.or_else(|| config::rfc3339(text))
        .ok_or_else(|| "expected a span such as 2h or 3d, or a time such as 2026-01-31T08:00:00Z".to_owned())
}

/// How many in which time.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    config::rate(text).ok_or_else(|| "expected a rate such as 50/s, 30/m or 5/h".to_owned())
}
