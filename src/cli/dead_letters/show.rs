//! `natshook dead-letters show`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::{Desk, shown};
use crate::cli::{Failure, paint::harmless, print, print_on};

/// Show one dead letter
///
/// All that is known of it, the message's own headers, and the beginning of the body.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters show 17
  natshook dead-letters show 17 --body > body.json
  natshook dead-letters show 17 --json | jq .headers")]
pub(super) struct Show {
    /// Its id, as `list` shows it
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,

    /// As a JSON object, as `list --json` has it
    #[arg(long, conflicts_with = "body")]
    json: bool,

    /// The body and nothing else: its exact bytes, unless stdout is a terminal
    #[arg(long)]
    body: bool,
}

impl Show {
    pub(super) async fn execute(&self, desk: &Desk) -> Result<(), Failure> {
        let Some(letter) = desk.office.get(self.id).await? else { return Err(Failure::NoLetter(self.id)) };
        if self.json {
            return print(&shown::json(&letter));
        }
        if !self.body {
            return print(&shown::page(&letter));
        }
        if io::stdout().is_terminal() {
            for line in String::from_utf8_lossy(&letter.payload).lines() {
                print(&format!("{}\n", harmless(line)))?;
            }
            return Ok(());
        }
        print_on(&letter.payload).map(drop)
    }
}
