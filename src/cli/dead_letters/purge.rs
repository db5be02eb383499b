//! `natshook dead-letters purge`.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::{Choice, Chosen, Desk};
use crate::{
    cli::{Failure, print, progress::Progress},
    dead_letter::Selection,
};

/// Throw dead letters away
///
/// For good. On a terminal it asks first; elsewhere it needs --yes. Letters that are stored after the command began
/// stay.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters purge 17
  natshook dead-letters purge --target policy
  natshook dead-letters purge --before 30d --yes")]
pub(super) struct Purge {
    #[command(flatten)]
    chosen: Chosen,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Purge {
    pub(super) async fn execute(&self, desk: &Desk) -> Result<(), Failure> {
        let choice = self.chosen.choice(desk).await?;
        let last = desk.office.last().await?;
        if !self.yes && !is_wanted(&named(desk, &choice).await?)? {
            return print("nothing purged\n");
        }
        let purged = match choice {
            Choice::Ids(ids) => purge_ids(desk, ids).await?,
            Choice::Selection(selection) => purge_selection(desk, &selection, last).await?,
        };
        print(&format!("{purged} purged\n"))
    }
}

async fn purge_ids(desk: &Desk, ids: &[u64]) -> Result<u64, Failure> {
    let mut purged = 0;
    for id in ids {
        if !desk.office.remove(*id).await? {
            return Err(Failure::NoLetter(*id));
        }
        purged += 1;
    }
    Ok(purged)
}

async fn purge_selection(desk: &Desk, selection: &Selection, last: u64) -> Result<u64, Failure> {
    let mut progress = Progress::new("dead letters", None);
    let purged = desk.office.purge(selection, last, |purged| progress.set(purged)).await;
    progress.finish();
    Ok(purged?)
}

/// What was chosen, in words.
async fn named(desk: &Desk, choice: &Choice<'_>) -> Result<String, Failure> {
    let selection = match choice {
        Choice::Ids([id]) => return Ok(format!("dead letter {id}")),
        Choice::Ids(ids) => return Ok(format!("{} dead letters", ids.len())),
        Choice::Selection(selection) => selection,
    };
    Ok(match (desk.total(selection).await?, &selection.target) {
        (Some(count), Some(target)) => format!("all {count} dead letters of target {target}"),
        (Some(count), None) => format!("ALL {count} dead letters, of every target"),
        (None, _) => "all dead letters of this selection".to_owned(),
    })
}

/// Asks whoever sits at the terminal.
fn is_wanted(what: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("purging is for good; say --yes where nobody can be asked".to_owned()));
    }
    let _ = write!(io::stderr(), "purge {what}? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
