//! Whether natshook can deliver at this moment, and if not, what is missing. Each generation has its own: what one that a
//! changed config replaced still waits for is no news.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

const BROKER: &str = "connection to the broker";

/// Where natshook is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Connecting,
    Preparing,
    Running,
    Draining,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    parts: Vec<(String, watch::Receiver<bool>)>,
}

/// What has to stand for natshook to be ready. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

impl Readiness {
    /// The broker was reached for the first time.
    pub(super) fn connected(&self, stands: watch::Receiver<bool>) {
        self.follow(BROKER, stands);
        self.state().phase = Phase::Preparing;
    }

    /// The broker was asked what it can do, and natshook's own streams are there.
    pub(super) fn started(&self) {
        self.state().phase = Phase::Running;
    }

    /// natshook ends.
    pub(super) fn draining(&self) {
        self.state().phase = Phase::Draining;
    }

    /// Whether natshook ends.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state().phase == Phase::Draining
    }

    /// From now on `part` has to stand too, for as long as somebody holds the other end of `stands`.
    pub(super) fn follow(&self, part: impl Into<String>, stands: watch::Receiver<bool>) {
        let mut state = self.state();
        state.parts.retain(|(_, stands)| is_held(stands));
        state.parts.push((part.into(), stands));
    }

    /// What is missing; empty when natshook is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Connecting => Some(BROKER.to_owned()),
            Phase::Preparing => Some("JetStream and natshook's own streams".to_owned()),
            Phase::Running => None,
            Phase::Draining => Some("draining".to_owned()),
        };
        let parts = state
            .parts
            .iter()
            .filter(|(_, stands)| is_held(stands) && !*stands.borrow())
            .map(|(part, _)| part.clone());
        phase.into_iter().chain(parts).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the part is still there: a target that left the config takes its parts along.
fn is_held(stands: &watch::Receiver<bool>) -> bool {
    stands.has_changed().is_ok()
}
