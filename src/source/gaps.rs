//! What a stream dropped before it could be handed out. A stream's limits take its oldest messages without a word,
//! also ones that a consumer has not come to; what shows is a gap in what the consumer hands out. Gaps are noted
//! here as messages come, and asked about later: most are messages of other subjects.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::stream::RetentionPolicy;

use super::{
    broker::{Broker, BrokerError},
    streams,
    wire::AckInfo,
};

/// How long gaps are collected before the broker is asked about them.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// The most gaps that are told apart; what comes then makes the last one longer.
const GAPS_MAX: usize = 1_000;

/// How far a consumer has come: its own count of hand-outs, and the sequence of the last message that was handed
/// out for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) consumer: u64,
    pub(super) stream: u64,
}

/// The gaps in what a consumer handed out to this process.
#[derive(Debug)]
pub(super) struct Gaps {
    at: Progress,
    /// Hand-outs since then that did not come to this process, or came again: they may be what a gap holds.
    others: u64,
    /// Whether there was such a hand-out, or may have been, since somebody last asked.
    elsewhere: bool,
    /// Whether messages may have waited in the stream since then: some were pending, or nobody asked for any. Where
    /// none waits none can be dropped, however many of other subjects were.
    waiting: bool,
    found: Vec<RangeInclusive<u64>>,
    checked: Option<Instant>,
}

/// Gaps that the broker is to be asked about.
#[derive(Debug)]
pub struct GapCheck {
    broker: Arc<Broker>,
    stream: Arc<str>,
    gaps: Vec<RangeInclusive<u64>>,
}

/// Messages that a stream dropped before they were handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The stream.
    pub stream: Arc<str>,
    /// The first sequence.
    pub first_sequence: u64,
    /// The last.
    pub last_sequence: u64,
    /// How many sequences between them were not handed out. Messages of subjects that the consumer does not have
    /// are among them, where the stream has such.
    pub at_most: u64,
}

impl Gaps {
    /// No gap yet, in a consumer that has come so far.
    pub(super) fn after(at: Progress) -> Self {
        Self { at, others: 0, elsewhere: false, waiting: true, found: Vec::new(), checked: None }
    }

    /// The consumer has come so far, as the broker tells: what it handed out to others meanwhile is no gap, but what
    /// lies between that and the first sequence of the stream is. `pending`: whether messages wait in the stream.
    pub(super) fn go_on_after(&mut self, at: Progress, first_sequence: u64, pending: bool) {
        let gap = at.stream + 1..=first_sequence.saturating_sub(1);
        (self.at, self.others, self.waiting) = (at, 0, pending);
        self.elsewhere = true;
        if !gap.is_empty() {
            self.at.stream = *gap.end();
            self.add(gap);
        }
    }

    /// Whether the consumer has handed out something to somebody else, or may have, since the last call.
    pub(super) fn take_elsewhere(&mut self) -> bool {
        std::mem::take(&mut self.elsewhere)
    }

    /// Nobody asks for messages at present: they wait in the stream.
    pub(super) fn note_wait(&mut self) {
        self.waiting = true;
    }

    /// A message came.
    pub(super) fn note(&mut self, info: &AckInfo<'_>) {
        let missed = info.consumer_sequence.saturating_sub(self.at.consumer + 1);
        self.others += missed;
        self.elsewhere |= missed > 0;
        self.at.consumer = info.consumer_sequence;
        if info.delivered > 1 {
            self.others += 1;
            return;
        }
        let gap = self.at.stream + 1..=info.sequence.saturating_sub(1);
        if self.waiting && length(&gap) > self.others {
            self.add(gap);
        }
        self.at.stream = self.at.stream.max(info.sequence);
        self.others = 0;
        self.waiting = info.pending > 0;
    }

    fn add(&mut self, gap: RangeInclusive<u64>) {
        let full = self.found.len() >= GAPS_MAX;
        match self.found.last_mut() {
            Some(last) if full => *last = *last.start()..=*gap.end(),
            _ => self.found.push(gap),
        }
    }

    /// What the broker should be asked about at `now`, if it is time to ask.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<RangeInclusive<u64>>> {
        let due = self.checked.is_none_or(|checked| now.saturating_duration_since(checked) >= CHECK_EVERY);
        if self.found.is_empty() || !due {
            return None;
        }
        self.checked = Some(now);
        Some(std::mem::take(&mut self.found))
    }
}

impl GapCheck {
    pub(super) fn new(broker: Arc<Broker>, stream: Arc<str>, gaps: Vec<RangeInclusive<u64>>) -> Self {
        Self { broker, stream, gaps }
    }

    /// Asks the broker where the stream begins now: what lies before that in a gap was dropped. `None` when nothing
    /// was, and where messages leave the stream as they are acked, so that its beginning tells nothing.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn dropped(self) -> Result<Option<Dropped>, BrokerError> {
        let Some(info) = streams::find(&self.broker, &self.stream).await? else { return Ok(None) };
        match info.config.retention {
            RetentionPolicy::Limits => Ok(before(&self.stream, &self.gaps, info.state.first_sequence)),
            RetentionPolicy::Interest | RetentionPolicy::WorkQueue => Ok(None),
        }
    }
}

/// What of `gaps` lies before the stream's first sequence.
fn before(stream: &Arc<str>, gaps: &[RangeInclusive<u64>], first: u64) -> Option<Dropped> {
    let gone = gaps.iter().map(|gap| *gap.start()..=(*gap.end()).min(first.saturating_sub(1)));
    let gone: Vec<_> = gone.filter(|gap| !gap.is_empty()).collect();
    Some(Dropped {
        stream: Arc::clone(stream),
        first_sequence: *gone.first()?.start(),
        last_sequence: *gone.last()?.end(),
        at_most: gone.iter().map(length).sum(),
    })
}

fn length(gap: &RangeInclusive<u64>) -> u64 {
    (*gap.end() + 1).saturating_sub(*gap.start())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::SystemTime;

    /// A message with its stream sequence, the consumer's count, how often it was handed out, and how many are
    /// pending behind it.
    fn message(sequence: u64, consumer_sequence: u64, delivered: u64, pending: u64) -> AckInfo<'static> {
        let published = SystemTime::UNIX_EPOCH;
        AckInfo { stream: "S", delivered, sequence, consumer_sequence, published, pending }
    }

    fn found(messages: &[AckInfo<'_>]) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Gaps::after(Progress { consumer: 10, stream: 100 });
        messages.iter().for_each(|message| gaps.note(message));
        gaps.found
    }

    #[test]
    fn what_lies_between_two_messages_is_a_gap() {
        assert_eq!(found(&[message(101, 11, 1, 5), message(102, 12, 1, 4)]), []);
        assert_eq!(found(&[message(104, 11, 1, 5), message(110, 12, 1, 4)]), [101..=103, 105..=109]);
    }

    #[test]
    fn messages_that_other_replicas_or_a_second_hand_out_took_are_none() {
        assert_eq!(found(&[message(104, 14, 1, 5)]), []);
        assert_eq!(found(&[message(50, 11, 2, 5), message(102, 12, 1, 5)]), []);
        assert_eq!(found(&[message(105, 14, 1, 5)]), [101..=104], "one of the four is missing");
    }

    #[test]
    fn what_went_elsewhere_is_told_once() {
        let mut gaps = Gaps::after(Progress { consumer: 10, stream: 100 });
        gaps.note(&message(101, 11, 1, 5));
        assert!(!gaps.take_elsewhere());
        gaps.note(&message(103, 13, 1, 5));
        gaps.note(&message(104, 14, 1, 5));
        assert!(gaps.take_elsewhere() && !gaps.take_elsewhere());
        gaps.go_on_after(Progress { consumer: 14, stream: 104 }, 1, true);
        assert!(gaps.take_elsewhere(), "who attaches again may have missed some");
    }

    #[test]
    fn where_nothing_waits_nothing_can_have_been_dropped() {
        assert_eq!(found(&[message(101, 11, 1, 0), message(105, 12, 1, 9), message(106, 13, 1, 8)]), []);
        let mut gaps = Gaps::after(Progress { consumer: 10, stream: 100 });
        gaps.note(&message(101, 11, 1, 0));
        gaps.note_wait();
        gaps.note(&message(105, 12, 1, 0));
        assert_eq!(gaps.found, [102..=104]);
    }

    #[test]
    fn only_what_lies_before_the_stream_s_beginning_was_dropped() {
        let stream: Arc<str> = "S".into();
        let gaps = [101..=103, 105..=109, 120..=130];
        assert_eq!(before(&stream, &gaps, 101), None);
        let dropped = before(&stream, &gaps, 108).unwrap();
        assert_eq!((dropped.first_sequence, dropped.last_sequence, dropped.at_most), (101, 107, 6));
    }

    #[test]
    fn the_broker_is_asked_now_and_then_and_too_many_gaps_become_one() {
        let start = Instant::now();
        let mut gaps = Gaps::after(Progress::default());
        assert_eq!(gaps.take(start), None);
        for i in 1..=2 * GAPS_MAX as u64 {
            gaps.note(&message(2 * i, i, 1, 5));
        }
        let taken = gaps.take(start).unwrap();
        assert_eq!((taken.len(), *taken.last().unwrap().end()), (GAPS_MAX, 4 * GAPS_MAX as u64 - 1));
        gaps.note(&message(9_000, 5_000, 1, 5));
        assert_eq!(gaps.take(start + CHECK_EVERY / 2), None);
        assert!(gaps.take(start + CHECK_EVERY).is_some());
    }
}
