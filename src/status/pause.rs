//! An operator's word about a target: paused, or resumed. Plain data; where it is kept is the business of
//! `connector::pauses`, what it stops that of `lane`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Whether an operator paused a target, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is sent to the target; its messages wait.
    Paused {
        /// Since when.
        since: SystemTime,
    },
    /// It was paused and is not any more.
    Lifted {
        /// Since when.
        at: SystemTime,
    },
}

/// The form in which a word is kept, so that people can read it with NATS's own tools.
#[derive(Serialize, Deserialize)]
struct Written {
    paused: bool,
    at: String,
}

impl Pause {
    /// Whether the target is paused.
    #[must_use]
    pub fn is_paused(self) -> bool {
        matches!(self, Self::Paused { .. })
    }

    /// As it is kept: `{"paused":true,"at":"2026-01-31T08:00:00Z"}`.
    #[must_use]
    pub fn to_json(self) -> String {
        let (paused, at) = match self {
            Self::Paused { since } => (true, since),
            Self::Lifted { at } => (false, at),
        };
        let at = at.max(SystemTime::UNIX_EPOCH);
        serde_json::json!({ "paused": paused, "at": humantime::format_rfc3339_millis(at).to_string() })
            .to_string()
    }

    /// Reads what [`Self::to_json`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let Written { paused, at } = serde_json::from_slice(text).ok()?;
        let at = humantime::parse_rfc3339(&at).ok()?;
        Some(if paused { Self::Paused { since: at } } else { Self::Lifted { at } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_nonsense_is_not() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_769_846_400_123);
        for pause in [Pause::Paused { since: at }, Pause::Lifted { at }] {
            assert_eq!(Pause::from_json(pause.to_json().as_bytes()), Some(pause));
        }
        for bad in ["", "{}", "{\"paused\":1}", "{\"paused\":true,\"at\":\"soon\"}"] {
            assert_eq!(Pause::from_json(bad.as_bytes()), None, "{bad}");
        }
    }
}
