//! From a delivery to the request that is sent: headers, signature, body. Pure: the time is an argument, and
//! how the request travels is the business of `sender`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
    uri::PathAndQuery,
};
use url::{Position, Url};

use crate::{
    handshake::{Handshake, REQUEST_ORIGIN},
    http_signature::MessageSigner,
    message::Delivery,
    signature::SigningKeys,
    sigv4::SigV4,
    target::{Auth, Rate, Target},
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
/// How many messages a batch has.
pub const BATCH_SIZE: HeaderName = HeaderName::from_static("natshook-batch-size");
/// The ids of a batch's messages, in the order of its body, with a space between them; only where they fit.
pub const BATCH_IDS: HeaderName = HeaderName::from_static("natshook-batch-ids");

/// Who we say we are.
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("natshook/", env!("CARGO_PKG_VERSION")));
/// Any answer will do; some gateways refuse requests that do not say so.
const ANY: HeaderValue = HeaderValue::from_static("*/*");
/// What a body is unless somebody says otherwise.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How many headers beyond a target's own a request has at most in the common case.
const OWN_HEADERS: usize = 9;

/// The most bytes of message headers that are passed on in one request. Receivers commonly refuse more than
/// 8 KiB of headers; what goes beyond is left out rather than making the message undeliverable.
const PASSED_BYTES_MAX: usize = 6 * 1024;

/// Headers that are ours, the connection's, or proof of identity: neither a message nor a target's static
/// headers can set them (RFC 9110, 7.6.1 for the connection's).
const RESERVED: [&str; 20] = [
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
    "natshook-batch-size",
    "natshook-batch-ids",
];

/// Whether `name` may be neither passed on from a message nor set as a static header.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(&name.as_str())
}

/// What is sent of a message that does not go out as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Headers that come in the place of the message's own; only the target's come over them.
    pub headers: HeaderMap,
    /// The body's exact bytes.
    pub body: Bytes,
    /// Where on the target's host, if it is not where the target's URL says.
    pub path: Option<PathAndQuery>,
}

/// What one attempt sends.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where on the target's host, if it is not where the target's URL says.
    pub path: Option<PathAndQuery>,
    /// All headers but the connection's own.
    pub headers: HeaderMap,
    /// The body's exact bytes.
    pub body: Bytes,
}

/// What is sent of several messages at once.
#[derive(Clone, Debug)]
pub struct Several<'a> {
    /// The `webhook-id` of them all.
    pub id: String,
    /// The body's media type, unless the target has one of its own.
    pub content_type: HeaderValue,
    /// The subject, where all have the same.
    pub subject: Option<&'a str>,
    /// Which attempt it is, of the one that had the most.
    pub attempt: u32,
    /// How many messages there are.
    pub size: usize,
    /// Their ids, where a header takes them.
    pub ids: Option<HeaderValue>,
    /// The body's exact bytes.
    pub body: Bytes,
}

/// What every request of a target has in common, made once.
#[derive(Clone, Debug)]
pub struct Template {
    headers: HeaderMap,
    pass: Vec<HeaderName>,
    /// Whether the attributes of an event pass as they came; not where the target says what events are.
    passes_events: bool,
    keys: SigningKeys,
    /// Only for targets whose requests are signed as a whole.
    seal: Option<Box<Seal>>,
}

/// Signatures that cover more than the body: they are made last, when the request is whole.
#[derive(Clone, Debug)]
struct Seal {
    method: Method,
    uri: Uri,
    messages: Option<MessageSigner>,
    sigv4: Option<SigV4>,
}

impl Seal {
    /// `None` when no such signature is asked for.
    fn new(target: &Target) -> Option<Box<Self>> {
        let messages = target.message_signatures.clone();
        let sigv4 = match &target.auth {
            Auth::SigV4(key) => Some(key.clone()),
            Auth::None | Auth::Bearer(_) | Auth::Basic(_) | Auth::Header(..) | Auth::OAuth2(_) => None,
        };
        if messages.is_none() && sigv4.is_none() {
            return None;
        }
        // A URL that cannot be dialled is never sent to, so it needs no signature.
        let uri = uri(target.url.expose())?;
        Some(Box::new(Self { method: target.method.clone(), uri, messages, sigv4 }))
    }

    fn close(&self, request: &mut Request, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let elsewhere = request.path.clone().map(|path| at(&self.uri, path));
        let uri = elsewhere.as_ref().unwrap_or(&self.uri);
        let Request { headers, body, .. } = request;
        if let Some(messages) = &self.messages {
            messages.sign(&self.method, uri, headers, body, seconds);
        }
        if let Some(sigv4) = &self.sigv4 {
            sigv4.sign(&self.method, uri, headers, body, now);
        }
    }
}

/// The URL as a client wants it: without user info, which belongs into headers, and without a fragment; `None` if it cannot
/// be dialled.
#[must_use]
pub fn uri(url: &Url) -> Option<Uri> {
    let (scheme, host, rest) = (
        url.scheme(),
        &url[Position::BeforeHost..Position::AfterPort],
        &url[Position::BeforePath..Position::AfterQuery],
    );
    format!("{scheme}://{host}{rest}").parse().ok()
}

/// The place `path` on the host of `uri`.
#[must_use]
pub fn at(uri: &Uri, path: PathAndQuery) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    // Scheme and authority are there and have been judged, so there is no other end.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

impl Template {
    /// Prepares the requests of `target`.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let mut headers = target.headers.clone();
        let made = target.shape.iter().flat_map(|shape| &shape.headers);
        if !made.into_iter().any(|(name, _)| name == USER_AGENT) {
            headers.entry(USER_AGENT).or_insert(AGENT);
        }
        if let Some(handshake) = &target.handshake {
            headers.insert(REQUEST_ORIGIN, handshake.origin.clone());
        }
        match &target.auth {
            // A token comes when the request is sent, and the signature when it is whole.
            Auth::None | Auth::OAuth2(_) | Auth::SigV4(_) => {}
            Auth::Bearer(value) | Auth::Basic(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Auth::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
        }
        let passes_events = target.shape.as_ref().is_none_or(|shape| shape.format.is_none());
        let (pass, keys) = (target.pass_headers.clone(), target.signing.clone());
        Self { headers, pass, passes_events, keys, seal: Seal::new(target) }
    }

    /// The request for the next attempt of `delivery`, made at `now`: of `content`, or of the message as it came.
    #[must_use]
    pub fn request(&self, delivery: &Delivery, content: Option<&Content>, now: SystemTime) -> Request {
        let message = &delivery.message;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + OWN_HEADERS);
        self.pass_on(delivery, &mut headers);
        for (name, value) in content.iter().flat_map(|content| &content.headers) {
            headers.insert(name, value.clone());
        }
        let body = content.map_or(&message.payload, |content| &content.body);
        self.finish(&mut headers, message.webhook_id(), body, now);
        headers.insert(SUBJECT, subject_value(&message.subject));
        headers.insert(ATTEMPT, HeaderValue::from(delivery.attempts().saturating_add(1)));
        let path = content.and_then(|content| content.path.clone());
        self.sealed(Request { path, headers, body: body.clone() }, now)
    }

    /// The request for several messages at once, made at `now`. Nothing of their own headers goes along: they differ.
    #[must_use]
    pub fn batch(&self, several: Several<'_>, now: SystemTime) -> Request {
        let Several { id, content_type, subject, attempt, size, ids, body } = several;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + OWN_HEADERS);
        headers.insert(CONTENT_TYPE, content_type);
        self.finish(&mut headers, id, &body, now);
        headers.extend(subject.map(|subject| (SUBJECT, subject_value(subject))));
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        headers.insert(BATCH_SIZE, HeaderValue::from(size));
        headers.extend(ids.map(|ids| (BATCH_IDS, ids)));
        self.sealed(Request { path: None, headers, body }, now)
    }

    /// The request with the signatures that cover all of it.
    fn sealed(&self, mut request: Request, now: SystemTime) -> Request {
        if let Some(seal) = &self.seal {
            seal.close(&mut request, now);
        }
        request
    }

    /// Adds what every request has: the target's own headers, which come over what is there, and what names and signs it.
    fn finish(&self, headers: &mut HeaderMap, id: String, body: &Bytes, now: SystemTime) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if !headers.contains_key(ACCEPT) {
            headers.insert(ACCEPT, ANY);
        }
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.keys.is_empty() {
            let signature = self.keys.sign(&id, timestamp, body);
            headers.insert(WEBHOOK_SIGNATURE, visible(signature));
        }
        headers.insert(WEBHOOK_ID, visible(id));
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    }

    /// The question of `handshake`, with what proves who asks. Not signed: a signature is for a message.
    #[must_use]
    pub fn question(&self, handshake: &Handshake, rate: Option<Rate>) -> Request {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        handshake.ask(rate, &mut headers);
        Request { path: None, headers, body: Bytes::new() }
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
            || (text.starts_with("ce-") && self.passes_events)
            || self.pass.contains(name)
    }
}

/// A header's value of visible ASCII, spaces and tabs; `None` for anything else. `HeaderValue` itself accepts bytes beyond
/// ASCII, which receivers read in different ways.
#[must_use]
pub fn ascii_value(value: &str) -> Option<HeaderValue> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        config::Config,
        http_signature::{CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT, content_digest},
    };

    #[test]
    fn what_is_signed_is_the_content_and_the_place_that_are_sent() {
        let text = "[[targets]]\nname = \"a\"\nsubjects = \"a\"\nurl = \"https://a.example/old?x=1\"\nmethod = \"PUT\"\n\
                    [targets.signing.message_signatures]\nalgorithm = \"hmac-sha256\"\nkey_id = \"k\"\n\
                    key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n";
        let target = Config::from_toml(text, "test").unwrap().connections[0].targets.remove(0);
        let now = UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let delivery = target.sample(None, Bytes::from_static(b"as it came"), now);
        let content = Content {
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"as it is sent"),
            path: Some(PathAndQuery::from_static("/new?y=2")),
        };
        let request = Template::new(&target).request(&delivery, Some(&content), now);
        assert_eq!(request.headers[CONTENT_DIGEST], content_digest(b"as it is sent").as_str());
        let mut expected = request.headers.clone();
        let uri: Uri = "https://a.example/new?y=2".parse().unwrap();
        let signer = target.message_signatures.unwrap();
        signer.sign(&Method::PUT, &uri, &mut expected, b"as it is sent", 1_700_000_000);
        assert_eq!(request.headers[SIGNATURE], expected[SIGNATURE]);
        assert_eq!(request.headers[SIGNATURE_INPUT], expected[SIGNATURE_INPUT]);
        let elsewhere: Uri = "https://a.example/old?x=1".parse().unwrap();
        signer.sign(&Method::PUT, &elsewhere, &mut expected, b"as it is sent", 1_700_000_000);
        assert_ne!(request.headers[SIGNATURE], expected[SIGNATURE]);
    }
}
