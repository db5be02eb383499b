//! How much all sources together may have open: what bounds memory and connections of the process, however many targets
//! there are. Each source always has a little of it for itself, so that sick targets leave the others something.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

/// The most deliveries that sources have open, or have asked for, beyond what each is assured of. With as many again that
/// are assured, and a connection for each, this bounds the process to some hundreds of MB; at 100 ms an attempt it is more
/// than one thread delivers.
const OPEN_MAX: usize = 4_096;
/// The most that a source may always open, whatever the others hold: an equal part for each where there are many, and
/// one at least.
const OPEN_ASSURED_MAX: usize = 16;
/// The most bytes of payloads that the open deliveries of a source may hold before nothing more is taken: slow
/// receivers must not fill the memory.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same for all sources together; beyond it each may hold an equal part.
const BYTES_MAX_ALL: usize = 256 * 1024 * 1024;
/// The most bytes that one request for messages may bring, unless a single message is larger, and the least it may be
/// lowered to where there are many sources.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
const REQUEST_BYTES_MIN: usize = 256 * 1024;

/// What all sources share. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Space(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    /// For how many connections in use there are files.
    connections: usize,
    most: AtomicUsize,
    /// What all sources together have taken of `most`.
    taken: AtomicUsize,
    /// The bytes of all open deliveries.
    bytes: AtomicUsize,
    sources: AtomicUsize,
}

/// What a source may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// A source's own part; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    space: Space,
    /// How many sources there were before it.
    number: usize,
    open: usize,
    bytes: usize,
    /// What it may have asked for and has not got yet.
    asked: usize,
    /// What of all this is more than it is assured of.
    taken: usize,
}

/// The most deliveries that so many sources have open together, if their lanes let them have `most`.
pub(super) fn open_at_most(sources: usize, most: usize) -> usize {
    (OPEN_MAX + sources * assured(OPEN_MAX, sources)).min(most)
}

fn assured(of: usize, sources: usize) -> usize {
    (of / sources.max(1)).clamp(1, OPEN_ASSURED_MAX)
}

impl Space {
    /// A space for a process that may have so many files and connections open.
    pub(super) fn new(open_files: u64) -> Self {
        // Half of them for connections in use, half for those that are kept.
        let connections = usize::try_from(open_files / 2).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            began: Instant::now(),
            connections,
            most: AtomicUsize::new(OPEN_MAX.min(connections)),
            taken: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            sources: AtomicUsize::new(0),
        }))
    }

    /// Makes room for a target that may have so many deliveries open: the one that has the most of all.
    pub(super) fn fit(&self, concurrency: usize) {
        self.0.most.store(OPEN_MAX.max(concurrency).min(self.0.connections), Ordering::Relaxed);
    }

    fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// The part of one more source.
    pub(super) fn part(&self) -> Part {
        let number = self.0.sources.fetch_add(1, Ordering::Relaxed);
        Part { space: self.clone(), number, open: 0, bytes: 0, asked: 0, taken: 0 }
    }

    fn sources(&self) -> usize {
        self.0.sources.load(Ordering::Relaxed).max(1)
    }

    fn assured(&self) -> usize {
        assured(self.most(), self.sources())
    }

    fn free(&self) -> usize {
        self.most().saturating_sub(self.0.taken.load(Ordering::Relaxed))
    }
}

impl Part {
    /// How many deliveries of this source are open.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// When the space was made.
    pub(super) fn began(&self) -> Instant {
        self.space.0.began
    }

    /// To which of so many groups of equal size this source belongs, from 0.
    pub(super) fn group(&self, groups: u32) -> u32 {
        u32::try_from(self.number % groups as usize).unwrap_or(0)
    }

    /// A delivery with so many bytes of payload was opened.
    pub(super) fn opened(&mut self, bytes: usize) {
        self.open += 1;
        self.bytes += bytes;
        self.space.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One with so many bytes of payload has ended.
    pub(super) fn ended(&mut self, bytes: usize) {
        self.open -= 1;
        self.bytes -= bytes;
        self.space.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What may be asked for now, if `wanted` more would be welcome; it counts as taken until the next call. A source
    /// that has nothing open asks for an equal part: what idle ones ask for lies idle.
    pub(super) fn room(&mut self, wanted: usize) -> Room {
        let (space, assured) = (&self.space, self.space.assured());
        let most = match self.open {
            0 => assured.max(space.most() / space.sources()),
            _ => assured + self.taken + space.free(),
        };
        self.asked = if self.is_full() { 0 } else { wanted.min(most.saturating_sub(self.open)) };
        let bytes = (BYTES_MAX_ALL / self.space.sources()).clamp(REQUEST_BYTES_MIN, REQUEST_BYTES_MAX);
        self.take((self.open + self.asked).saturating_sub(assured));
        Room { messages: self.asked, bytes }
    }

    fn take(&mut self, taken: usize) {
        let all = &self.space.0.taken;
        if taken > self.taken {
            all.fetch_add(taken - self.taken, Ordering::Relaxed);
        } else if taken < self.taken {
            all.fetch_sub(self.taken - taken, Ordering::Relaxed);
        }
        self.taken = taken;
    }

    /// Whether payloads hold too much memory for one more.
    fn is_full(&self) -> bool {
        let all = self.space.0.bytes.load(Ordering::Relaxed);
        self.bytes > BYTES_MAX || (all > BYTES_MAX_ALL && self.bytes > BYTES_MAX_ALL / self.space.sources())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.take(0);
        self.space.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.space.0.sources.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY_FILES: u64 = 1_000_000;

    fn parts(space: &Space, count: usize) -> Vec<Part> {
        (0..count).map(|_| space.part()).collect()
    }

    fn open(part: &mut Part, count: usize, bytes: usize) {
        (0..count).for_each(|_| part.opened(bytes));
    }

    #[test]
    fn a_few_sources_are_not_hindered_and_many_idle_ones_ask_for_little() {
        let space = Space::new(MANY_FILES);
        let mut first = space.part();
        assert_eq!(first.room(64), Room { messages: 64, bytes: REQUEST_BYTES_MAX });
        let others = parts(&space, 999);
        assert_eq!(first.room(64), Room { messages: OPEN_MAX / 1_000, bytes: BYTES_MAX_ALL / 1_000 });
        drop(others);
        assert_eq!(first.room(64).messages, 64);
    }

    #[test]
    fn the_only_busy_one_of_many_has_all_the_room_that_it_wants() {
        let space = Space::new(MANY_FILES);
        let mut parts = parts(&space, 1_000);
        for part in &mut parts {
            part.room(64);
        }
        open(&mut parts[0], 1, 0);
        assert_eq!(parts[0].room(63).messages, 63);
    }

    #[test]
    fn a_rush_to_all_of_many_opens_no_more_than_twice_the_most() {
        let space = Space::new(MANY_FILES);
        let mut parts = parts(&space, 1_000);
        let mut rush =
            |wanted: usize| -> usize { parts.iter_mut().map(|part| part.room(wanted).messages).sum() };
        assert!(rush(64) <= OPEN_MAX);
        for part in &mut parts {
            open(part, 1, 0);
        }
        let asked: usize = parts.iter_mut().map(|part| part.room(63).messages + part.open()).sum();
        assert!(asked > OPEN_MAX && asked <= 2 * OPEN_MAX, "{asked}");
    }

    #[test]
    fn what_sick_ones_hold_leaves_each_of_the_others_a_little() {
        let space = Space::new(MANY_FILES);
        let (mut sick, mut healthy) = (parts(&space, 100), space.part());
        for part in &mut sick {
            open(part, OPEN_MAX / 50, 0);
            part.room(0);
        }
        assert_eq!(sick[0].room(1_000).messages, 0);
        open(&mut healthy, 1, 0);
        assert_eq!(healthy.room(63).messages, OPEN_ASSURED_MAX - 1);
        drop(sick);
        assert_eq!(healthy.room(63).messages, 63);
    }

    #[test]
    fn large_payloads_stop_those_that_hold_more_than_their_part() {
        let space = Space::new(MANY_FILES);
        let mut alone = space.part();
        open(&mut alone, 1, BYTES_MAX + 1);
        assert_eq!(alone.room(64).messages, 0, "one source has a limit of its own");
        alone.ended(BYTES_MAX + 1);
        let mut greedy = parts(&space, 20);
        greedy.iter_mut().for_each(|part| open(part, 1, BYTES_MAX_ALL / 16));
        assert_eq!(greedy[0].room(64).messages, 0);
        assert_eq!(alone.room(64).messages, 64);
    }

    #[test]
    fn however_many_there_are_each_may_open_one() {
        let space = Space::new(MANY_FILES);
        let mut parts = parts(&space, 2 * OPEN_MAX);
        assert_eq!(parts[0].room(64).messages, 1);
    }

    #[test]
    fn a_target_that_may_have_more_open_than_all_usually_have_makes_room_for_itself() {
        let space = Space::new(MANY_FILES);
        space.fit(2 * OPEN_MAX);
        assert_eq!(space.part().room(2 * OPEN_MAX).messages, 2 * OPEN_MAX);
        space.fit(1);
        assert_eq!(space.part().room(2 * OPEN_MAX).messages, OPEN_MAX);
    }

    #[test]
    fn few_files_make_little_room() {
        let mut part = Space::new(200).part();
        assert_eq!(part.room(1_000).messages, 100);
    }
}
