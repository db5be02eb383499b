//! What a target's requests are signed with: `signing`.

use secrecy::{ExposeSecret, SecretString};

use super::{bounds::duration, nats::secret};
use crate::{
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section, Written},
        limits, raw,
        secret::Secret,
        value::Text,
        words::SignatureAlgorithm,
    },
    http_signature::{Algorithm, Component, Key, MessageSigner, Settings, is_label, is_parameter},
    signature::SigningKeys,
};

/// What one table `signing` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Signing {
    /// Standard Webhooks.
    pub(super) keys: SigningKeys,
    /// HTTP Message Signatures.
    pub(super) messages: Option<MessageSigner>,
}

pub(super) fn check(raw: Section<raw::Signing>, path: &KeyPath, errors: &mut Errors) -> Option<Signing> {
    const KINDS: &[&str] = &["secrets", "message_signatures"];
    let raw = raw.take(path, errors)?;
    if raw.secrets.is_absent() && raw.message_signatures.is_absent() {
        errors.add(path, Problem::NeitherOf { allowed: KINDS });
    }
    let keys = keys(raw.secrets, &path.key("secrets"), errors);
    let path = path.key("message_signatures");
    let messages = raw.message_signatures.take(&path, errors);
    let messages = messages.and_then(|raw| self::messages(raw, &path, errors));
    Some(Signing { keys: keys.unwrap_or_default(), messages })
}

fn keys(raw: Field<Vec<Field<Secret>>>, path: &KeyPath, errors: &mut Errors) -> Option<SigningKeys> {
    let list = raw.take(path, errors)?;
    if list.is_empty() {
        errors.add(path, Problem::Empty);
    }
    let mut secrets: Vec<(KeyPath, SecretString)> = Vec::new();
    for (index, field) in list.into_iter().enumerate() {
        let path = path.index(index);
        secrets.extend(secret(field, &path, errors).map(|secret| (path, secret)));
    }
    match SigningKeys::parse(secrets.iter().map(|(_, secret)| secret.expose_secret())) {
        Ok(keys) => Some(keys),
        Err(bad) => {
            for (index, error) in bad {
                errors.add(&secrets[index].0, error.into());
            }
            None
        }
    }
}

fn messages(raw: raw::MessageSignatures, path: &KeyPath, errors: &mut Errors) -> Option<MessageSigner> {
    let algorithm = raw.algorithm.require(&path.key("algorithm"), errors).map(algorithm);
    let key_path = path.key("key");
    if raw.key.is_absent() {
        errors.add(&key_path, Problem::Missing { allowed: Secret::ALLOWED });
    }
    let key = secret(raw.key, &key_path, errors).zip(algorithm);
    let key =
        key.and_then(|(text, algorithm)| errors.keep(&key_path, Key::read(algorithm, text.expose_secret())));
    let key_id = raw.key_id.require(&path.key("key_id"), errors);
    let key_id = key_id.and_then(|text| parameter(text, &path.key("key_id"), errors));
    let label = raw.label.take(&path.key("label"), errors).map_or(limits::LABEL.to_owned(), |text| text.0);
    if !is_label(&label) {
        errors.add(&path.key("label"), Problem::Label { found: label.clone() });
    }
    let components = components(raw.components, &path.key("components"), errors);
    let expires = duration(raw.expires, limits::SIGNATURE_LIFE, &path.key("expires"), errors);
    let tag = raw.tag.take(&path.key("tag"), errors);
    let tag = tag.and_then(|text| parameter(text, &path.key("tag"), errors));
    Some(Settings { label, components, key: key?, key_id: key_id?, expires, tag }.into())
}

fn algorithm(written: SignatureAlgorithm) -> Algorithm {
    match written {
        SignatureAlgorithm::Ed25519 => Algorithm::Ed25519,
        SignatureAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        SignatureAlgorithm::EcdsaP256Sha256 => Algorithm::EcdsaP256Sha256,
        SignatureAlgorithm::EcdsaP384Sha384 => Algorithm::EcdsaP384Sha384,
        SignatureAlgorithm::RsaPssSha512 => Algorithm::RsaPssSha512,
        SignatureAlgorithm::RsaV15Sha256 => Algorithm::RsaV15Sha256,
    }
}

fn parameter(text: Text, path: &KeyPath, errors: &mut Errors) -> Option<String> {
    if !is_parameter(&text.0) {
        errors.add(path, Problem::SignatureParameter);
        return None;
    }
    Some(text.0)
}

fn components(raw: Field<Vec<Field<Text>>>, path: &KeyPath, errors: &mut Errors) -> Vec<Component> {
    let Some(list) = raw.take(path, errors) else {
        return limits::COMPONENTS_DEFAULT.iter().filter_map(|name| Component::new(name).ok()).collect();
    };
    if list.is_empty() {
        errors.add(path, Problem::Empty);
    }
    if list.len() > limits::COMPONENTS_MAX {
        errors.add(path, Problem::TooMany { found: list.len(), most: limits::COMPONENTS_MAX });
    }
    let mut components = Vec::new();
    for (index, field) in list.into_iter().enumerate() {
        let path = path.index(index);
        let Some(Text(found)) = field.require(&path, errors) else { continue };
        match Component::new(&found) {
            // The receiver would refuse a component that stands there twice (RFC 9421, 2).
            Ok(component) if components.contains(&component) => {
                errors.add(&path, Problem::ComponentTwice { found });
            }
            Ok(component) => components.push(component),
            Err(cause) => errors.add(&path, Problem::Component { found, cause }),
        }
    }
    components
}
