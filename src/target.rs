//! A target: a configured webhook with its policy. Only valid targets exist; `config` is where they are made
//! from what was written. Pure data.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::{backoff::RetryPolicy, outcome::Overrides, signature::SigningKeys, subject::Pattern};

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

/// Where a target's requests go. Printed without query and user info, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

impl TargetUrl {
    /// `None` unless `url` is `http` or `https` and has a host.
    #[must_use]
    pub fn new(url: Url) -> Option<Self> {
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Self(url))
    }

    /// The whole URL, secrets included.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Host and port, whatever stands around them.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        format!("{host}:{}", self.0.port_or_known_default().unwrap_or_default())
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a target's requests prove who sends them, beside signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`; the value is marked sensitive.
    Bearer(HeaderValue),
    /// `Authorization: Basic …`; the value is marked sensitive.
    Basic(HeaderValue),
    /// A header of the receiver's choice; the value is marked sensitive.
    Header(HeaderName, HeaderValue),
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
#[derive(Clone, Debug)]
pub struct Target {
    /// Unique among targets.
    pub name: TargetName,
    /// What it receives; at least one, none containing another.
    pub subjects: Vec<Pattern>,
    /// Where it receives.
    pub url: TargetUrl,
    /// The request's method.
    pub method: Method,
    /// Headers sent with every request.
    pub headers: HeaderMap,
    /// Message headers passed on beyond the ones that always are.
    pub pass_headers: Vec<HeaderName>,
    /// Who we are.
    pub auth: Auth,
    /// What requests are signed with; may be empty.
    pub signing: SigningKeys,
    /// The longest an attempt takes, the answer's body included.
    pub timeout: Duration,
    /// How many requests may be in flight from one natshook process.
    pub concurrency: Concurrency,
    /// The most requests in a period, if limited.
    pub rate: Option<Rate>,
    /// What follows failures.
    pub retry: RetryPolicy,
    /// Statuses judged otherwise than the table says.
    pub outcomes: Overrides,
    /// Where a new consumer begins.
    pub start: Start,
    /// The largest payload that is sent; larger ones are dead letters.
    pub max_payload_bytes: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_printed_url_shows_neither_query_nor_user_info() {
        let url = Url::parse("https://user:hunter2@hooks.example:8443/a?token=hunter2#x").unwrap();
        let url = TargetUrl::new(url).unwrap();
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
