//! A session: a cookie that says until when somebody is let in, and proves that natshook said so. Nothing is kept, so it
//! holds in every replica and across restarts; with another token the proof is another. Pure.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use std::time::{Duration, SystemTime};

/// How long a session lasts.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// The cookie's name.
pub(super) const COOKIE: &str = "natshook_session";

/// What the key is derived for, so that no other use of the token makes the same one.
const PURPOSE: &[u8] = b"natshook admin session, 1";
const EXPIRES_BYTES: usize = 8;
const NONCE_BYTES: usize = 16;
/// What stands before the proof.
const CLAIM_BYTES: usize = EXPIRES_BYTES + NONCE_BYTES;

/// What tells one session from another.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// With which sessions are made and recognised.
#[derive(Clone, Debug)]
pub(super) struct SessionKey(hmac::Key);

impl SessionKey {
    /// The one key of `token`.
    pub(super) fn new(token: &str) -> Self {
        let token = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&token, PURPOSE).as_ref()))
    }

    /// A session that begins at `now`.
    pub(super) fn begin(&self, now: SystemTime, nonce: Nonce) -> String {
        let expires = seconds(now + LIFE).to_be_bytes();
        let claim = [&expires[..], &nonce].concat();
        let proof = hmac::sign(&self.0, &claim);
        URL_SAFE_NO_PAD.encode([&claim[..], proof.as_ref()].concat())
    }

    /// Whether `session` was begun with this key and has not ended at `now`.
    pub(super) fn holds(&self, session: &str, now: SystemTime) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(session) else { return false };
        let Some((claim, proof)) = bytes.split_at_checked(CLAIM_BYTES) else { return false };
        let Some(expires) = claim.first_chunk::<EXPIRES_BYTES>() else { return false };
        hmac::verify(&self.0, claim, proof).is_ok() && seconds(now) < u64::from_be_bytes(*expires)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "a token of sixteen or more";
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_session_holds_until_its_end_and_with_its_token_only() {
        let session = SessionKey::new(TOKEN).begin(NOW, [7; NONCE_BYTES]);
        assert!(SessionKey::new(TOKEN).holds(&session, NOW));
        assert!(SessionKey::new(TOKEN).holds(&session, NOW + LIFE - Duration::from_secs(1)));
        assert!(!SessionKey::new(TOKEN).holds(&session, NOW + LIFE));
        assert!(!SessionKey::new("another token of that length").holds(&session, NOW));
        assert!(session.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{session}");
    }

    proptest! {
        /// Whatever is sent instead of a session is none.
        #[test]
        fn no_other_text_is_a_session(text in ".{0,120}", at in 0_usize..74, bit in 0_u8..8) {
            let key = SessionKey::new(TOKEN);
            prop_assert!(!key.holds(&text, NOW));
            let mut bytes = URL_SAFE_NO_PAD.decode(key.begin(NOW, [7; NONCE_BYTES])).unwrap_or_default();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(!key.holds(&URL_SAFE_NO_PAD.encode(&bytes), NOW));
            prop_assert!(!key.holds(&URL_SAFE_NO_PAD.encode(&bytes[..at]), NOW));
        }
    }
}
