//! `natshook dead-letters list`.

use clap::Args;

use super::{Desk, Filters, shown};
use crate::cli::{Failure, print_on};

/// How many letters are asked for and printed at a time.
const PAGE: usize = 512;

/// List dead letters, the oldest first
///
/// A line for each. With --json each line is an object with all that is known: id, stored, target, reason, attempts,
/// first_attempt, last_attempt, last_status, last_error, response, subject, stream, sequence, published, replayed,
/// webhook_id, omitted_body, omitted_headers, headers (name to list of values), and the body: as text in `body` where
/// it is UTF-8, else in `body_base64`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters list
  natshook dead-letters list --target policy --reason permanent_status --since 2h
  natshook dead-letters list --json --limit 100 --after 5000")]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Only those after this id
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    after: u64,
}

impl List {
    pub(super) async fn execute(&self, desk: &Desk) -> Result<(), Failure> {
        let selection = desk.selection(&self.filters).await?;
        let mut left = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (mut after, mut heading) = (self.after, !self.json);
        while left > 0 {
            let page = desk.office.page(&selection, after, PAGE.min(left)).await?;
            left -= page.letters.len();
            let mut text = if std::mem::take(&mut heading) { shown::heading() } else { String::new() };
            for letter in &page.letters {
                text.push_str(&if self.json { shown::json(letter) } else { shown::line(letter) });
            }
            let goes_on = print_on(text.as_bytes())?;
            match page.next {
                Some(next) if goes_on => after = next,
                Some(_) | None => break,
            }
        }
        Ok(())
    }
}
