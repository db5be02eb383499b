//! HTTP Message Signatures (RFC 9421) over requests, and the Content-Digest (RFC 9530) that ties a body to them. Pure: the
//! time is an argument. `component` is what can be signed, `key` is what it is signed with; checking signatures is the
//! receiver's business and happens nowhere here.

mod component;
mod key;
#[cfg(test)]
mod tests;

use std::{fmt::Write, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use ring::digest;

pub use component::{Component, ComponentError};
pub use key::{Algorithm, Key, KeyError};

/// What was signed, and how (RFC 9421, 4.1).
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The signature itself (RFC 9421, 4.2).
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// The digest of the body (RFC 9530, 2).
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Whether `text` can name a signature: a key of a dictionary (RFC 8941, 3.1.2).
#[must_use]
pub fn is_label(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '*';
    text.starts_with(first)
        && text.chars().all(|c| first(c) || c.is_ascii_digit() || matches!(c, '_' | '-' | '.'))
}

/// Whether `text` can be a parameter's value: printable ASCII (RFC 8941, 3.3.3).
#[must_use]
pub fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// What a target's requests are signed with and how. Valid by construction of its parts.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// The signature's name; [`is_label`].
    pub label: String,
    /// What is signed, in this order; none twice.
    pub components: Vec<Component>,
    /// The key.
    pub key: Key,
    /// What the receiver finds the key by; [`is_parameter`].
    pub key_id: String,
    /// How long a signature says that it holds, if it says so.
    pub expires: Option<Duration>,
    /// What the signature is for; [`is_parameter`].
    pub tag: Option<String>,
}

/// Signs the requests of a target. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageSigner(Arc<Settings>);

impl From<Settings> for MessageSigner {
    fn from(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }
}

impl MessageSigner {
    /// Whether the header `name` is signed when a request has it.
    #[must_use]
    pub fn signs(&self, name: &HeaderName) -> bool {
        self.0.components.iter().any(|component| component.names(name))
    }

    /// Signs a request that is whole but for this, at `created` (seconds since 1970): sets the two headers, and before them
    /// the digest of the body when that is signed too.
    pub fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8], created: u64) {
        let Settings { label, key, .. } = &*self.0;
        if self.signs(&CONTENT_DIGEST) {
            headers.insert(CONTENT_DIGEST, ascii(&content_digest(body)));
        }
        let (base, parameters) = self.base(method, uri, headers, created);
        let signature = STANDARD.encode(key.sign(base.as_bytes()));
        headers.insert(SIGNATURE_INPUT, ascii(&format!("{label}={parameters}")));
        headers.insert(SIGNATURE, ascii(&format!("{label}=:{signature}:")));
    }

    /// What is signed (RFC 9421, 2.5), and the last line of it as it goes into the header.
    fn base(&self, method: &Method, uri: &Uri, headers: &HeaderMap, created: u64) -> (String, String) {
        let mut base = String::with_capacity(256);
        let mut covered = Vec::with_capacity(self.0.components.len());
        for component in &self.0.components {
            if let Some(value) = component.value(method, uri, headers) {
                let _ = writeln!(base, "\"{component}\": {value}");
                covered.push(format!("\"{component}\""));
            }
        }
        let mut parameters = format!("({});created={created}", covered.join(" "));
        if let Some(expires) = self.0.expires {
            let _ = write!(parameters, ";expires={}", created.saturating_add(expires.as_secs()));
        }
        let _ = write!(parameters, ";keyid={}", quoted(&self.0.key_id));
        if let Some(tag) = &self.0.tag {
            let _ = write!(parameters, ";tag={}", quoted(tag));
        }
        let _ = write!(base, "\"@signature-params\": {parameters}");
        (base, parameters)
    }
}

/// The value of `Content-Digest` for a body.
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body)))
}

/// A string as structured fields write it (RFC 8941, 4.1.6).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// For text that is printable ASCII by construction.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
