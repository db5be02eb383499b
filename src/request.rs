//! From a delivery to the request that is sent: headers, signature, body. Pure: the time is an argument, and
//! how the request travels is the business of `sender`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};

use crate::{
    message::Delivery,
    signature::SigningKeys,
    target::{Auth, Target},
};

/// The id of a message, the same on every attempt (Standard Webhooks 1.0).
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When the attempt was made, in seconds since 1970 (Standard Webhooks 1.0).
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures of id, timestamp and body (Standard Webhooks 1.0).
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The subject of the message.
pub const SUBJECT: HeaderName = HeaderName::from_static("natshook-subject");
/// Which attempt this is, from 1.
pub const ATTEMPT: HeaderName = HeaderName::from_static("natshook-attempt");

const AGENT: HeaderValue = HeaderValue::from_static(concat!("natshook/", env!("CARGO_PKG_VERSION")));
/// Any answer will do; some gateways refuse requests that do not say so.
const ANY: HeaderValue = HeaderValue::from_static("*/*");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How many headers beyond a target's own a request has at most in the common case.
const OWN_HEADERS: usize = 9;

/// The most bytes of message headers that are passed on in one request. Receivers commonly refuse more than
/// 8 KiB of headers; what goes beyond is left out rather than making the message undeliverable.
const PASSED_BYTES_MAX: usize = 6 * 1024;

/// Headers that are ours, the connection's, or proof of identity: neither a message nor a target's static
/// headers can set them (RFC 9110, 7.6.1 for the connection's).
const RESERVED: [&str; 18] = [
    "host",
    "authorization",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "natshook-subject",
    "natshook-attempt",
];

/// Whether `name` may be neither passed on from a message nor set as a static header.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(&name.as_str())
}

/// What one attempt sends.
#[derive(Clone, Debug)]
pub struct Request {
    /// All headers but the connection's own.
    pub headers: HeaderMap,
    /// The payload's exact bytes.
    pub body: Bytes,
}

/// What every request of a target has in common, made once.
#[derive(Clone, Debug)]
pub struct Template {
    headers: HeaderMap,
    pass: Vec<HeaderName>,
    keys: SigningKeys,
}

impl Template {
    /// Prepares the requests of `target`.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let mut headers = target.headers.clone();
        headers.entry(USER_AGENT).or_insert(AGENT);
        match &target.auth {
            Auth::None => {}
            Auth::Bearer(value) | Auth::Basic(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Auth::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
        }
        Self { headers, pass: target.pass_headers.clone(), keys: target.signing.clone() }
    }

    /// The request for the next attempt of `delivery`, made at `now`.
    #[must_use]
    pub fn request(&self, delivery: &Delivery, now: SystemTime) -> Request {
        let message = &delivery.message;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + OWN_HEADERS);
        self.pass_on(delivery, &mut headers);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if !headers.contains_key(ACCEPT) {
            headers.insert(ACCEPT, ANY);
        }
        let id = message.webhook_id();
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.keys.is_empty() {
            let signature = self.keys.sign(&id, timestamp, &message.payload);
            headers.insert(WEBHOOK_SIGNATURE, visible(signature));
        }
        headers.insert(WEBHOOK_ID, visible(id));
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(SUBJECT, subject_value(&message.subject));
        headers.insert(ATTEMPT, HeaderValue::from(delivery.attempts().saturating_add(1)));
        Request { headers, body: message.payload.clone() }
    }

    /// Copies what a message may say about itself: its content type, trace context, CloudEvents attributes, and
    /// what the target's allow-list names. Values that no HTTP header can carry are left out.
    fn pass_on(&self, delivery: &Delivery, headers: &mut HeaderMap) {
        let mut bytes = 0;
        for (name, value) in delivery.message.headers.iter() {
            let Ok(name) = HeaderName::try_from(name) else { continue };
            if is_reserved(&name) || !self.passes(&name) || self.headers.contains_key(&name) {
                continue;
            }
            bytes += name.as_str().len() + value.len();
            if bytes > PASSED_BYTES_MAX {
                break;
            }
            if let Some(value) = ascii_value(value) {
                if name == CONTENT_TYPE {
                    headers.entry(name).or_insert(value);
                } else {
                    headers.append(name, value);
                }
            }
        }
    }

    fn passes(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        *name == CONTENT_TYPE
            || matches!(text, "traceparent" | "tracestate")
            || text.starts_with("ce-")
            || self.pass.contains(name)
    }
}

/// `HeaderValue` itself accepts bytes beyond ASCII, which receivers read in different ways.
fn ascii_value(value: &str) -> Option<HeaderValue> {
    if value.is_ascii() { HeaderValue::try_from(value).ok() } else { None }
}

/// For text that is visible ASCII by construction.
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Subjects are UTF-8; what is not visible ASCII is percent-encoded.
fn subject_value(subject: &str) -> HeaderValue {
    HeaderValue::try_from(subject).ok().filter(|_| subject.is_ascii()).unwrap_or_else(|| {
        visible(percent_encoding::utf8_percent_encode(subject, percent_encoding::CONTROLS).to_string())
    })
}
