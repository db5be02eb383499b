//! Small charts of a target's last five minutes, drawn on the server. Pure.

use std::fmt::Write;

use maud::{Markup, html};

use crate::status::{SLOTS_MAX, Slot};

use super::words;

/// How high a chart is, in the units of its drawing.
const HEIGHT: f64 = 30.0;
/// Room at the top and at the bottom for the thickness of the line.
const EDGE: f64 = 1.5;
/// The width of a slot.
const STEP: usize = 2;

/// What a chart shows of each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Attempts that ended in a 2xx.
    Throughput,
    /// Attempts that did not.
    Failures,
    /// How long 99 % of the attempts took at most.
    P99,
    /// Messages that wait.
    Pending,
}

impl Measure {
    /// Every measure, in the order in which they are shown.
    pub(super) const ALL: [Self; 4] = [Self::Throughput, Self::Failures, Self::P99, Self::Pending];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "Throughput",
            Self::Failures => "Failures",
            Self::P99 => "p99",
            Self::Pending => "Pending",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Throughput => "good",
            Self::Failures => "bad",
            Self::P99 => "time",
            Self::Pending => "wait",
        }
    }

    fn of(self, slot: &Slot) -> u32 {
        match self {
            Self::Throughput => slot.delivered,
            Self::Failures => slot.failed,
            Self::P99 => slot.p99_micros,
            Self::Pending => slot.pending,
        }
    }

    /// A value of a slot in words.
    pub(super) fn words(self, value: u32) -> String {
        let seconds = crate::status::SLOT.as_secs_f64();
        match self {
            Self::Throughput | Self::Failures => words::rate(f64::from(value) / seconds),
            Self::P99 => words::micros(value.into()),
            Self::Pending => words::count(value.into()),
        }
    }

    /// The latest and the greatest value of `history`. A slot without attempts says nothing of how long they take.
    pub(super) fn latest_and_most(self, history: &[Slot]) -> (u32, u32) {
        let says = |value: &u32| self != Self::P99 || *value > 0;
        let latest = history.iter().rev().map(|slot| self.of(slot)).find(says).unwrap_or_default();
        (latest, history.iter().map(|slot| self.of(slot)).max().unwrap_or_default())
    }
}

/// The chart of `measure`, with the same in words for those who do not see it.
pub(super) fn sparkline(measure: Measure, history: &[Slot]) -> Markup {
    let (latest, most) = measure.latest_and_most(history);
    let said = format!(
        "{} of the last five minutes: now {}, at most {}",
        measure.name(),
        measure.words(latest),
        measure.words(most)
    );
    let view = format!("0 0 {} {HEIGHT}", (SLOTS_MAX - 1) * STEP);
    let (line, area) = paths(measure, history, most);
    html! {
        svg.spark.(measure.class()) viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(said) {
            path.base d=(format!("M0 {HEIGHT}H{}", (SLOTS_MAX - 1) * STEP)) {}
            path.area d=(area) {}
            path.line d=(line) {}
        }
    }
}

/// The line, and the same closed along the bottom. The latest slot stands at the right edge.
fn paths(measure: Measure, history: &[Slot], most: u32) -> (String, String) {
    let history = &history[history.len().saturating_sub(SLOTS_MAX)..];
    let missing = SLOTS_MAX - history.len();
    let mut line = String::new();
    for (at, slot) in history.iter().enumerate() {
        let height = f64::from(measure.of(slot)) / f64::from(most.max(1));
        let y = HEIGHT - EDGE - height * (HEIGHT - 2.0 * EDGE);
        let _ = write!(line, "{}{} {y:.1}", if at == 0 { "M" } else { "L" }, (missing + at) * STEP);
    }
    let area = match history.len() {
        0 => String::new(),
        _ => format!("{line}V{HEIGHT}H{}Z", missing * STEP),
    };
    (line, area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(delivered: u32) -> Slot {
        Slot { delivered, ..Slot::default() }
    }

    #[test]
    fn the_latest_slot_is_at_the_right_and_the_greatest_at_the_top() {
        let history = [slot(0), slot(10), slot(5)];
        let (line, area) = paths(Measure::Throughput, &history, 10);
        assert_eq!(line, "M114 28.5L116 1.5L118 15.0");
        assert_eq!(area, "M114 28.5L116 1.5L118 15.0V30H114Z");
        let html = sparkline(Measure::Throughput, &history).into_string();
        assert!(html.contains("Throughput of the last five minutes: now 1.0/s, at most 2.0/s"), "{html}");
    }

    #[test]
    fn no_history_and_too_much_of_it_are_drawn_too() {
        assert_eq!(paths(Measure::P99, &[], 0), (String::new(), String::new()));
        let long: Vec<Slot> = (0..500).map(slot).collect();
        let (line, _) = paths(Measure::Throughput, &long, 499);
        assert!(line.starts_with("M0 ") && line.ends_with("L118 1.5"), "{line}");
    }
}
