//! Laws of the lines: whatever arrives, ends, fails and is taken over in whatever order.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::message::{Headers, Origin};

fn message(subject: &str, headers: &[(&str, &str)]) -> Message {
    Message {
        subject: subject.into(),
        payload: Bytes::new(),
        headers: Headers(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()),
        origin: Origin::Passing { id: String::new(), reply: None },
        published: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn what_lacks_the_token_or_the_header_has_the_empty_key() {
    let token = |n| Order::Token(NonZeroUsize::new(n).unwrap());
    let header = Order::Header(HeaderName::from_static("key"));
    let with = message("a.b.c", &[("Other", "x"), ("KEY", "k"), ("Key", "second")]);
    for (order, key) in [
        (Order::Target, ""),
        (Order::Subject, "a.b.c"),
        (token(1), "a"),
        (token(3), "c"),
        (token(4), ""),
        (header.clone(), "k"),
    ] {
        assert_eq!(&*order.key(&with), key, "{order:?}");
    }
    assert_eq!(&*header.key(&message("a", &[])), "");
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next message of the stream comes, with one of a few keys.
    Arrive { key: u8 },
    /// Something is begun, if it may be.
    Begin,
    /// An attempt under way succeeds.
    Succeed { which: usize },
    /// An attempt under way fails, and the message waits for so many seconds.
    Fail { which: usize, wait: u64 },
    /// A message on its way to the retry queue has come there.
    Park { which: usize },
    /// Time goes on.
    Wait { seconds: u64 },
    /// The leader dies, and another takes over: what was in memory is handed out again in any order.
    TakeOver { shuffle: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4).prop_map(|key| Step::Arrive { key }),
        6 => Just(Step::Begin),
        4 => any::<usize>().prop_map(|which| Step::Succeed { which }),
        3 => (any::<usize>(), 0_u64..4).prop_map(|(which, wait)| Step::Fail { which, wait }),
        6 => any::<usize>().prop_map(|which| Step::Park { which }),
        2 => (0_u64..3).prop_map(|seconds| Step::Wait { seconds }),
        1 => any::<u64>().prop_map(|shuffle| Step::TakeOver { shuffle }),
    ]
}

/// Broker, receiver and leader, as far as the lines see them.
struct World {
    lines: Lines,
    now: SystemTime,
    last: u64,
    keys: BTreeMap<u64, Key>,
    /// Handed out and not acked.
    memory: Vec<u64>,
    /// On their way from memory to the retry queue.
    parking: Vec<u64>,
    stored: BTreeMap<u64, Parked>,
    copies: u64,
    running: Vec<Start>,
    /// First attempts, by key.
    first: BTreeMap<Key, Vec<u64>>,
    attempted: BTreeMap<u64, u32>,
    ended: Vec<u64>,
}

const SHARE: usize = 3;

impl World {
    fn new() -> Self {
        Self {
            lines: Lines::new(SHARE),
            now: SystemTime::UNIX_EPOCH,
            last: 0,
            keys: BTreeMap::new(),
            memory: vec![],
            parking: vec![],
            stored: BTreeMap::new(),
            copies: 0,
            running: vec![],
            first: BTreeMap::new(),
            attempted: BTreeMap::new(),
            ended: vec![],
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arrive { key } => {
                self.last += 1;
                self.keys.insert(self.last, Key::from(format!("k{key}")));
                self.memory.push(self.last);
                self.arrive(self.last);
            }
            Step::Begin => {
                if let Some(start) = self.lines.next(self.now) {
                    self.begin(start);
                }
            }
            Step::Succeed { which } => {
                if let Some(start) = pick(&mut self.running, which) {
                    self.end(&start);
                }
            }
            Step::Fail { which, wait } => {
                if let Some(start) = pick(&mut self.running, which) {
                    let due = self.now + Duration::from_secs(wait);
                    self.fail(&start, due);
                }
            }
            Step::Park { which } => {
                if let Some(sequence) = pick(&mut self.parking, which) {
                    self.park(sequence);
                }
            }
            Step::Wait { seconds } => self.now += Duration::from_secs(seconds),
            Step::TakeOver { shuffle } => self.take_over(shuffle),
        }
    }

    fn arrive(&mut self, sequence: u64) {
        let key = Key::clone(&self.keys[&sequence]);
        match self.lines.arrive(&key, sequence, SystemTime::UNIX_EPOCH) {
            Arrival::Keep => {}
            Arrival::Park => self.parking.push(sequence),
            // Only a take-over hands out what is stored already: its ack was lost.
            Arrival::Parked => self.memory.retain(|other| *other != sequence),
            other => panic!("{sequence}: {other:?}"),
        }
    }

    fn begin(&mut self, start: Start) {
        assert!(self.running.iter().all(|other| other.key != start.key), "one at a time: {start:?}");
        let first_open = self.keys.iter().find(|(n, k)| **k == start.key && !self.ended.contains(n)).unwrap();
        assert_eq!(*first_open.0, start.sequence, "the first of its line");
        match start.place {
            Place::Memory => assert!(self.memory.contains(&start.sequence)),
            Place::Parked(parked) => {
                assert_eq!(self.stored[&start.sequence], parked);
                assert!(parked.not_before <= self.now, "not before it is due");
            }
            Place::Parking => panic!("{start:?}"),
        }
        let attempts = self.attempted.entry(start.sequence).or_default();
        *attempts += 1;
        if *attempts == 1 {
            self.first.entry(Key::clone(&start.key)).or_default().push(start.sequence);
        }
        self.running.push(start);
    }

    fn end(&mut self, start: &Start) {
        self.memory.retain(|other| *other != start.sequence);
        self.stored.remove(&start.sequence);
        self.ended.push(start.sequence);
        self.lines.ended(&start.key, start.sequence);
    }

    fn fail(&mut self, start: &Start, due: SystemTime) {
        let parked = self.store(start.sequence, due);
        self.memory.retain(|other| *other != start.sequence);
        self.parking.extend(self.lines.waits(&start.key, start.sequence, parked));
    }

    fn park(&mut self, sequence: u64) {
        let parked = self.store(sequence, self.now);
        self.memory.retain(|other| *other != sequence);
        self.lines.parked(&self.keys[&sequence], sequence, parked);
    }

    fn store(&mut self, sequence: u64, not_before: SystemTime) -> Parked {
        self.copies += 1;
        let attempts = self.attempted.get(&sequence).copied().unwrap_or_default();
        let parked = Parked { copy: self.copies, attempts, not_before };
        self.stored.insert(sequence, parked);
        parked
    }

    fn take_over(&mut self, shuffle: u64) {
        self.lines = Lines::new(SHARE);
        self.running.clear();
        self.parking.clear();
        for (sequence, parked) in self.stored.clone() {
            // An older copy may have been left behind.
            let older = Parked { copy: 0, attempts: 0, not_before: SystemTime::UNIX_EPOCH };
            for parked in [older, parked] {
                self.lines.load(&self.keys[&sequence], sequence, SystemTime::UNIX_EPOCH, parked);
            }
        }
        let mut handed_out = self.memory.clone();
        handed_out.sort_by_key(|n| n.wrapping_mul(shuffle | 1).rotate_left(17));
        handed_out.into_iter().for_each(|sequence| self.arrive(sequence));
    }

    /// Everything that can happen without new messages happens, and all attempts succeed.
    fn run_dry(&mut self) {
        loop {
            if let Some(sequence) = self.parking.pop() {
                self.park(sequence);
            } else if let Some(start) = self.running.pop() {
                self.end(&start);
            } else if let Some(start) = self.lines.next(self.now) {
                self.begin(start);
            } else if let Some(due) = self.lines.due() {
                self.now = self.now.max(due);
            } else {
                return;
            }
        }
    }
}

fn pick<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(which % from.len()))
}

proptest! {
    /// `begin` asserts that at most one of a key is under way, and that it is the first that has not ended.
    #[test]
    fn first_attempts_are_in_order_whatever_happens_and_nothing_is_left(
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
        world.run_dry();
        prop_assert_eq!(world.ended.len() as u64, world.last);
        prop_assert_eq!(world.lines.parked_count(), 0);
        for first in world.first.values() {
            prop_assert!(first.is_sorted(), "{:?}", first);
        }
    }

    #[test]
    fn a_key_that_waits_keeps_no_other_from_its_turn(others in 1_u64..50) {
        let mut lines = Lines::new(SHARE);
        let (sick, healthy) = (Key::from("sick"), Key::from("healthy"));
        let (now, later) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
        lines.arrive(&sick, 1, now);
        let start = lines.next(now).unwrap();
        lines.waits(&sick, start.sequence, Parked { copy: 1, attempts: 1, not_before: later });
        for n in 0..others {
            prop_assert_eq!(lines.arrive(&sick, 2 * n + 2, now), Arrival::Park);
            prop_assert_eq!(lines.arrive(&healthy, 2 * n + 3, now), Arrival::Keep);
            prop_assert_eq!(lines.next(now).map(|start| start.sequence), Some(2 * n + 3));
            lines.ended(&healthy, 2 * n + 3);
        }
        prop_assert_eq!(lines.next(now), None);
        prop_assert_eq!(lines.due(), Some(later));
    }
}

#[test]
fn of_one_key_only_so_many_are_in_memory_and_of_two_copies_the_later_one_counts() {
    let mut lines = Lines::new(SHARE);
    let (key, now) = (Key::from("k"), SystemTime::UNIX_EPOCH);
    let arrivals: Vec<Arrival> = (1..=5).map(|n| lines.arrive(&key, n, now)).collect();
    assert_eq!(arrivals, [Arrival::Keep, Arrival::Keep, Arrival::Keep, Arrival::Park, Arrival::Park]);
    assert_eq!(lines.arrive(&key, 2, now), Arrival::Held);
    assert_eq!(lines.arrive(&key, 2, now + Duration::from_secs(1)), Arrival::Stranger);

    let mut lines = Lines::new(SHARE);
    let copy = |copy, attempts| Parked { copy, attempts, not_before: now };
    assert_eq!(lines.load(&key, 7, now, copy(10, 2)), Loaded::New);
    assert_eq!(lines.load(&key, 7, now, copy(9, 3)), Loaded::Twice { superfluous: 10 });
    assert_eq!(lines.load(&key, 7, now, copy(12, 2)), Loaded::Twice { superfluous: 12 });
    assert_eq!(lines.load(&key, 7, now + Duration::from_secs(1), copy(13, 0)), Loaded::Stranger);
    assert_eq!(lines.arrive(&key, 7, now), Arrival::Parked);
    assert_eq!(lines.next(now).unwrap().place, Place::Parked(copy(9, 3)));
}

#[test]
fn what_was_settled_and_comes_again_is_known_unless_the_stream_counts_anew() {
    let mut lines = Lines::new(SHARE);
    let (key, now) = (Key::from("k"), SystemTime::UNIX_EPOCH);
    for n in 1..=10 {
        assert_eq!(lines.arrive(&key, n, now), Arrival::Keep);
        assert_eq!(lines.next(now).unwrap().sequence, n);
        lines.ended(&key, n);
    }
    assert_eq!(lines.arrive(&key, 3, now), Arrival::Settled);
    assert_eq!(lines.arrive(&key, 3, now + Duration::from_secs(1)), Arrival::Keep);
}
