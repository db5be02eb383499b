//! The lines in which messages wait: one for each key, in the order of their stream. Only the first of a line may be
//! attempted, and only one at a time; the lines do not wait for each other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::SystemTime,
};

use super::Key;

/// A message that waits in the retry queue for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// At which sequence the retry queue holds it.
    pub copy: u64,
    /// How many attempts it has had.
    pub attempts: u32,
    /// When its next attempt is due, once it is the first of its line.
    pub not_before: SystemTime,
}

/// Where a message of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, not acked yet.
    Memory,
    /// On its way from memory to the retry queue.
    Parking,
    /// In the retry queue.
    Parked(Parked),
}

#[derive(Clone, Copy, Debug)]
struct Item {
    published: SystemTime,
    place: Place,
}

/// How a line is known to [`Lines::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Not at all: empty, running, or its first message is being parked.
    None,
    /// Its first message may be attempted.
    Ready,
    /// Its first message may be attempted from then on.
    Due(SystemTime),
}

#[derive(Debug)]
struct Line {
    items: BTreeMap<u64, Item>,
    /// How many of them are in memory.
    in_memory: usize,
    running: bool,
    turn: Turn,
}

/// What becomes of a message that has come from its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It waits in memory for its turn.
    Keep,
    /// It is to be parked: its line waits, or has its part of the memory.
    Park,
    /// It is in memory already: the broker handed it out once more.
    Held,
    /// It is parked already: its ack was lost.
    Parked,
    /// It was settled not long ago: the broker forgot that.
    Settled,
    /// Another message has its sequence: the stream was made again and counts anew.
    Stranger,
}

/// What becomes of a message that was found parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It waits for its turn.
    New,
    /// It was parked twice; this copy is the older one and can go.
    Twice {
        /// The copy.
        superfluous: u64,
    },
    /// Another message has its sequence: the stream was made again and counts anew.
    Stranger,
}

/// A message that is to be attempted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its key.
    pub key: Key,
    /// Its sequence in the source stream.
    pub sequence: u64,
    /// Where it is; never [`Place::Parking`].
    pub place: Place,
}

/// The lines of one stream.
#[derive(Debug)]
pub struct Lines {
    lines: HashMap<Key, Line>,
    ready: VecDeque<Key>,
    due: BTreeSet<(SystemTime, Key)>,
    /// How many messages of one key may be in memory.
    share: usize,
    parked: usize,
    settled: Settled,
}

/// The messages that were settled last. A broker that was killed may have forgotten acks, and hands such a message out
/// again behind others of its line.
#[derive(Debug, Default)]
struct Settled {
    published: HashMap<u64, SystemTime>,
    oldest_first: VecDeque<u64>,
}

/// How many are known: more than a broker can be behind with acks, and little memory.
const SETTLED_MAX: usize = 4096;

impl Settled {
    fn note(&mut self, sequence: u64, published: SystemTime) {
        if self.oldest_first.len() == SETTLED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.published.remove(&oldest);
        }
        if self.published.insert(sequence, published).is_none() {
            self.oldest_first.push_back(sequence);
        }
    }

    fn holds(&self, sequence: u64, published: SystemTime) -> bool {
        self.published.get(&sequence) == Some(&published)
    }
}

impl Lines {
    /// No lines yet. Of each key so many messages may wait in memory, so that one that is behind leaves room to others.
    #[must_use]
    pub fn new(share: usize) -> Self {
        Self {
            lines: HashMap::new(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            share,
            parked: 0,
            settled: Settled::default(),
        }
    }

    /// How many messages are parked.
    #[must_use]
    pub fn parked_count(&self) -> usize {
        self.parked
    }

    /// When the next of the lines that wait may go on.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes in a message that was found parked. Of two copies the one with more attempts counts, else the later one.
    pub fn load(&mut self, key: &Key, sequence: u64, published: SystemTime, parked: Parked) -> Loaded {
        let line = self.line(key);
        if let Some(known) = line.items.get_mut(&sequence) {
            let Place::Parked(other) = known.place else { return Loaded::Stranger };
            if known.published != published {
                return Loaded::Stranger;
            }
            let newer = (parked.attempts, parked.copy) > (other.attempts, other.copy);
            if newer {
                known.place = Place::Parked(parked);
                self.arrange(key);
            }
            return Loaded::Twice { superfluous: if newer { other.copy } else { parked.copy } };
        }
        line.items.insert(sequence, Item { published, place: Place::Parked(parked) });
        self.parked += 1;
        self.arrange(key);
        Loaded::New
    }

    /// Takes in a message from the source stream.
    pub fn arrive(&mut self, key: &Key, sequence: u64, published: SystemTime) -> Arrival {
        if self.settled.holds(sequence, published) {
            return Arrival::Settled;
        }
        let share = self.share;
        let line = self.line(key);
        if let Some(known) = line.items.get(&sequence) {
            return match known.place {
                _ if known.published != published => Arrival::Stranger,
                Place::Memory | Place::Parking => Arrival::Held,
                Place::Parked(_) => Arrival::Parked,
            };
        }
        let waits = line.in_memory < line.items.len();
        let (place, arrival) = match waits || line.in_memory >= share {
            true => (Place::Parking, Arrival::Park),
            false => (Place::Memory, Arrival::Keep),
        };
        line.in_memory += usize::from(place == Place::Memory);
        line.items.insert(sequence, Item { published, place });
        self.arrange(key);
        arrival
    }

    /// A message that was to be parked stays in memory: the retry queue cannot hold it.
    pub fn keep(&mut self, key: &Key, sequence: u64) {
        self.place(key, sequence, Place::Memory);
    }

    /// A message was parked.
    pub fn parked(&mut self, key: &Key, sequence: u64, parked: Parked) {
        self.place(key, sequence, Place::Parked(parked));
    }

    /// The next message that may be attempted at `now`. Its line stands still until it has ended or waits.
    pub fn next(&mut self, now: SystemTime) -> Option<Start> {
        while let Some((due, _)) = self.due.first()
            && *due <= now
            && let Some((_, key)) = self.due.pop_first()
        {
            if let Some(line) = self.lines.get_mut(&key) {
                line.turn = Turn::Ready;
                self.ready.push_back(key);
            }
        }
        loop {
            let key = self.ready.pop_front()?;
            let Some(line) = self.lines.get_mut(&key) else { continue };
            // A line that had to stand back meanwhile is found here once more than it should.
            if line.turn != Turn::Ready {
                continue;
            }
            let Some((sequence, item)) = line.items.first_key_value() else { continue };
            let start = Start { key, sequence: *sequence, place: item.place };
            line.turn = Turn::None;
            line.running = true;
            return Some(start);
        }
    }

    /// The message that was attempted needs no further attempt: its line goes on.
    pub fn ended(&mut self, key: &Key, sequence: u64) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.running = false;
        if let Some(item) = line.items.remove(&sequence) {
            match item.place {
                Place::Memory => line.in_memory -= 1,
                Place::Parked(_) => self.parked -= 1,
                Place::Parking => {}
            }
            self.settled.note(sequence, item.published);
        }
        self.arrange(key);
    }

    /// The message that was attempted waits in the retry queue, and its line with it. Returns those behind it that are in
    /// memory: they are to be parked.
    pub fn waits(&mut self, key: &Key, sequence: u64, parked: Parked) -> Vec<u64> {
        self.place(key, sequence, Place::Parked(parked));
        let Some(line) = self.lines.get_mut(key) else { return Vec::new() };
        let mut behind = Vec::with_capacity(line.in_memory);
        for (sequence, item) in &mut line.items {
            if item.place == Place::Memory {
                item.place = Place::Parking;
                behind.push(*sequence);
            }
        }
        line.in_memory = 0;
        line.running = false;
        self.arrange(key);
        behind
    }

    fn line(&mut self, key: &Key) -> &mut Line {
        self.lines.entry(Key::clone(key)).or_insert_with(|| Line {
            items: BTreeMap::new(),
            in_memory: 0,
            running: false,
            turn: Turn::None,
        })
    }

    fn place(&mut self, key: &Key, sequence: u64, place: Place) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let Some(item) = line.items.get_mut(&sequence) else { return };
        let before = std::mem::replace(&mut item.place, place);
        line.in_memory -= usize::from(before == Place::Memory);
        line.in_memory += usize::from(place == Place::Memory);
        self.parked -= usize::from(matches!(before, Place::Parked(_)));
        self.parked += usize::from(matches!(place, Place::Parked(_)));
        self.arrange(key);
    }

    /// Lets [`Self::next`] know how the line stands now; forgets one that is empty.
    fn arrange(&mut self, key: &Key) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let first = line.items.first_key_value().map(|(_, item)| item.place);
        let turn = match first {
            _ if line.running => Turn::None,
            None | Some(Place::Parking) => Turn::None,
            Some(Place::Memory) => Turn::Ready,
            Some(Place::Parked(parked)) => Turn::Due(parked.not_before),
        };
        let before = std::mem::replace(&mut line.turn, turn);
        if first.is_none() {
            self.lines.remove(key);
        }
        if before == turn {
            return;
        }
        if let Turn::Due(due) = before {
            self.due.remove(&(due, Key::clone(key)));
        }
        match turn {
            Turn::None => {}
            Turn::Ready => self.ready.push_back(Key::clone(key)),
            Turn::Due(due) => {
                self.due.insert((due, Key::clone(key)));
            }
        }
    }
}
