//! Secrets at rest: AES-256-GCM, which ring has. A sealed secret holds for its bucket, its target and its key alone, so it
//! cannot be moved. Nonces are random and come from the caller: 96 bits are enough for 2^32 secrets under one key (NIST SP
//! 800-38D, 8.3). Pure.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::config::SealKey;

/// How long a nonce is.
pub const NONCE_BYTES: usize = 12;

/// The form of what is sealed; another one would begin with another word.
const VERSION: &str = "v1";
/// How many bytes of a key's digest tell it from others.
const KEY_ID_BYTES: usize = 4;

/// What seals and opens the secrets of one bucket.
#[derive(Clone, Debug)]
pub struct Vault {
    bucket: String,
    keys: Vec<SealKey>,
}

/// Why a secret cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no key.
    #[error(
        "this natshook has no registry.key, without which it keeps no secret; set one, or leave the secret out"
    )]
    NoKey,
    /// None of the keys has sealed it.
    #[error("is sealed with a key that is neither registry.key nor one of registry.former_keys")]
    OtherKey,
    /// It is not what was sealed here.
    #[error("cannot be opened: it was changed, or sealed for another target or key; give the secret again")]
    NotGenuine,
}

impl Vault {
    /// The first of `keys` seals, all of them open.
    #[must_use]
    pub fn new(bucket: String, keys: Vec<SealKey>) -> Self {
        Self { bucket, keys }
    }

    /// `secret` as it may be stored under the key `place` of `target`.
    ///
    /// # Errors
    /// There is no key.
    pub fn seal(
        &self,
        target: &str,
        place: &str,
        secret: &str,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<String, SealError> {
        let key = self.keys.first().ok_or(SealError::NoKey)?;
        let mut bytes = secret.as_bytes().to_vec();
        cipher(key)
            .and_then(|cipher| {
                let aad = Aad::from(self.binding(target, place));
                cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes).ok()
            })
            .ok_or(SealError::NotGenuine)?;
        let sealed = [nonce.as_slice(), &bytes].concat();
        Ok(format!("{VERSION}.{}.{}", id(key), STANDARD_NO_PAD.encode(sealed)))
    }

    /// The secret that was sealed for the key `place` of `target`.
    ///
    /// # Errors
    /// It was not, or not with one of the keys.
    pub fn open(&self, target: &str, place: &str, sealed: &str) -> Result<Zeroizing<String>, SealError> {
        let (of, text) = parts(sealed).ok_or(SealError::NotGenuine)?;
        let key = self.keys.iter().find(|key| id(key) == of).ok_or(SealError::OtherKey)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| SealError::NotGenuine)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::NotGenuine)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let cipher = cipher(key).ok_or(SealError::NotGenuine)?;
        let aad = Aad::from(self.binding(target, place));
        let opened = cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut rest);
        let opened = opened.map_err(|_| SealError::NotGenuine)?;
        let text = std::str::from_utf8(opened).map_err(|_| SealError::NotGenuine)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Whether the key that seals now sealed it.
    #[must_use]
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).zip(self.keys.first()).is_some_and(|((of, _), key)| of == id(key))
    }

    /// What a sealed secret is bound to. None of the parts can hold the separator.
    fn binding(&self, target: &str, place: &str) -> String {
        format!("{}\n{target}\n{place}", self.bucket)
    }
}

fn cipher(key: &SealKey) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

/// What tells a key from others and nothing about it.
fn id(key: &SealKey) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.expose());
    digest.as_ref().iter().take(KEY_ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The key's id, and what is sealed.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn vault(keys: &[u8]) -> Vault {
        let keys = keys.iter().map(|byte| SealKey::new(&[*byte; 32]).unwrap()).collect();
        Vault::new("NATSHOOK_TARGETS".to_owned(), keys)
    }

    proptest! {
        #[test]
        fn what_is_sealed_can_be_opened_at_its_place_and_nowhere_else(secret in ".{1,200}", nonce: [u8; 12]) {
            let vault = vault(&[1]);
            let sealed = vault.seal("policy", "auth.bearer", &secret, nonce).unwrap();
            prop_assert!(!sealed.contains(&secret) || secret.len() < 4);
            let opened = vault.open("policy", "auth.bearer", &sealed).unwrap();
            prop_assert_eq!(opened.as_str(), secret.as_str());
            for (target, place) in [("other", "auth.bearer"), ("policy", "auth.basic.password")] {
                prop_assert_eq!(vault.open(target, place, &sealed).unwrap_err(), SealError::NotGenuine);
            }
            let elsewhere = Vault { bucket: "OTHER_TARGETS".to_owned(), ..vault };
            prop_assert_eq!(elsewhere.open("policy", "auth.bearer", &sealed).unwrap_err(), SealError::NotGenuine);
        }

        #[test]
        fn nothing_that_is_changed_can_be_opened(nonce: [u8; 12], at in 0_usize..60, to in "[A-Za-z0-9+/.]") {
            let vault = vault(&[1]);
            let sealed = vault.seal("policy", "auth.bearer", "hunter2", nonce).unwrap();
            let mut changed = sealed.clone();
            let at = at % sealed.len();
            changed.replace_range(at..=at, &to);
            // The last character of base64 may hold bits that mean nothing; then it is not accepted either.
            prop_assert!(changed == sealed || vault.open("policy", "auth.bearer", &changed).is_err());
        }
    }

    #[test]
    fn a_key_that_was_replaced_still_opens_and_seals_no_more() {
        let (before, now) = (vault(&[1]), vault(&[2, 1]));
        let sealed = before.seal("a", "b", "hunter2", [7; 12]).unwrap();
        assert_eq!(now.open("a", "b", &sealed).unwrap().as_str(), "hunter2");
        assert!(before.is_current(&sealed) && !now.is_current(&sealed));
        let sealed = now.seal("a", "b", "hunter2", [7; 12]).unwrap();
        assert!(now.is_current(&sealed));
        assert_eq!(before.open("a", "b", &sealed).unwrap_err(), SealError::OtherKey);
        assert_eq!(vault(&[]).seal("a", "b", "c", [7; 12]).unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn the_cipher_is_the_one_that_its_standard_describes() {
        // McGrew and Viega, "The Galois/Counter Mode of Operation", test case 14: a key and a nonce of zeros, one block of zeros.
        let mut block = vec![0; 16];
        let cipher = cipher(&SealKey::new(&[0; 32]).unwrap()).unwrap();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        cipher.seal_in_place_append_tag(nonce, Aad::empty(), &mut block).unwrap();
        let hex: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }
}
