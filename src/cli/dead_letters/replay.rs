//! `natshook dead-letters replay`.

use clap::Args;

use super::{Choice, Chosen, Desk, rate};
use crate::{
    cli::{Failure, print, progress::Progress},
    dead_letter::{self, Pace, Replayed, Selection, Tally},
    envelope::NotReplayable,
    target::Rate,
};

/// How many letters a dry run looks at, at a time.
const PAGE: usize = 256;

/// Send dead letters to their targets again
///
/// Each goes onto the retry queue, due now, with its attempts reset and its age counted from now, under the same
/// webhook-id; it then is no dead letter any more. A running natshook attempts it at once, else the next one to start.
/// Interrupted at any moment and run again it neither loses a message nor sends one twice.
///
/// What cannot be replayed stays where it is and is named, and the exit code is 1.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dead-letters replay 17 18
  natshook dead-letters replay --target policy --since 2h --rate 50/s
  natshook dead-letters replay --reason attempts_exhausted --dry-run
  natshook dead-letters replay --all")]
pub(super) struct Replay {
    #[command(flatten)]
    chosen: Chosen,

    /// At most so many: 50/s, 30/m, 5/h [default: as fast as the broker stores them]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,

    /// Say what would be replayed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Replay {
    pub(super) async fn execute(&self, desk: &Desk) -> Result<(), Failure> {
        desk.needs_retry_queue()?;
        let choice = self.chosen.choice(desk).await?;
        let known = desk.known().await?;
        let replay = match &choice {
            Choice::Ids(_) => desk.office.begin_replay(&Selection::default(), known).await?,
            Choice::Selection(selection) => desk.office.begin_replay(selection, known).await?,
        };
        let tally = match choice {
            Choice::Ids(ids) => self.ids(desk, &replay, ids).await?,
            Choice::Selection(selection) if self.dry_run => dry_run(desk, &replay, &selection).await?,
            Choice::Selection(selection) => self.selection(desk, &replay, &selection).await?,
        };
        print(&summary(&tally, self.dry_run))?;
        match tally.refused + if self.chosen.ids.is_empty() { 0 } else { tally.missing } {
            0 => Ok(()),
            left => Err(Failure::NotReplayed(left)),
        }
    }

    async fn ids(&self, desk: &Desk, replay: &dead_letter::Replay, ids: &[u64]) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let progress = Progress::new("dead letters", Some(ids.len() as u64));
        let mut turns = Pace { rate: self.rate }.turns();
        for id in ids {
            let replayed = if self.dry_run {
                foreseen(desk, replay, *id).await?
            } else {
                turns.next().await;
                replay.one(*id).await?
            };
            tell(&progress, *id, &replayed);
            tally.count(&replayed);
        }
        progress.finish();
        Ok(tally)
    }

    async fn selection(
        &self,
        desk: &Desk,
        replay: &dead_letter::Replay,
        selection: &Selection,
    ) -> Result<Tally, Failure> {
        let mut progress = Progress::new("dead letters", desk.total(selection).await?);
        let pace = Pace { rate: self.rate };
        let told = |id, replayed: &Replayed| {
            // One that was removed meanwhile was somebody else's to tell of.
            if matches!(replayed, Replayed::Refused(_)) {
                tell(&progress, id, replayed);
            }
            progress.one_more();
        };
        let tally = replay.selection(selection, &pace, told).await;
        progress.finish();
        Ok(tally?)
    }
}

async fn dry_run(desk: &Desk, replay: &dead_letter::Replay, selection: &Selection) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut progress = Progress::new("dead letters", desk.total(selection).await?);
    let (mut after, last) = (0, desk.office.last().await?);
    loop {
        let page = desk.office.page(selection, after, PAGE).await?;
        for letter in page.letters.into_iter().filter(|letter| letter.id <= last) {
            let id = letter.id;
            let foreseen = replay.foresee(letter).await?;
            tell(&progress, id, &foreseen);
            tally.count(&foreseen);
            progress.one_more();
        }
        match page.next {
            Some(next) if next < last => after = next,
            Some(_) | None => break,
        }
    }
    progress.finish();
    Ok(tally)
}

async fn foreseen(desk: &Desk, replay: &dead_letter::Replay, id: u64) -> Result<Replayed, Failure> {
    match desk.office.get(id).await? {
        None => Ok(Replayed::Missing),
        Some(letter) => Ok(replay.foresee(letter).await?),
    }
}

/// Names what is not replayed.
fn tell(progress: &Progress, id: u64, replayed: &Replayed) {
    match replayed {
        Replayed::Stored | Replayed::AlreadyWaiting => {}
        Replayed::Missing => progress.tell(&format!("{id}: there is no such dead letter")),
        Replayed::Refused(refusal) => {
            progress.tell(&format!("{id}: stays a dead letter: {}", harmless(refusal)))
        }
    }
}

fn harmless(refusal: &NotReplayable) -> String {
    crate::cli::paint::harmless(&refusal.to_string())
}

fn summary(tally: &Tally, dry_run: bool) -> String {
    let Tally { stored, already_waiting, missing, refused } = tally;
    let mut text = if dry_run { format!("{stored} would be replayed") } else { format!("{stored} replayed") };
    for (count, what) in [
        (already_waiting, "had been put on the retry queue by an earlier replay"),
        (missing, "not there"),
        (refused, "cannot be replayed"),
    ] {
        if *count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text + "\n"
}
