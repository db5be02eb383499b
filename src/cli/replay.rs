//! `natshook replay`.

use std::{ops::RangeInclusive, sync::Arc, time::SystemTime};

use clap::Args;

use super::{
    Failure, Global,
    dead_letters::{moment, rate},
    paint::harmless,
    print, process,
    progress::Progress,
};
use crate::{
    config::{Config, Connection, SourceKind},
    dead_letter::Pace,
    history::{Chapter, Fate, History, Span},
    source::{self, TargetStream},
    subject::Pattern,
    target::{Rate, Target},
};

/// Send a target again what its source streams still hold
///
/// Only this target gets it, through the retry queue and under the same webhook-ids; only messages of its subjects, and
/// none that is stored after the command began. What the target has not been sent for the first time yet is sent as
/// well, so it gets that twice, under one webhook-id. A running natshook attempts it at once, else the next to start.
///
/// Says now and then which sequence it has come to. Interrupted, it goes on from there with --sequence; what was sent
/// beyond is not stored twice within two minutes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook replay --target policy --since 2h
  natshook replay --target policy --since 2026-01-31T08:00:00Z --subject PolicyUpdated --rate 50/s
  natshook replay --target policy --sequence 1200..1350 --dry-run")]
pub(super) struct Replay {
    /// The target
    #[arg(long, value_name = "NAME")]
    target: String,

    /// What was stored since: a span such as 2h or 3d, or a time such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment, conflicts_with = "sequence", required_unless_present = "sequence")]
    since: Option<SystemTime>,

    /// The sequences of the stream, both included: 1200..1350, 1200.., or one of them
    #[arg(long, value_name = "A..B", value_parser = sequences)]
    sequence: Option<RangeInclusive<u64>>,

    /// Only this subject, which may have wildcards
    #[arg(long, value_name = "SUBJECT", value_parser = pattern)]
    subject: Option<Pattern>,

    /// Only this stream, where the target's subjects are in several
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,

    /// At most so many: 50/s, 30/m, 5/h [default: as fast as the broker stores them]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,

    /// Say how many would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

fn sequences(text: &str) -> Result<RangeInclusive<u64>, String> {
    let expected = || "expected sequences such as 1200..1350, 1200.. or 1200, from 1 on".to_owned();
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(expected);
    let range = match text.split_once("..") {
        None => number(text)?..=number(text)?,
        Some((first, "")) => number(first)?..=u64::MAX,
        Some((first, last)) => number(first)?..=number(last)?,
    };
    if range.is_empty() { Err(expected()) } else { Ok(range) }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| format!("it {error}"))
}

/// What a replay came to.
#[derive(Default)]
struct Sent {
    stored: u64,
    duplicates: u64,
    too_large: u64,
}

impl Replay {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        let (connection, target) = self.target(&config)?;
        if connection.source == SourceKind::Core {
            return Err(Failure::NoRetryQueue);
        }
        process::block_on(async {
            let broker =
                Arc::new(source::connect(&connection.nats, &connection.instance).await?.for_command());
            let history =
                History::new(broker, connection.instance.clone(), target.clone(), self.subject.clone());
            let streams = self.streams(&history, target).await?;
            let mut left = 0;
            for stream in &streams {
                left += self.replay(&history, stream).await?.too_large;
            }
            if left == 0 { Ok(()) } else { Err(Failure::NotReplayed(left)) }
        })
    }

    /// The target, and the connection that it gets its messages from.
    fn target<'a>(&self, config: &'a Config) -> Result<(&'a Connection, &'a Target), Failure> {
        let of = |connection: &'a Connection| {
            let found = connection.targets.iter().find(|target| target.name.as_str() == self.target);
            found.map(|target| (connection, target))
        };
        let (connection, target) = config.connections.iter().find_map(of).ok_or_else(|| {
            let known: Vec<&str> = config.targets().map(|target| target.name.as_str()).collect();
            Failure::Usage(format!("no target {:?}; known are {}", self.target, known.join(", ")))
        })?;
        match &self.subject {
            Some(subject) if !target.subjects.iter().any(|pattern| pattern.overlaps(subject)) => {
                let subjects: Vec<&str> = target.subjects.iter().map(Pattern::as_str).collect();
                Err(Failure::Usage(format!(
                    "target {} gets nothing of {subject}; its subjects are {}",
                    self.target,
                    subjects.join(", ")
                )))
            }
            Some(_) | None => Ok((connection, target)),
        }
    }

    /// The streams to read. Sequences are those of one stream.
    async fn streams(&self, history: &History, target: &Target) -> Result<Vec<TargetStream>, Failure> {
        let mut streams = history.streams().await?;
        let names: Vec<String> = streams.iter().map(|stream| stream.stream.to_string()).collect();
        let names = names.join(", ");
        if streams.is_empty() {
            return Err(Failure::Usage(format!("no stream holds the subjects of target {}", target.name)));
        }
        if let Some(wanted) = &self.stream {
            streams.retain(|stream| *stream.stream == **wanted);
            if streams.is_empty() {
                return Err(Failure::Usage(format!(
                    "no stream {wanted:?} of target {}; it has {names}",
                    target.name
                )));
            }
        }
        if self.sequence.is_some() && streams.len() > 1 {
            return Err(Failure::Usage(format!("say with --stream whose sequences are meant: {names}")));
        }
        Ok(streams)
    }

    async fn replay(&self, history: &History, stream: &TargetStream) -> Result<Sent, Failure> {
        let span = match (&self.sequence, self.since) {
            (Some(sequences), _) => Span::Sequences(sequences.clone()),
            (None, since) => Span::Since(since.unwrap_or(SystemTime::UNIX_EPOCH)),
        };
        let chapter = history.chapter(stream, &span).await?;
        if self.dry_run {
            let count = history.count(&chapter).await?;
            print(&format!("{}: {count} would be replayed\n", chapter.stream()))?;
            return Ok(Sent::default());
        }
        let mut progress = Progress::new("replayed", None);
        let (mut sent, mut come_to) = (Sent::default(), None);
        let told = |sequence, fate: &Fate| {
            match fate {
                Fate::Stored => sent.stored += 1,
                Fate::Duplicate => sent.duplicates += 1,
                Fate::TooLarge(why) => {
                    sent.too_large += 1;
                    progress.tell(&format!(
                        "{} {sequence}: not replayed: {}",
                        chapter.stream(),
                        harmless(why)
                    ));
                }
            }
            come_to = Some(sequence);
            progress.one_more_at(place(&chapter, sequence));
        };
        let pace = Pace { rate: self.rate };
        let done = tokio::select! {
            done = history.replay(&chapter, &pace, told) => done.map_err(Failure::from),
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        progress.finish();
        print(&summary(&chapter, &sent, come_to))?;
        if done.is_err() {
            progress.tell(&way_on(&chapter, come_to));
        }
        done.map(|()| sent)
    }
}

/// How a replay goes on that did not come to its end.
fn way_on(chapter: &Chapter, come_to: Option<u64>) -> String {
    let next = come_to.map_or(chapter.first, |sequence| sequence.saturating_add(1));
    let stream = chapter.stream();
    format!("to go on where it ended: --stream {stream} --sequence {next}..{}", chapter.last)
}

fn place(chapter: &Chapter, sequence: u64) -> String {
    format!("{} up to sequence {sequence} of {}", chapter.stream(), chapter.last)
}

fn summary(chapter: &Chapter, sent: &Sent, come_to: Option<u64>) -> String {
    let mut text = format!("{}: {} replayed", chapter.stream(), sent.stored);
    if sent.duplicates > 0 {
        text.push_str(&format!(", {} replayed within the last two minutes already", sent.duplicates));
    }
    if sent.too_large > 0 {
        text.push_str(&format!(", {} too large", sent.too_large));
    }
    if let Some(sequence) = come_to {
        text.push_str(&format!(", up to sequence {sequence}"));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sequences_are_written_as_a_range_or_a_number() {
        assert_eq!(sequences("3..7").unwrap(), 3..=7);
        assert_eq!(sequences("3..").unwrap(), 3..=u64::MAX);
        assert_eq!(sequences("3").unwrap(), 3..=3);
        for bad in ["", "..", "..7", "0..7", "7..3", "a..b", "3..7..9", "-1"] {
            assert!(sequences(bad).is_err(), "{bad:?}");
        }
    }
}
