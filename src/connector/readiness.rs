//! Whether natshook can deliver at this moment, and if not, what is missing.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// What has to stand for natshook to be ready.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<State>);

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

    /// From now on `part` has to stand too.
    pub(super) fn follow(&self, part: impl Into<String>, stands: watch::Receiver<bool>) {
        self.state().parts.push((part.into(), stands));
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
        let parts = state.parts.iter().filter(|(_, stands)| !*stands.borrow()).map(|(part, _)| part.clone());
        phase.into_iter().chain(parts).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
