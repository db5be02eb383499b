//! What targets that register while natshook runs need: whether they may, the keys that seal their secrets, the bucket.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{nats::secret, replicas};
use crate::config::{
    SourceKind,
    checked::{Registry, SealKey},
    error::{Errors, KeyPath, Problem},
    field::{Field, Section},
    raw,
    secret::Secret,
};

pub(super) fn check(
    raw: Section<raw::Registry>,
    source: SourceKind,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Registry> {
    let raw = raw.open(path, errors);
    let enabled = raw.enabled.take(&path.key("enabled"), errors).unwrap_or(false);
    if enabled && source == SourceKind::Core {
        errors.add(&path.key("enabled"), Problem::RegistryInCore);
    }
    if raw.key.is_absent() && !raw.former_keys.is_absent() {
        errors.add(&path.key("former_keys"), Problem::Needs { other: "key" });
    }
    let key = seal_key(raw.key, &path.key("key"), errors);
    let path_of_former = path.key("former_keys");
    let former = raw.former_keys.take(&path_of_former, errors).unwrap_or_default().into_iter().enumerate();
    let former: Vec<SealKey> =
        former.filter_map(|(i, field)| seal_key(field, &path_of_former.index(i), errors)).collect();
    let replicas = replicas(raw.replicas, path, errors);
    enabled.then(|| Registry { keys: key.into_iter().chain(former).collect(), replicas })
}

/// Only whether targets may register; what else is wrong with it is passed over, and no key is asked for.
pub(super) fn enabled(raw: Section<raw::Registry>, path: &KeyPath, errors: &mut Errors) -> bool {
    raw.open(path, errors).enabled.take(&path.key("enabled"), errors).unwrap_or(false)
}

fn seal_key(raw: Field<Secret>, path: &KeyPath, errors: &mut Errors) -> Option<SealKey> {
    let text = secret(raw, path, errors)?;
    let key = bytes(&text).and_then(|bytes| SealKey::new(&bytes));
    if key.is_none() {
        errors.add(path, Problem::SealKey);
    }
    key
}

/// Hexadecimal digits are base64 as well, of another length.
fn bytes(text: &SecretString) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.expose_secret().trim();
    if text.len() == 2 * SealKey::BYTES && text.is_ascii() {
        let digits = (0..SealKey::BYTES).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok());
        return digits.collect::<Option<Vec<u8>>>().map(Zeroizing::new);
    }
    STANDARD.decode(text).ok().map(Zeroizing::new)
}
