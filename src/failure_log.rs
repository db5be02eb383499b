//! How much is said of failures that repeat: the first few in full, the rest summed up, so that a target which fails ten
//! thousand times in a minute costs two dozen lines and one which fails once an hour is told of each time. Pure: the
//! time is an argument, and nothing is written here.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long failures are counted together. Short enough that a summary tells of what is happening now.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many failures of a window are told in full, of each fate: what is given up must not be passed over because
/// something waits.
const IN_FULL: u32 = 3;
/// The same for a window that follows one with more: what they look like has been seen.
const IN_FULL_AGAIN: u32 = 1;
/// How many different errors are told apart in a window; failures with further ones are counted and not named.
const ERRORS_MAX: usize = 16;

/// What became of whatever failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits for another attempt.
    Waits,
    /// It is given up.
    GivenUp,
}

/// A failure, as far as a summary tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What became of it.
    pub fate: Fate,
    /// What went wrong, in words.
    pub error: &'a str,
    /// Stream and sequence of the message, if it is stored.
    pub place: Option<(&'a Arc<str>, u64)>,
}

/// Failures that were not told in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many of them wait.
    pub waiting: u64,
    /// How many of them are given up.
    pub given_up: u64,
    /// What went wrong most often.
    pub error: String,
    /// The stream of the first stored message among them, and the lowest and highest sequence of those in it.
    pub range: Option<Range>,
}

/// Where the messages of a [`Summary`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The stream.
    pub stream: Arc<str>,
    /// The lowest sequence.
    pub first: u64,
    /// The highest sequence.
    pub last: u64,
}

/// What is to be written about a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Noted {
    /// What came before, if that ended with this.
    pub before: Option<Summary>,
    /// Whether the failure gets a line of its own; else it is counted.
    pub in_full: bool,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    /// How many may still be told in full, of those that wait and of those that are given up.
    in_full_left: [u32; 2],
    waiting: u64,
    given_up: u64,
    errors: Vec<(String, u64)>,
    range: Option<Range>,
}

/// The failures of one kind and place, such as those of a target.
#[derive(Debug, Default)]
pub struct FailureLog {
    window: Option<Window>,
    /// When the last window with a summary ended.
    summed_up: Option<Instant>,
}

impl FailureLog {
    /// Notes a failure at `now`.
    pub fn note(&mut self, failure: &Failure<'_>, now: Instant) -> Noted {
        let before = self.due(now);
        let busy = self.summed_up.is_some_and(|end| now.saturating_duration_since(end) < WINDOW);
        let in_full_left = if busy { IN_FULL_AGAIN } else { IN_FULL };
        let window = self.window.get_or_insert_with(|| Window::new(now, in_full_left));
        Noted { before, in_full: window.note(failure) }
    }

    /// What is to be said at `now` of a window that is over. To be asked every few seconds.
    pub fn due(&mut self, now: Instant) -> Option<Summary> {
        let end = self.window.as_ref()?.began + WINDOW;
        if now < end {
            return None;
        }
        let summary = self.close();
        self.summed_up = summary.as_ref().map(|_| end.max(now));
        summary
    }

    /// What has not been said yet, when nothing more is to come.
    pub fn close(&mut self) -> Option<Summary> {
        self.window.take().and_then(Window::summary)
    }
}

impl Window {
    fn new(began: Instant, in_full_left: u32) -> Self {
        Self {
            began,
            in_full_left: [in_full_left; 2],
            waiting: 0,
            given_up: 0,
            errors: Vec::new(),
            range: None,
        }
    }

    fn note(&mut self, failure: &Failure<'_>) -> bool {
        let (in_full_left, count) = match failure.fate {
            Fate::Waits => (&mut self.in_full_left[0], &mut self.waiting),
            Fate::GivenUp => (&mut self.in_full_left[1], &mut self.given_up),
        };
        if *in_full_left > 0 {
            *in_full_left -= 1;
            return true;
        }
        *count += 1;
        match self.errors.iter().position(|(error, _)| error == failure.error) {
            Some(known) => self.errors[known].1 += 1,
            None if self.errors.len() < ERRORS_MAX => self.errors.push((failure.error.to_owned(), 1)),
            None => {}
        }
        if let Some((stream, sequence)) = failure.place {
            let range = self.range.get_or_insert_with(|| Range {
                stream: Arc::clone(stream),
                first: sequence,
                last: sequence,
            });
            if range.stream == *stream {
                range.first = range.first.min(sequence);
                range.last = range.last.max(sequence);
            }
        }
        false
    }

    fn summary(self) -> Option<Summary> {
        let Self { waiting, given_up, errors, range, .. } = self;
        let error = errors.into_iter().max_by_key(|(_, count)| *count).map(|(error, _)| error);
        (waiting + given_up > 0).then(|| Summary {
            waiting,
            given_up,
            error: error.unwrap_or_default(),
            range,
        })
    }
}

/// For lines that tell of one thing and may come in crowds: one in each [`WINDOW`].
#[derive(Debug, Default)]
pub struct Sparing {
    last: Option<Instant>,
    held_back: u64,
}

impl Sparing {
    /// Whether a line may be written at `now`, and if so, how many like it were not since the last one.
    pub fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < WINDOW) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn failure<'a>(fate: Fate, error: &'a str, stream: &'a Arc<str>, sequence: u64) -> Failure<'a> {
        Failure { fate, error, place: Some((stream, sequence)) }
    }

    #[test]
    fn a_summary_tells_what_has_no_line_of_its_own() {
        let (mut log, start, stream) = (FailureLog::default(), Instant::now(), Arc::from("EVENTS"));
        for sequence in 1..=3 {
            let noted = log.note(&failure(Fate::Waits, "answered 500", &stream, sequence), start);
            assert_eq!(noted, Noted { before: None, in_full: true });
        }
        for sequence in 11..=13 {
            let given_up = failure(Fate::GivenUp, "answered 400", &stream, sequence);
            assert!(log.note(&given_up, start).in_full, "what waits does not hide it");
        }
        for (fate, error, sequence) in [
            (Fate::Waits, "answered 500", 9),
            (Fate::GivenUp, "answered 400", 4),
            (Fate::Waits, "answered 500", 7),
        ] {
            assert!(!log.note(&failure(fate, error, &stream, sequence), start).in_full);
        }
        assert_eq!(log.due(start + WINDOW - Duration::from_millis(1)), None);
        let range = Range { stream: Arc::clone(&stream), first: 4, last: 9 };
        let summary = Summary { waiting: 2, given_up: 1, error: "answered 500".into(), range: Some(range) };
        assert_eq!(log.due(start + WINDOW), Some(summary));
        let after = |n| start + WINDOW * n;
        assert!(log.note(&failure(Fate::Waits, "e", &stream, 1), after(1)).in_full);
        assert!(!log.note(&failure(Fate::Waits, "e", &stream, 1), after(1)).in_full, "it is known by now");
        assert_eq!(log.close().map(|summary| summary.waiting), Some(1));
        assert_eq!(log.close(), None);
    }

    #[test]
    fn a_target_that_fails_rarely_gets_every_line() {
        let (mut log, start, stream) = (FailureLog::default(), Instant::now(), Arc::from("EVENTS"));
        for n in 0..100 {
            let now = start + Duration::from_millis(4_000 * n);
            let noted = log.note(&failure(Fate::Waits, "e", &stream, n), now);
            assert_eq!(noted, Noted { before: None, in_full: true });
        }
    }

    #[test]
    fn one_line_in_each_window_says_how_many_there_were_not() {
        let (mut sparing, start) = (Sparing::default(), Instant::now());
        assert_eq!(sparing.line(start), Some(0));
        assert_eq!(sparing.line(start), None);
        assert_eq!(sparing.line(start + WINDOW / 2), None);
        assert_eq!(sparing.line(start + WINDOW), Some(2));
    }

    proptest! {
        #[test]
        fn every_failure_is_told_once_and_no_minute_has_many_lines(
            steps in prop::collection::vec((0_u64..3_000, any::<bool>(), 0..40_u8, any::<bool>()), 1..600),
            burst in 1_usize..40,
        ) {
            let (mut log, start, stream) = (FailureLog::default(), Instant::now(), Arc::from("EVENTS"));
            let (mut now, mut lines, mut noted, mut told) = (start, Vec::new(), 0_u64, 0_u64);
            for (millis, waits, error, tick) in steps {
                now += Duration::from_millis(millis / burst as u64);
                let summary = if tick {
                    log.due(now)
                } else {
                    noted += 1;
                    let error = format!("answered {error}");
                    let fate = if waits { Fate::Waits } else { Fate::GivenUp };
                    let Noted { before, in_full } = log.note(&failure(fate, &error, &stream, noted), now);
                    if in_full {
                        told += 1;
                        lines.push(now);
                    }
                    before
                };
                if let Some(summary) = summary {
                    prop_assert!(!summary.error.is_empty());
                    told += summary.waiting + summary.given_up;
                    lines.push(now);
                }
                let errors = log.window.as_ref().map_or(0, |window| window.errors.len());
                prop_assert!(errors <= ERRORS_MAX);
            }
            told += log.close().map_or(0, |summary| summary.waiting + summary.given_up);
            prop_assert_eq!(told, noted);
            for (nth, from) in lines.iter().enumerate() {
                let minute = lines[nth..].iter().take_while(|at| **at - *from < Duration::from_secs(60)).count();
                prop_assert!(minute <= 40, "{} lines", minute);
            }
        }

        #[test]
        fn ten_thousand_failures_in_a_minute_are_sixteen_lines(gap in 1_u64..6) {
            let (mut log, start, stream) = (FailureLog::default(), Instant::now(), Arc::from("EVENTS"));
            let mut lines = 0;
            for n in 0..10_000 {
                let now = start + Duration::from_millis(n * gap);
                let noted = log.note(&failure(Fate::Waits, "e", &stream, n), now);
                lines += u32::from(noted.in_full) + u32::from(noted.before.is_some());
            }
            lines += u32::from(log.close().is_some());
            prop_assert!(lines <= 16, "{} lines", lines);
        }
    }
}
