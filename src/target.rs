//! A target: a configured webhook with its policy. Only valid targets exist; `config` is where they are made
//! from what was written. Pure data.

use std::{
    borrow::Borrow,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::{
    access_token::ClientCredentials,
    backoff::RetryPolicy,
    batch::Batching,
    handshake::Handshake,
    http_signature::MessageSigner,
    message::{Delivery, Headers, Message, Origin},
    order::Order,
    outcome::Overrides,
    reply::Reply,
    shape::Shape,
    signature::SigningKeys,
    sigv4::SigV4,
    subject::Pattern,
    tls::Tls,
};

/// The longest target name, in bytes: it is a token of subjects and part of consumer names.
pub const NAME_MAX_BYTES: usize = 64;

/// A target's name: letters, digits, `_` and `-`, at most [`NAME_MAX_BYTES`]. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetName(Arc<str>);

impl TargetName {
    /// `None` when `text` breaks the rule for names.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TargetName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` can name a target or an instance: it must be one token of a NATS subject and fit into the
/// names of streams and consumers.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_MAX_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Where requests go: a target's, or those to a collector of traces. Printed without query and user info, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    url: Url,
    /// What is printed instead of the path, where that is made for each message.
    shown_path: Option<Box<str>>,
}

impl HttpUrl {
    /// `None` unless `url` is `http` or `https` and has a host.
    #[must_use]
    pub fn new(url: Url) -> Option<Self> {
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Self { url, shown_path: None })
    }

    /// The same, printed with `path` instead of its own.
    #[must_use]
    pub fn with_shown_path(self, path: &str) -> Self {
        Self { shown_path: Some(path.into()), ..self }
    }

    /// The whole URL, secrets included.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.url
    }

    /// Host and port, whatever stands around them.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.shown_path.as_deref().unwrap_or(self.url.path()))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a target's requests prove who sends them, beside signatures.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`; the value is marked sensitive.
    Bearer(HeaderValue),
    /// `Authorization: Basic …`; the value is marked sensitive.
    Basic(HeaderValue),
    /// A header of the receiver's choice; the value is marked sensitive.
    Header(HeaderName, HeaderValue),
    /// `Authorization: Bearer …` with an access token that is asked for.
    OAuth2(Arc<ClientCredentials>),
    /// AWS Signature Version 4.
    SigV4(SigV4),
}

impl Auth {
    /// The word for it in tables.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer(_) => "bearer",
            Self::Basic(_) => "basic",
            Self::Header(..) => "header",
            Self::OAuth2(_) => "oauth2",
            Self::SigV4(_) => "sigv4",
        }
    }
}

/// How many requests may be in flight from one natshook process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as the receiver can take without becoming slower, and never more than that.
    Adaptive {
        /// The most.
        max: NonZeroUsize,
    },
}

impl Concurrency {
    /// The most that are ever in flight.
    #[must_use]
    pub fn max(self) -> NonZeroUsize {
        match self {
            Self::Fixed(max) | Self::Adaptive { max } => max,
        }
    }
}

/// At most so many requests in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: NonZeroU32,
    /// In how long; not zero.
    pub per: Duration,
}

/// Which messages a new target starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Those published from then on.
    New,
    /// All that the stream holds.
    All,
    /// Those stored at or after a time.
    Time(SystemTime),
    /// Those at or after a sequence of the stream.
    Sequence(u64),
}

/// A configured webhook with its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Unique among targets.
    pub name: TargetName,
    /// What it receives; at least one, none containing another.
    pub subjects: Vec<Pattern>,
    /// Where it receives.
    pub url: HttpUrl,
    /// The request's method.
    pub method: Method,
    /// Headers sent with every request.
    pub headers: HeaderMap,
    /// Message headers passed on beyond the ones that always are.
    pub pass_headers: Vec<HeaderName>,
    /// Who we are.
    pub auth: Auth,
    /// What requests are signed with (Standard Webhooks); may be empty.
    pub signing: SigningKeys,
    /// How they are signed beside that (RFC 9421).
    pub message_signatures: Option<MessageSigner>,
    /// What its connections need of TLS beyond the common.
    pub tls: Option<Tls>,
    /// The longest an attempt takes, the answer's body included.
    pub timeout: Duration,
    /// How many requests may be in flight from one natshook process.
    pub concurrency: Concurrency,
    /// The most requests in a period, if limited.
    pub rate: Option<Rate>,
    /// What its receiver is asked before anything is delivered, if it is.
    pub handshake: Option<Handshake>,
    /// What is told of its answers, if anything is.
    pub reply: Option<Reply>,
    /// What follows failures.
    pub retry: RetryPolicy,
    /// Statuses judged otherwise than the table says.
    pub outcomes: Overrides,
    /// What is delivered one after the other, if anything.
    pub order: Option<Order>,
    /// Where a new consumer begins.
    pub start: Start,
    /// The largest payload that is sent; larger ones are dead letters.
    pub max_payload_bytes: usize,
    /// What is sent of a message, if it does not go out as it came.
    pub shape: Option<Arc<Shape>>,
    /// How messages are put together, if several go in one request.
    pub batch: Option<Batching>,
}

impl Target {
    /// The most messages that go in one request.
    #[must_use]
    pub fn per_request(&self) -> NonZeroUsize {
        self.batch.as_ref().map_or(NonZeroUsize::MIN, |batch| batch.max_messages)
    }

    /// A delivery that somebody makes up to see what the target answers, at `now`. Its subject is `subject`, else the
    /// target's first one without wildcards.
    #[must_use]
    pub fn sample(&self, subject: Option<&str>, payload: Bytes, now: SystemTime) -> Delivery {
        let literal = self.subjects.iter().find(|subject| subject.is_literal()).map(Pattern::as_str);
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Delivery::fresh(Message {
            subject: subject.or(literal).unwrap_or("natshook.test").to_owned(),
            payload,
            headers: Headers::default(),
            origin: Origin::Passing { id: format!("natshook-test-{}", since_1970.as_millis()), reply: None },
            published: now,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_printed_url_shows_neither_query_nor_user_info() {
        let url = Url::parse("https://user:hunter2@hooks.example:8443/a?token=hunter2#x").unwrap();
        let url = HttpUrl::new(url).unwrap();
        assert_eq!(url.to_string(), "https://hooks.example:8443/a");
        assert_eq!(format!("{url:?}"), "https://hooks.example:8443/a");
    }

    #[test]
    fn names_are_one_subject_token() {
        assert!(TargetName::new("billing-v2_eu").is_some());
        for bad in ["", "a.b", "a b", "a*", "é", &"x".repeat(65)] {
            assert!(TargetName::new(bad).is_none(), "{bad:?}");
        }
    }
}
