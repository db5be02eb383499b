//! The batch that is forming: when it is full, and how one that was refused is halved. Pure; the time is an argument.

use std::time::Instant;

use super::Batching;

/// Members that wait for others.
#[derive(Debug)]
pub struct Forming<M> {
    batching: Batching,
    members: Vec<M>,
    /// What their body would have.
    bytes: usize,
    /// When they go, full or not; none while there are none.
    due: Option<Instant>,
}

impl<M> Forming<M> {
    /// Nobody yet.
    #[must_use]
    pub fn new(batching: Batching) -> Self {
        Self { batching, members: Vec::new(), bytes: 0, due: None }
    }

    /// One more, whose part has so many `bytes`. What is full now goes: the batch that has no room for it, and the one
    /// that it fills.
    #[must_use]
    pub fn add(&mut self, member: M, bytes: usize, now: Instant) -> [Option<Vec<M>>; 2] {
        let format = self.batching.format;
        let no_room = self.bytes + format.framed(bytes) > self.batching.max_bytes;
        let before = if no_room { self.close() } else { None };
        if self.members.is_empty() {
            self.bytes = format.frame();
            self.due = Some(now + self.batching.max_wait);
        }
        self.members.push(member);
        self.bytes += format.framed(bytes);
        let full =
            self.members.len() >= self.batching.max_messages.get() || self.bytes >= self.batching.max_bytes;
        [before, if full { self.close() } else { None }]
    }

    /// What waits goes now.
    #[must_use]
    pub fn close(&mut self) -> Option<Vec<M>> {
        self.due = None;
        self.bytes = 0;
        let members = std::mem::take(&mut self.members);
        (!members.is_empty()).then_some(members)
    }

    /// When what waits goes, full or not; `None` while nobody waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// Both halves of a batch, in order; the first is not the smaller one.
#[must_use]
pub fn halves<M>(mut members: Vec<M>) -> [Vec<M>; 2] {
    let second = members.split_off(members.len().div_ceil(2));
    [members, second]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{AnswerRule, Format};

    fn batching(max_messages: usize, max_bytes: usize, format: Format) -> Batching {
        let max_messages = NonZeroUsize::new(max_messages).unwrap();
        Batching {
            max_messages,
            max_bytes,
            max_wait: Duration::from_secs(1),
            format,
            answer: AnswerRule::Whole,
        }
    }

    fn closed(forming: &mut Forming<usize>, bytes: &[usize]) -> Vec<Vec<usize>> {
        let now = Instant::now();
        let add = |(member, bytes): (usize, &usize)| forming.add(member, *bytes, now);
        bytes.iter().enumerate().flat_map(add).flatten().collect()
    }

    #[test]
    fn a_batch_goes_when_it_has_as_many_as_it_may() {
        let mut forming = Forming::new(batching(2, 1000, Format::JsonArray));
        assert_eq!(closed(&mut forming, &[1, 1, 1]), [vec![0, 1]]);
        assert_eq!(forming.close(), Some(vec![2]));
        assert_eq!(forming.close(), None);
    }

    #[test]
    fn a_batch_goes_before_it_is_too_large_and_a_giant_goes_alone() {
        let mut forming = Forming::new(batching(100, 10, Format::Ndjson));
        assert_eq!(closed(&mut forming, &[4, 4, 4]), [vec![0, 1]], "two lines of five bytes are ten");
        assert_eq!(closed(&mut forming, &[50]), [vec![2], vec![0]]);
        assert_eq!(forming.due(), None);
    }

    #[test]
    fn the_first_member_s_wait_is_the_batch_s() {
        let mut forming = Forming::new(batching(100, 1000, Format::JsonArray));
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_millis(900));
        assert_eq!(forming.due(), None);
        let _ = forming.add(0, 1, now);
        let _ = forming.add(1, 1, later);
        assert_eq!(forming.due(), Some(now + Duration::from_secs(1)));
    }

    /// What a receiver that refuses every batch with a poison member in it is sent, and what is refused alone.
    fn search(batch: Vec<usize>, poison: &BTreeSet<usize>) -> (usize, BTreeSet<usize>, Vec<usize>) {
        let (mut requests, mut refused, mut accepted) = (0, BTreeSet::new(), Vec::new());
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            requests += 1;
            match batch.as_slice() {
                batch if batch.iter().all(|member| !poison.contains(member)) => accepted.extend(batch),
                [alone] => drop(refused.insert(*alone)),
                _ => waiting.extend(halves(batch)),
            }
        }
        accepted.sort_unstable();
        (requests, refused, accepted)
    }

    proptest! {
        #[test]
        fn halving_finds_exactly_the_poison_and_everybody_else_is_accepted_once(
            size in 1_usize..200,
            poison in prop::collection::btree_set(0_usize..200, 0..6),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|member| *member < size).collect();
            let (requests, refused, accepted) = search((0..size).collect(), &poison);
            prop_assert_eq!(&refused, &poison);
            let others: Vec<usize> = (0..size).filter(|member| !poison.contains(member)).collect();
            prop_assert_eq!(accepted, others);
            let levels = size.next_power_of_two().ilog2() as usize;
            prop_assert!(requests <= 1 + 2 * levels * poison.len(), "{} requests", requests);
        }

        #[test]
        fn every_batch_is_within_its_bounds_and_nobody_is_left_out(
            sizes in prop::collection::vec(1_usize..40, 1..100),
            max_messages in 2_usize..10,
            max_bytes in 10_usize..100,
            format in prop::sample::select(vec![Format::JsonArray, Format::Ndjson]),
        ) {
            let mut forming = Forming::new(batching(max_messages, max_bytes, format));
            let mut batches = closed(&mut forming, &sizes);
            batches.extend(forming.close());
            prop_assert_eq!(batches.concat(), (0..sizes.len()).collect::<Vec<_>>());
            for batch in batches {
                prop_assert!(batch.len() <= max_messages);
                let parts: Vec<Bytes> = batch.iter().map(|member| vec![b'1'; sizes[*member]].into()).collect();
                let body = format.body(&parts);
                prop_assert!(body.len() <= max_bytes || batch.len() == 1, "{} bytes", body.len());
            }
        }
    }
}
