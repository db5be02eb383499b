//! `natshook dead-letters watch`.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::{Desk, reason, shown};
use crate::{
    cli::{Failure, print_on},
    config::SourceKind,
    dead_letter::{OfficeError, Selection},
    disposition::Reason,
    envelope::{DeadLetter, read_letter},
    source,
    target::TargetName,
};

/// How often the stream is asked for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many are asked for at a time.
const AHEAD: usize = 8;

/// Print dead letters as they are stored
///
/// Until it is interrupted. A line for each, or a JSON object as `list --json` has it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters watch --target policy
  natshook dead-letters watch --json | jq -r '[.target, .last_error] | @tsv'")]
pub(super) struct Watch {
    /// Only those of this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,

    /// Only those given up for this reason
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<Reason>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub(super) async fn execute(&self, desk: &Desk) -> Result<(), Failure> {
        let target = match &self.target {
            None => None,
            Some(name) => Some(desk.target(name).await?),
        };
        let selection = Selection { target, reason: self.reason, ..Selection::default() };
        match desk.config.source {
            SourceKind::JetStream => self.watch_stream(desk, &selection).await,
            SourceKind::Core => self.watch_subject(desk, &selection).await,
        }
    }

    async fn watch_stream(&self, desk: &Desk, selection: &Selection) -> Result<(), Failure> {
        let mut after = match desk.office.last().await {
            Ok(last) => last,
            // Made with the first letter, or when natshook starts.
            Err(OfficeError::NoStream(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut goes_on = self.print_heading()?;
        let mut round = desk.office.round(selection, after, AHEAD).await?;
        while goes_on {
            match round.next().await {
                Ok(Some(letter)) => {
                    after = letter.id;
                    goes_on = self.print(&letter)?;
                    continue;
                }
                Ok(None) => {}
                // Another stream counts from 1 anew.
                Err(OfficeError::NoStream(_)) if after > 0 => {
                    after = 0;
                    round = desk.office.round(selection, after, AHEAD).await?;
                }
                Err(OfficeError::NoStream(_)) => {}
                Err(error) => tracing::warn!(%error, "cannot look for dead letters; looking again"),
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Without JetStream nobody keeps them: they are seen as they are published.
    async fn watch_subject(&self, desk: &Desk, selection: &Selection) -> Result<(), Failure> {
        let target = selection.target.as_ref().map_or("*", TargetName::as_str);
        let mut watch =
            source::Watch::new(&desk.broker, desk.config.name.dead_letter_subject(target)).await?;
        if !self.print_heading()? {
            return Ok(());
        }
        while let Some(message) = watch.next().await {
            let letter = read_letter(message);
            if selection.holds(&letter) && !self.print(&letter)? {
                break;
            }
        }
        Ok(())
    }

    fn print_heading(&self) -> Result<bool, Failure> {
        if self.json { Ok(true) } else { print_on(shown::heading().as_bytes()) }
    }

    fn print(&self, letter: &DeadLetter) -> Result<bool, Failure> {
        let text = if self.json { shown::json(letter) } else { shown::line(letter) };
        print_on(text.as_bytes())
    }
}
