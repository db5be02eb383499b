//! A target that registers, as JSON in three forms: as written, with its secrets as texts; as stored, with each of them
//! sealed; as shown, with `{ "sealed": true }` in the place of each. What was shown can be written again: a secret that is
//! not given anew stays what it was. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use url::Url;

use super::{
    protocol::Wrong,
    seal::{NONCE_BYTES, SealError, Vault},
};
use crate::config::{KeyPath, Place, visit_places};

/// The key under which a sealed secret stands.
const SEALED: &str = "sealed";

/// A target that somebody wants to register.
#[derive(Debug)]
pub struct Incoming {
    /// With its secrets as texts. Never stored, shown or logged.
    pub written: Value,
    /// What is wrong with the secrets that it leaves as they are.
    pub wrong: Vec<Wrong>,
}

impl Incoming {
    /// What `asked` says, with the secrets that it leaves as they are taken from `stored`, which is what is registered
    /// under its name at the moment.
    #[must_use]
    pub fn new(vault: &Vault, name: &str, mut asked: Value, stored: Option<&Value>) -> Self {
        let before = stored.map(secrets).unwrap_or_default();
        let mut wrong = Vec::new();
        let mut keeps = false;
        visit_secrets(&mut asked, &mut |place, value| {
            if value.get(SEALED).is_none() {
                return;
            }
            let kept = if *value == masked() {
                kept(vault, name, place, before.get(place))
            } else {
                Err("expected the secret as a text, or { \"sealed\": true } to keep it".to_owned())
            };
            keeps |= kept.is_ok();
            *value = match kept {
                Ok(secret) => Value::String(secret),
                Err(text) => {
                    wrong.push(error(place, &text));
                    Value::Null
                }
            };
        });
        if let Some(stored) = stored.filter(|_| keeps) {
            wrong.extend(strays(&asked, stored));
        }
        Self { written: asked, wrong }
    }

    /// The same as it is stored; `nonce` makes a new one each time.
    ///
    /// # Errors
    /// There is a secret and no key.
    pub fn sealed(
        &self,
        vault: &Vault,
        name: &str,
        mut nonce: impl FnMut() -> [u8; NONCE_BYTES],
    ) -> Result<Value, Vec<Wrong>> {
        let mut stored = self.written.clone();
        let mut wrong = Vec::new();
        visit_secrets(&mut stored, &mut |place, value| {
            let Value::String(secret) = &*value else { return };
            match vault.seal(name, place, secret, nonce()) {
                Ok(sealed) => *value = json!({ SEALED: sealed }),
                Err(cause) => wrong.push(error(place, &cause.to_string())),
            }
        });
        if wrong.is_empty() { Ok(stored) } else { Err(wrong) }
    }
}

/// The secret that stood at `place` before.
fn kept(vault: &Vault, name: &str, place: &str, before: Option<&Value>) -> Result<String, String> {
    let before = before.ok_or("nothing is sealed here that could be kept; give the secret as a text")?;
    opened(vault, name, place, before).map_err(|cause| cause.to_string())
}

/// Whoever may change a target could have its secrets sent to himself by another address, without ever knowing them.
fn strays(written: &Value, stored: &Value) -> Option<Wrong> {
    let known = origins(stored);
    let new = origins(written).into_iter().find(|origin| !known.contains(origin))?;
    let text = format!(
        "{new} is an address that this target did not have: secrets that are kept were not given for it; give every \
         secret as a text"
    );
    Some(error("", &text))
}

/// What is stored, with its secrets as texts.
///
/// # Errors
/// Some cannot be opened.
pub fn unsealed(vault: &Vault, name: &str, mut stored: Value) -> Result<Value, Vec<Wrong>> {
    let mut wrong = Vec::new();
    visit_secrets(&mut stored, &mut |place, value| {
        if value.get(SEALED).is_some() {
            match opened(vault, name, place, value) {
                Ok(secret) => *value = Value::String(secret),
                Err(cause) => wrong.push(error(place, &cause.to_string())),
            }
        }
    });
    if wrong.is_empty() { Ok(stored) } else { Err(wrong) }
}

/// What is stored, as it may be shown.
#[must_use]
pub fn shown(mut stored: Value) -> Value {
    visit_secrets(&mut stored, &mut |_, value| *value = masked());
    stored
}

/// Whether a secret in it is sealed with a key that another has replaced, or not at all.
#[must_use]
pub fn is_of_former_key(vault: &Vault, stored: &Value) -> bool {
    let is_current = |value: &Value| {
        value.get(SEALED).and_then(Value::as_str).is_some_and(|sealed| vault.is_current(sealed))
    };
    secrets(stored).values().any(|value| !is_current(value))
}

fn masked() -> Value {
    json!({ SEALED: true })
}

fn opened(vault: &Vault, name: &str, place: &str, value: &Value) -> Result<String, SealError> {
    match value.get(SEALED) {
        Some(sealed) => {
            let sealed = sealed.as_str().ok_or(SealError::NotGenuine)?;
            vault.open(name, place, sealed).map(|secret| secret.as_str().to_owned())
        }
        // Somebody wrote it into the bucket himself.
        None => value.as_str().map(str::to_owned).ok_or(SealError::NotGenuine),
    }
}

fn visit_secrets(target: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    visit_places(target, &KeyPath::default(), &mut |place, path, value| {
        if place == Place::Secret {
            visit(path.keys(), value);
        }
    });
}

/// The secrets of what is stored, by their keys.
fn secrets(stored: &Value) -> BTreeMap<String, Value> {
    let mut secrets = BTreeMap::new();
    visit_secrets(&mut stored.clone(), &mut |place, value| {
        secrets.insert(place.to_owned(), value.clone());
    });
    secrets
}

/// Every scheme, host and port that a text anywhere in `target` leads to.
fn origins(target: &Value) -> BTreeSet<String> {
    match target {
        Value::String(text) => match Url::parse(text) {
            Ok(url) if url.has_host() => BTreeSet::from([url.origin().ascii_serialization()]),
            _ => BTreeSet::new(),
        },
        Value::Object(table) => table.values().flat_map(origins).collect(),
        Value::Array(list) => list.iter().flat_map(origins).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => BTreeSet::new(),
    }
}

fn error(key: &str, text: &str) -> Wrong {
    Wrong { key: key.to_owned(), error: text.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SealKey;

    const SECRET: &str = "hunter2hunter2";

    fn vault(key: u8) -> Vault {
        Vault::new("NATSHOOK_TARGETS".into(), vec![SealKey::new(&[key; 32]).unwrap()])
    }

    fn target() -> Value {
        json!({
            "name": "policy", "subjects": ["a"], "url": "https://hooks.example/a",
            "auth": { "bearer": SECRET }, "signing": { "secrets": [SECRET, SECRET] }
        })
    }

    fn stored() -> Value {
        let incoming = Incoming::new(&vault(1), "policy", target(), None);
        incoming.sealed(&vault(1), "policy", || [7; NONCE_BYTES]).unwrap()
    }

    fn keys(wrong: &[Wrong]) -> Vec<&str> {
        wrong.iter().map(|wrong| wrong.key.as_str()).collect()
    }

    #[test]
    fn no_secret_is_in_what_is_stored_or_shown_and_all_come_back() {
        let stored = stored();
        assert!(!stored.to_string().contains("hunter2"), "{stored}");
        let shown = shown(stored.clone());
        assert!(!shown.to_string().contains("v1."), "{shown}");
        assert_eq!(shown["signing"]["secrets"][1], json!({ "sealed": true }));
        assert_eq!(unsealed(&vault(1), "policy", stored.clone()).unwrap(), target());
        let wrong = unsealed(&vault(2), "policy", stored).unwrap_err();
        assert_eq!(keys(&wrong), ["auth.bearer", "signing.secrets[0]", "signing.secrets[1]"]);
    }

    #[test]
    fn what_was_shown_can_be_written_again_with_a_change() {
        let mut edited = shown(stored());
        edited["timeout"] = json!("5s");
        edited["signing"]["secrets"][1] = json!("another");
        let incoming = Incoming::new(&vault(1), "policy", edited, Some(&stored()));
        assert!(incoming.wrong.is_empty(), "{:?}", incoming.wrong);
        let mut expected = target();
        expected["timeout"] = json!("5s");
        expected["signing"]["secrets"][1] = json!("another");
        assert_eq!(incoming.written, expected);
    }

    #[test]
    fn a_secret_that_is_kept_goes_to_no_other_address_and_no_other_place() {
        let asked = |pointer: &str, value: Value| {
            let mut edited = shown(stored());
            *edited.pointer_mut(pointer).unwrap() = value;
            Incoming::new(&vault(1), "policy", edited, Some(&stored())).wrong
        };
        let wrong = asked("/url", json!("https://evil.example/a"));
        assert!(wrong[0].error.contains("https://evil.example"), "{wrong:?}");
        let port = asked("/url", json!("https://hooks.example:8443/a"));
        assert_eq!(port.len(), 1);
        assert_eq!(asked("/url", json!("https://hooks.example/other")), []);
        let moved = json!({ "header": { "name": "x-key", "value": { "sealed": true } } });
        assert_eq!(keys(&asked("/auth", moved)), ["auth.header.value"]);
        let stolen = stored()["auth"]["bearer"].clone();
        assert_eq!(keys(&asked("/auth/bearer", stolen)), ["auth.bearer"]);
        // With every secret given anew the address may be any.
        let mut moved = target();
        moved["url"] = json!("https://new.example/a");
        assert_eq!(Incoming::new(&vault(1), "policy", moved, Some(&stored())).wrong, []);
        assert_eq!(Incoming::new(&vault(1), "policy", shown(stored()), None).wrong.len(), 3);
    }

    #[test]
    fn without_a_key_no_secret_is_taken_and_a_former_key_shows() {
        let none = Vault::new("NATSHOOK_TARGETS".into(), vec![]);
        let incoming = Incoming::new(&none, "policy", target(), None);
        assert_eq!(incoming.sealed(&none, "policy", || [7; NONCE_BYTES]).unwrap_err().len(), 3);
        assert!(!is_of_former_key(&vault(1), &stored()));
        assert!(is_of_former_key(&vault(2), &stored()));
        assert!(is_of_former_key(&vault(1), &target()), "one that was never sealed");
    }
}
