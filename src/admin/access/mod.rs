//! Who may do what. Without a token whoever is on this machine may do everything, and only browsers are watched: another
//! site must not act through one. With a token everything but health needs it, or a session that was begun with it.
//! `rules` says what the config allows, `judge` decides about a request, `login` hands out sessions; `origin`, `session`
//! and `tries` are the pure parts. Nothing here knows what the pages show.

mod judge;
mod login;
mod origin;
mod rules;
mod session;
mod tries;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

pub(super) use judge::{Asker, guard};
pub(super) use login::{form, log_in, log_out};
pub(super) use rules::Rules;
use tries::Tries;

/// The rules that hold at the moment, and the wrong tokens of late.
#[derive(Debug)]
pub(super) struct Access {
    rules: RwLock<Arc<Rules>>,
    tries: Mutex<Tries>,
}

/// Why a token was not accepted.
#[derive(Debug)]
enum TokenError {
    /// It is another one.
    Wrong,
    /// It was not looked at: there were too many wrong ones from there. Not before this time.
    TooMany(Duration),
}

impl Access {
    /// `rules` hold.
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: RwLock::new(Arc::new(rules)), tries: Mutex::default() }
    }

    /// `rules` hold from now on.
    pub(super) fn change(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The rules that hold. Another allocation means that they changed.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at a token from `peer`, unless too many wrong ones came from there.
    fn try_token(&self, rules: &rules::Token, peer: IpAddr, token: &str) -> Result<(), TokenError> {
        let now = Instant::now();
        let mut tries = self.tries();
        if let Some(wait) = tries.wait(peer, now) {
            return Err(TokenError::TooMany(wait));
        }
        if rules.is(token) {
            return Ok(());
        }
        tries.failed(peer, now);
        tracing::warn!(%peer, "a wrong token for the admin listener");
        Err(TokenError::Wrong)
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
