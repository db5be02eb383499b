//! Whether natshook can deliver at this moment, and if not, what is missing.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// What has to stand for natshook to be ready.
#[derive(Debug, Default)]
pub struct Readiness {
    started: AtomicBool,
    parts: Mutex<Vec<(String, watch::Receiver<bool>)>>,
}

impl Readiness {
    /// The broker was asked what it can do, and natshook's own streams are there.
    pub(super) fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// From now on `part` has to stand too.
    pub(super) fn follow(&self, part: impl Into<String>, stands: watch::Receiver<bool>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push((part.into(), stands));
    }

    /// What is missing; empty when natshook is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<_> =
            parts.iter().filter(|(_, stands)| !*stands.borrow()).map(|(part, _)| part.clone()).collect();
        if !self.started.load(Ordering::Relaxed) {
            missing.insert(0, "start".to_owned());
        }
        missing
    }
}
