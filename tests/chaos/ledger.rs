//! The ledger: what was published, what the receivers saw of it, and what that comes to. It holds one entry for each
//! delivery, however often it is sent; it asks nobody anything.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// What the receiver will do with a message; its payload says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// 200 at once.
    Accepted,
    /// A 500 the first time, then 200.
    FailsOnce,
    /// 400: it belongs into the dead-letter stream.
    Refused,
}

/// A message of the campaign; its payload and its `Nats-Msg-Id` hold its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) fate: Fate,
}

impl Numbered {
    pub(crate) fn id(self) -> String {
        format!("m-{}", self.number)
    }

    pub(crate) fn payload(self) -> String {
        let fate = match self.fate {
            Fate::Accepted => "accepted",
            Fate::FailsOnce => "fails-once",
            Fate::Refused => "refused",
        };
        format!("{} {fate} {}", self.number, "x".repeat(200))
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let number = words.next()?.parse().ok()?;
        let fate = match words.next()? {
            "accepted" => Fate::Accepted,
            "fails-once" => Fate::FailsOnce,
            "refused" => Fate::Refused,
            _ => return None,
        };
        Some(Self { number, fate })
    }
}

#[derive(Clone, Copy, Debug)]
struct Published {
    fate: Fate,
    sequence: u64,
}

/// What a receiver saw of one delivery.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The highest number that an attempt carried.
    attempt: u64,
    accepted: Option<Instant>,
    refused: Option<Instant>,
}

/// A delivery: the target's number and the message's.
pub(crate) type Key = (usize, u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    published: HashMap<u64, Published>,
    seen: HashMap<Key, Seen>,
    duplicates: usize,
    requests: HashMap<usize, usize>,
    wrongs: Vec<String>,
}

/// What a run came to, in deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages that the stream confirmed, once for each target.
    pub(crate) messages: usize,
    pub(crate) delivered: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) lost: usize,
    /// Gone, and not by natshook's doing.
    pub(crate) taken: usize,
    pub(crate) duplicates: usize,
}

impl Ledger {
    /// The stream confirmed a message.
    pub(crate) fn published(&mut self, message: Numbered, sequence: u64) {
        let published = Published { fate: message.fate, sequence };
        self.published.insert(message.number, published);
    }

    /// A request has come. A duplicate is one that repeats an attempt that has come before, or that comes although the
    /// receiver had accepted the message.
    pub(crate) fn requested(&mut self, key: Key, attempt: u64) {
        *self.requests.entry(key.0).or_default() += 1;
        let seen = self.seen.entry(key).or_default();
        if attempt <= seen.attempt || seen.accepted.is_some() {
            self.duplicates += 1;
        }
        seen.attempt = seen.attempt.max(attempt);
    }

    /// The receiver is about to answer.
    pub(crate) fn answered(&mut self, key: Key, status: u16) {
        let seen = self.seen.entry(key).or_default();
        if status == 200 {
            seen.accepted.get_or_insert_with(Instant::now);
        } else if status == 400 {
            seen.refused.get_or_insert_with(Instant::now);
        }
    }

    /// Something that must never be, such as a signature that does not verify. The first twenty are kept.
    pub(crate) fn wrong(&mut self, what: String) {
        if self.wrongs.len() < 20 {
            self.wrongs.push(what);
        }
    }

    pub(crate) fn wrongs(&self) -> &[String] {
        &self.wrongs
    }

    /// All requests of all receivers.
    pub(crate) fn requests(&self) -> usize {
        self.requests.values().sum()
    }

    /// All requests to one target.
    pub(crate) fn requests_to(&self, target: usize) -> usize {
        self.requests.get(&target).copied().unwrap_or_default()
    }

    pub(crate) fn is_accepted(&self, key: Key) -> bool {
        self.seen.get(&key).is_some_and(|seen| seen.accepted.is_some())
    }

    /// How many messages were accepted or refused within `span` before `end`.
    pub(crate) fn ended_within(&self, span: Duration, end: Instant) -> usize {
        let ends = self.seen.values().filter_map(|seen| seen.accepted.or(seen.refused));
        ends.filter(|at| *at <= end && end.duration_since(*at) <= span).count()
    }

    /// The numbers of the messages that the stream holds at or below `sequence`.
    pub(crate) fn published_to(&self, sequence: u64) -> HashSet<u64> {
        let to = self.published.iter().filter(|(_, published)| published.sequence <= sequence);
        to.map(|(number, _)| *number).collect()
    }

    /// How many messages the stream confirmed.
    pub(crate) fn count_published(&self) -> usize {
        self.published.len()
    }

    /// Whether that is what the receivers mean to do with a message.
    pub(crate) fn is(&self, number: u64, fate: Fate) -> bool {
        self.published.get(&number).is_some_and(|published| published.fate == fate)
    }

    /// How many of them the receivers mean to treat so.
    pub(crate) fn count(&self, fate: Fate) -> usize {
        self.published.values().filter(|published| published.fate == fate).count()
    }

    /// The deliveries to a target that were neither accepted nor are among `ended`, with the message's sequence.
    pub(crate) fn unended(&self, target: usize, ended: &HashSet<Key>) -> Vec<(Key, u64)> {
        let keys = self.published.iter().map(|(number, published)| ((target, *number), published.sequence));
        keys.filter(|(key, _)| !self.is_accepted(*key) && !ended.contains(key)).collect()
    }

    /// Adds it all up for `targets` targets that were to get every message, and the dead letters there are. What was
    /// `taken` out of natshook's hands is not lost by it.
    pub(crate) fn tally(&self, targets: usize, dead_letters: &HashSet<Key>, taken: &HashSet<Key>) -> Tally {
        let mut tally = Tally { duplicates: self.duplicates, ..Tally::default() };
        for key in (0..targets).flat_map(|target| self.published.keys().map(move |number| (target, *number)))
        {
            tally.messages += 1;
            let (delivered, dead) = (self.is_accepted(key), dead_letters.contains(&key));
            tally.delivered += usize::from(delivered);
            tally.dead_lettered += usize::from(dead);
            let is_taken = taken.contains(&key);
            tally.lost += usize::from(!delivered && !dead && !is_taken);
            tally.taken += usize::from(!delivered && !dead && is_taken);
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u64) -> Numbered {
        Numbered { number, fate: Fate::FailsOnce }
    }

    #[test]
    fn a_payload_says_what_its_message_is() {
        assert_eq!(Numbered::read(message(7).payload().as_bytes()), Some(message(7)));
        assert_eq!(Numbered::read(b"7 strange"), None);
    }

    #[test]
    fn what_is_neither_accepted_nor_a_dead_letter_is_lost() {
        let mut ledger = Ledger::default();
        (1..=3).for_each(|number| ledger.published(message(number), number));
        ledger.requested((0, 1), 1);
        ledger.answered((0, 1), 200);
        ledger.requested((0, 3), 1);
        ledger.answered((0, 3), 500);
        let tally = ledger.tally(1, &HashSet::from([(0, 2)]), &HashSet::new());
        let expected =
            Tally { messages: 3, delivered: 1, dead_lettered: 1, lost: 1, taken: 0, duplicates: 0 };
        assert_eq!(tally, expected);
    }

    #[test]
    fn only_a_repeated_attempt_or_one_after_the_end_is_a_duplicate() {
        let mut ledger = Ledger::default();
        for (attempt, duplicates) in [(1, 0), (2, 0), (2, 1)] {
            ledger.requested((0, 1), attempt);
            assert_eq!(ledger.duplicates, duplicates);
        }
        ledger.answered((0, 1), 200);
        ledger.requested((0, 1), 3);
        assert_eq!(ledger.duplicates, 2);
    }
}
