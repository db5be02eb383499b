//! From the dead letters back to the retry queue, so that each arrives once however often this is interrupted.
//!
//! A replay stores a copy of the message in the retry queue, marked with the letter that it was, and then removes the
//! letter. The connector removes the letter that a copy names, before it attempts that copy or settles it in any other
//! way. So as long as a letter is there, a copy of it is in the retry queue or none was ever made; and as long as
//! neither is removed, the message is not lost.
//!
//! A replay that is interrupted (also by SIGKILL) between the two steps leaves both behind. The next one first reads
//! from the retry queue which letters have a copy, and only then the letters: one that it finds and that had a copy is
//! removed and not stored again. This needs no time limit. A copy that was stored before the first step of this replay
//! and whose letter is still there in the second was in the retry queue all the time between, where it only moves
//! towards the end (a renewed copy is stored before the old one is acked), and towards the end is how it is read.
//!
//! Two replays at once are told apart by the broker: both store under the same id, and it keeps one within the
//! stream's duplicate window (two minutes). A letter would be doubled only if one of them stood still for longer than
//! that between reading a letter and storing its copy.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::office::{DeadLetterOffice, OfficeError, Selection};
use crate::{
    envelope::{self, DeadLetter, LetterMark, NotReplayable, ReplayOf, read_waiting},
    message::{Delivery, Headers, Message},
    source::{AHEAD_MAX, BrokerError, StoreError, StreamReader},
    target::{Rate, TargetName},
};

/// The most letters that are on their way at a time.
const IN_FLIGHT_MAX: usize = 64;
/// By how much the clocks of the servers that gave two streams their times differ at most.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);
/// The shortest time between two ticks of a rate.
const TICK_MIN: Duration = Duration::from_millis(10);
/// No interval may be zero.
const TICK_LEAST: Duration = Duration::from_nanos(1);

/// What became of one letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is on the retry queue, due now, and no dead letter any more.
    Stored,
    /// An earlier replay had put it on the retry queue, where it still waits; it is no dead letter any more.
    AlreadyWaiting,
    /// There is no such letter (any more).
    Missing,
    /// It stays a dead letter.
    Refused(NotReplayable),
}

/// How many letters came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Put on the retry queue.
    pub stored: u64,
    /// On the retry queue already.
    pub already_waiting: u64,
    /// Not there any more when their turn came.
    pub missing: u64,
    /// Left where they are.
    pub refused: u64,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, replayed: &Replayed) {
        match replayed {
            Replayed::Stored => self.stored += 1,
            Replayed::AlreadyWaiting => self.already_waiting += 1,
            Replayed::Missing => self.missing += 1,
            Replayed::Refused(_) => self.refused += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stored + self.already_waiting + self.missing + self.refused
    }
}

/// How a replay goes about it.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// At most so many; as fast as the broker takes them without it.
    pub rate: Option<Rate>,
}

impl Pace {
    /// How many are read ahead: what is stored within a second, so that nothing waits long between the two.
    pub(crate) fn ahead(&self) -> usize {
        let Some(rate) = self.rate else { return AHEAD_MAX };
        let in_a_second = u64::from(rate.requests.get()) / rate.per.as_secs().max(1);
        usize::try_from(in_a_second).unwrap_or(AHEAD_MAX).clamp(1, AHEAD_MAX)
    }

    pub(crate) fn turns(&self) -> Turns {
        Turns(self.rate.map(|rate| {
            let period = rate.per / rate.requests.get();
            // Timers are no finer than a millisecond: at high rates each tick is for several.
            let each = (TICK_MIN.as_nanos() / period.as_nanos().max(1)).max(1);
            let each = u32::try_from(each).unwrap_or(u32::MAX);
            let mut ticks = interval((period * each).max(TICK_LEAST));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Ticks { ticks, each, left: 0 }
        }))
    }
}

/// When the next one may begin.
#[derive(Debug)]
pub(crate) struct Turns(Option<Ticks>);

#[derive(Debug)]
struct Ticks {
    ticks: Interval,
    each: u32,
    left: u32,
}

impl Turns {
    /// Resolves when the next one may begin. May be dropped and called again.
    pub(crate) async fn next(&mut self) {
        let Some(Ticks { ticks, each, left }) = &mut self.0 else { return };
        if *left == 0 {
            ticks.tick().await;
            *left = *each;
        }
        *left -= 1;
    }
}

/// One replay: the letters that had a copy in the retry queue when it began, and the targets that the config has. Two
/// of them at a time are safe, see above.
#[derive(Debug)]
pub struct Replay {
    office: DeadLetterOffice,
    targets: HashSet<String>,
    waiting: HashSet<LetterMark>,
}

impl DeadLetterOffice {
    /// Begins a replay of letters of `selection`: reads which of them have a copy in the retry queue. Letters of other
    /// targets than `known` are refused later on.
    ///
    /// # Errors
    /// The retry queue is not there, or the broker refuses or does not answer.
    pub async fn begin_replay(
        &self,
        selection: &Selection,
        known: impl IntoIterator<Item = TargetName>,
    ) -> Result<Replay, OfficeError> {
        let waiting =
            self.with_copies(selection).await.map_err(|error| OfficeError::RetryQueue(error.into()))?;
        let targets = known.into_iter().map(|name| name.to_string()).collect();
        Ok(Replay { office: self.clone(), targets, waiting })
    }

    /// The letters that have a copy in the retry queue.
    async fn with_copies(&self, selection: &Selection) -> Result<HashSet<LetterMark>, BrokerError> {
        let filter = self.name.retry_subject(selection.target.as_ref().map_or("*", TargetName::as_str));
        let queue = StreamReader::new(Arc::clone(&self.broker), self.name.retry_stream());
        // A copy is stored after its letter was.
        let from = match selection.since.and_then(|since| since.checked_sub(CLOCKS_DIFFER)) {
            Some(since) => queue.first_since(&filter, since).await?,
            None => 1,
        };
        let mut walk = queue.walk(filter, from, AHEAD_MAX);
        let mut waiting = HashSet::new();
        while let Some(message) = walk.next().await? {
            waiting.extend(read_waiting(message).ok().and_then(|waiting| waiting.letter));
        }
        Ok(waiting)
    }

    /// Replays the letter `id`.
    ///
    /// # Errors
    /// A stream is not there, or the broker refuses or does not answer. Trying again is safe.
    pub async fn replay(
        &self,
        id: u64,
        known: impl IntoIterator<Item = TargetName>,
    ) -> Result<Replayed, OfficeError> {
        let Some(letter) = self.get(id).await? else { return Ok(Replayed::Missing) };
        let target = TargetName::new(&letter.target);
        let selection = Selection { target, since: Some(letter.stored), ..Selection::default() };
        self.begin_replay(&selection, known).await?.one(id).await
    }
}

impl Replay {
    /// Replays the letter `id`.
    ///
    /// # Errors
    /// A stream is not there, or the broker refuses or does not answer. Trying again, with another [`Replay`] too, is
    /// safe.
    pub async fn one(&self, id: u64) -> Result<Replayed, OfficeError> {
        match self.office.get(id).await? {
            None => Ok(Replayed::Missing),
            Some(letter) => self.letter(letter).await,
        }
    }

    /// Replays the letters of `selection` that are stored up to now; what is given up meanwhile is not replayed again.
    /// `told` is called for each of them, not quite in their order.
    ///
    /// # Errors
    /// As [`Self::one`]: what is done is done, and running it again does the rest.
    pub async fn selection(
        &self,
        selection: &Selection,
        pace: &Pace,
        mut told: impl FnMut(u64, &Replayed),
    ) -> Result<Tally, OfficeError> {
        let last = self.office.last().await?;
        let mut turns = pace.turns();
        let mut round = self.office.round(selection, 0, pace.ahead()).await?;
        let (mut tally, mut open, mut at_end) = (Tally::default(), FuturesUnordered::new(), false);
        loop {
            tokio::select! {
                biased;
                Some((id, replayed)) = open.next() => {
                    let replayed = replayed?;
                    tally.count(&replayed);
                    told(id, &replayed);
                }
                () = turns.next(), if !at_end && open.len() < IN_FLIGHT_MAX => {
                    match round.next().await?.filter(|letter| letter.id <= last) {
                        Some(letter) => open.push(async { (letter.id, self.letter(letter).await) }),
                        None => at_end = true,
                    }
                }
                else => return Ok(tally),
            }
        }
    }

    /// What would become of `letter`; nothing is changed. Asks the broker only where a part of it was left out.
    ///
    /// # Errors
    /// The broker refuses or does not answer.
    pub async fn foresee(&self, letter: DeadLetter) -> Result<Replayed, OfficeError> {
        if self.waiting.contains(&letter.mark()) {
            return Ok(Replayed::AlreadyWaiting);
        }
        let revived = self.revived(letter, SystemTime::now()).await?;
        Ok(revived.map_or_else(Replayed::Refused, |_| Replayed::Stored))
    }

    async fn letter(&self, letter: DeadLetter) -> Result<Replayed, OfficeError> {
        let mark = letter.mark();
        if self.waiting.contains(&mark) {
            self.office.remove_marked(mark).await?;
            return Ok(Replayed::AlreadyWaiting);
        }
        let now = SystemTime::now();
        let (target, delivery) = match self.revived(letter, now).await? {
            Ok(revived) => revived,
            Err(refusal) => return Ok(Replayed::Refused(refusal)),
        };
        let headers = envelope::replayed_headers(&delivery, target.as_str(), ReplayOf::Letter(mark), now);
        match self.office.put_back(&target, headers, delivery).await {
            Ok(()) => {}
            Err(error @ (StoreError::TooLarge { .. } | StoreError::TooManyHeaders { .. })) => {
                return Ok(Replayed::Refused(NotReplayable::TooLarge(error.to_string())));
            }
            Err(error) => return Err(OfficeError::RetryQueue(error)),
        }
        self.office.letters.remove(mark.id).await?;
        Ok(Replayed::Stored)
    }

    /// The whole delivery that `letter` was.
    async fn revived(
        &self,
        letter: DeadLetter,
        now: SystemTime,
    ) -> Result<Result<(TargetName, Delivery), NotReplayable>, OfficeError> {
        let revived = letter.delivery(now).and_then(|revived| Ok((revived, letter.rest()?)));
        let ((target, mut delivery), rest) = match revived {
            Ok(revived) => revived,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !self.targets.contains(target.as_str()) {
            return Ok(Err(NotReplayable::UnknownTarget(target.to_string())));
        }
        let Some(place) = rest else { return Ok(Ok((target, delivery))) };
        let source = StreamReader::new(Arc::clone(&self.office.broker), place.stream.as_str());
        let found = match source.get(place.sequence).await {
            Ok(found) => found,
            Err(BrokerError::NoStream(_)) => None,
            Err(error) => return Err(error.into()),
        };
        // Another stream of the same name holds another message there.
        let same = |message: &Message| {
            message.published == delivery.message.published && message.subject == delivery.message.subject
        };
        match found.filter(same) {
            Some(message) => {
                delivery.message = message;
                Ok(Ok((target, delivery)))
            }
            None => {
                let envelope::Place { stream, sequence, what } = place;
                Ok(Err(NotReplayable::Gone { what, stream, sequence }))
            }
        }
    }
}

impl DeadLetterOffice {
    /// Stores in the retry queue, which natshook makes when it starts.
    async fn put_back(
        &self,
        target: &TargetName,
        headers: Headers,
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        let subject = self.name.retry_subject(target.as_str());
        self.broker.store(&subject, &headers, delivery.message.payload).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_more_is_read_ahead_than_is_stored_in_a_second() {
        let ahead = |requests: u32, seconds| {
            let rate = Rate { requests: requests.try_into().unwrap(), per: Duration::from_secs(seconds) };
            Pace { rate: Some(rate) }.ahead()
        };
        assert_eq!((ahead(5, 3600), ahead(1, 1), ahead(50, 1), ahead(100_000, 1)), (1, 1, 50, AHEAD_MAX));
        assert_eq!(Pace::default().ahead(), AHEAD_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn high_rates_are_kept_although_timers_are_coarse() {
        for (requests, per) in [(5_u32, 1), (50, 1), (3_000, 1), (120, 60)] {
            let rate = Rate { requests: requests.try_into().unwrap(), per: Duration::from_secs(per) };
            let mut turns = Pace { rate: Some(rate) }.turns();
            let began = tokio::time::Instant::now();
            for _ in 0..requests * 2 {
                turns.next().await;
            }
            let (took, wanted) = (began.elapsed().as_secs_f64(), 2.0 * per as f64);
            assert!(took <= wanted && took > wanted * 0.8 - 0.2, "{requests}: {took} s");
        }
    }
}
