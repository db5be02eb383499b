//! When the collector of traces fails, and when it is over: so that an outage is told in two lines, however many exports
//! fail and however often it seems to recover. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// For how long nothing may have been lost before an outage is over. Without this, a collector that takes every other
/// batch would be told of with every batch.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// An outage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// How many spans it cost.
    pub(super) lost: u64,
    /// How long it lasted.
    pub(super) lasted: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    last: Instant,
    lost: u64,
}

/// Whether spans are being lost.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Outage>);

impl Trouble {
    /// Notes that `spans` were lost; true when this begins an outage.
    pub(super) fn lost(&mut self, spans: u64, now: Instant) -> bool {
        let begins = self.0.is_none();
        let outage = self.0.get_or_insert(Outage { since: now, last: now, lost: 0 });
        outage.last = now;
        outage.lost = outage.lost.saturating_add(spans);
        begins
    }

    /// Notes that the collector took spans; the outage, if that ends one.
    pub(super) fn fine(&mut self, now: Instant) -> Option<Over> {
        let over = self.0.take_if(|outage| now.saturating_duration_since(outage.last) >= OVER_AFTER)?;
        Some(Over { lost: over.lost, lasted: over.last.saturating_duration_since(over.since) })
    }

    /// How many spans were lost that no [`Over`] has told of, when nothing more is to come.
    pub(super) fn end(&mut self) -> u64 {
        self.0.take().map_or(0, |outage| outage.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_has_been_over_for_a_while() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(trouble.fine(at(0)), None);
        assert!(trouble.lost(512, at(1)));
        assert!(!trouble.lost(100, at(5)));
        assert_eq!(trouble.fine(at(14)), None);
        assert_eq!(trouble.fine(at(15)), Some(Over { lost: 612, lasted: Duration::from_secs(4) }));
        assert_eq!(trouble.fine(at(16)), None);
    }

    proptest! {
        #[test]
        fn lines_are_few_and_every_lost_span_is_counted_once(
            events in prop::collection::vec((0_u64..2_000, 0_u64..100), 0..400),
        ) {
            let (mut trouble, start) = (Trouble::default(), Instant::now());
            let (mut now, mut lines, mut lost, mut told) = (start, 0, 0, 0);
            for (millis, spans) in events {
                now += Duration::from_millis(millis);
                if spans > 30 {
                    lost += spans;
                    lines += u64::from(trouble.lost(spans, now));
                } else if let Some(over) = trouble.fine(now) {
                    lines += 1;
                    told += over.lost;
                }
            }
            prop_assert_eq!(told + trouble.end(), lost);
            prop_assert!(lines <= 1 + 2 * now.duration_since(start).as_secs().div_ceil(OVER_AFTER.as_secs()));
        }
    }
}
