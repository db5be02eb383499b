//! Signatures as Standard Webhooks 1.0 defines them: `v1` (HMAC-SHA256) and `v1a` (ed25519), any number of
//! keys at once so that a secret can be rotated. Pure: the timestamp is an argument.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use zeroize::Zeroizing;

/// The least and the most bytes of a symmetric secret (Standard Webhooks 1.0, signature scheme).
pub const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a text is not a signing secret. Never holds the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither `whsec_` nor `whsk_` at the beginning.
    #[error("must begin with \"whsec_\" (symmetric, v1) or \"whsk_\" (ed25519 secret key, v1a)")]
    UnknownPrefix,
    /// What follows the prefix is not base64.
    #[error("is not base64 after its prefix")]
    NotBase64,
    /// A symmetric secret that is too short or too long.
    #[error("has {0} bytes after decoding; a \"whsec_\" secret has 24 to 64")]
    SymmetricLength(usize),
    /// An ed25519 key that is neither a seed nor seed and public key.
    #[error(
        "is not an ed25519 key: \"whsk_\" holds 32 bytes (the seed) or 64 (seed and the public key that belongs to it)"
    )]
    NotEd25519,
}

/// One key that requests are signed with.
enum SigningKey {
    Symmetric(hmac::Key),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    fn parse(secret: &str) -> Result<Self, KeyError> {
        let decode = |text: &str| STANDARD.decode(text).map(Zeroizing::new).map_err(|_| KeyError::NotBase64);
        if let Some(text) = secret.strip_prefix("whsec_") {
            let bytes = decode(text)?;
            if !SYMMETRIC_BYTES.contains(&bytes.len()) {
                return Err(KeyError::SymmetricLength(bytes.len()));
            }
            Ok(Self::Symmetric(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
        } else if let Some(text) = secret.strip_prefix("whsk_") {
            let bytes = decode(text)?;
            let pair = match bytes.len() {
                32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
                64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
                _ => return Err(KeyError::NotEd25519),
            };
            pair.map(Self::Ed25519).map_err(|_| KeyError::NotEd25519)
        } else {
            Err(KeyError::UnknownPrefix)
        }
    }

    /// Adds the signature of `prefix` and `body` to `header`.
    fn sign(&self, prefix: &[u8], body: &[u8], header: &mut String) {
        match self {
            Self::Symmetric(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(prefix);
                context.update(body);
                header.push_str("v1,");
                STANDARD.encode_string(context.sign(), header);
            }
            Self::Ed25519(pair) => {
                header.push_str("v1a,");
                STANDARD.encode_string(pair.sign(&[prefix, body].concat()), header);
            }
        }
    }

    /// Whether `signature` (without its version) is this key's for `parts`.
    fn verifies(&self, version: &str, signature: &[u8], parts: &[&[u8]]) -> bool {
        match self {
            Self::Symmetric(key) => version == "v1" && hmac::verify(key, &parts.concat(), signature).is_ok(),
            Self::Ed25519(pair) => {
                let public = UnparsedPublicKey::new(&ring::signature::ED25519, pair.public_key().as_ref());
                version == "v1a" && public.verify(&parts.concat(), signature).is_ok()
            }
        }
    }
}

/// The keys of a target, in the order of the config. Cheap to clone; never printed.
#[derive(Clone, Default)]
pub struct SigningKeys(std::sync::Arc<Vec<SigningKey>>);

impl PartialEq for SigningKeys {
    /// Keys are the same when they sign alike: both kinds of signature are a function of key and text alone.
    fn eq(&self, other: &Self) -> bool {
        self.sign("", 0, b"") == other.sign("", 0, b"")
    }
}

impl SigningKeys {
    /// Reads secrets as Standard Webhooks serializes them.
    ///
    /// # Errors
    /// All that are wrong, each with its index.
    pub fn parse<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<(usize, KeyError)>> {
        let mut keys = Vec::new();
        let mut errors = Vec::new();
        for (index, secret) in secrets.into_iter().enumerate() {
            match SigningKey::parse(secret) {
                Ok(key) => keys.push(key),
                Err(error) => errors.push((index, error)),
            }
        }
        if errors.is_empty() { Ok(Self(keys.into())) } else { Err(errors) }
    }

    /// Whether requests go unsigned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `webhook-signature` for a body sent at `timestamp` (seconds since 1970).
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let prefix = [id, ".", itoa::Buffer::new().format(timestamp), "."].concat();
        let mut header = String::with_capacity(self.0.len() * 92);
        for key in self.0.iter() {
            if !header.is_empty() {
                header.push(' ');
            }
            key.sign(prefix.as_bytes(), body, &mut header);
        }
        header
    }

    /// Whether one of the signatures in `header` is one of these keys' for what was received; the age of the
    /// timestamp is the caller's to judge.
    #[must_use]
    pub fn verify(&self, header: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        header
            .split(' ')
            .filter_map(|entry| entry.split_once(','))
            .filter_map(|(version, text)| Some((version, STANDARD.decode(text).ok()?)))
            .any(|(version, signature)| self.0.iter().any(|key| key.verifies(version, &signature, &parts)))
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_vector_is_met() {
        let keys = SigningKeys::parse(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
        assert_eq!(
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn an_independent_implementation_accepts_what_we_sign() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let keys = SigningKeys::parse([secret]).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", "EVENTS-1".parse().unwrap());
        headers.insert("webhook-timestamp", now.to_string().parse().unwrap());
        headers.insert("webhook-signature", keys.sign("EVENTS-1", now, b"{}").parse().unwrap());
        standardwebhooks::Webhook::new(secret).unwrap().verify(b"{}", &headers).unwrap();
    }

    #[test]
    fn bad_secrets_are_named_by_their_place() {
        let errors = SigningKeys::parse(["hunter2", "whsec_!", "whsec_AAAA", "whsk_AAAA"]).unwrap_err();
        assert_eq!(
            errors,
            vec![
                (0, KeyError::UnknownPrefix),
                (1, KeyError::NotBase64),
                (2, KeyError::SymmetricLength(3)),
                (3, KeyError::NotEd25519)
            ]
        );
    }

    proptest! {
        #[test]
        fn every_signature_verifies_and_no_other_body_does(
            seed in prop::array::uniform32(any::<u8>()),
            id in "[a-zA-Z0-9_-]{1,20}",
            timestamp in any::<u32>(),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let secrets = [format!("whsec_{}", STANDARD.encode(seed)), format!("whsk_{}", STANDARD.encode(seed))];
            let keys = SigningKeys::parse(secrets.iter().map(String::as_str)).unwrap();
            let header = keys.sign(&id, timestamp.into(), &body);
            let (first, second) = header.split_once(' ').unwrap();
            let timestamp = timestamp.to_string();
            for signature in [first, second] {
                prop_assert!(keys.verify(signature, &id, &timestamp, &body));
                prop_assert!(!keys.verify(signature, &id, &timestamp, &[&body[..], b"x"].concat()));
            }
        }
    }
}
