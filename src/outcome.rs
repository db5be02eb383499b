//! What an attempt means. One exhaustive table turns how an attempt ended into an outcome; nothing else in the
//! house judges a status or a network error. Pure.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

/// The longest wait that a `Retry-After` header can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How one HTTP request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver answered.
    Answered(Answer),
    /// No answer came.
    Broken(Fault),
}

/// An answer, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The wait that `Retry-After` asks for, already bounded.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub excerpt: Bytes,
    /// What else is kept of it, for targets whose answers mean more than their status.
    pub kept: Option<Box<Kept>>,
}

/// An answer's headers and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// All headers.
    pub headers: HeaderMap,
    /// The body, as far as it was read: at most as many bytes as the sender was told to keep.
    pub body: Bytes,
}

/// Why no answer came. The text names the cause and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The request took longer than the target's `timeout`.
    #[error("timeout: no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection broke after it had been made, or the answer was not HTTP.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// No connection could be made.
    #[error("connection refused: {0}")]
    ConnectionRefused(String),
    /// The host's name has no address.
    #[error("dns: {0}")]
    Dns(String),
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The egress guard does not allow the address.
    #[error("egress refused: {0}")]
    Egress(String),
    /// The token endpoint gave no access token, and would give none if it were asked again.
    #[error("token: {0}")]
    TokenRefused(String),
    /// The token endpoint gave no access token at the moment.
    #[error("token: {0}")]
    TokenUnavailable(String),
}

/// How an attempt ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// An answer below 200.
    Informational,
    /// An answer from 200 to 299.
    Success,
    /// An answer from 300 to 399.
    Redirection,
    /// An answer from 400 to 499.
    ClientError,
    /// An answer of 500 or above.
    ServerError,
    /// No answer within the target's `timeout`.
    Timeout,
    /// The connection broke after it had been made.
    ConnectionLost,
    /// No connection could be made.
    ConnectionRefused,
    /// The host's name has no address.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// The egress guard does not allow the address.
    EgressRefused,
    /// The token endpoint gave no access token; nothing was sent to the target.
    Token,
}

impl EndKind {
    /// Every kind, in the order of the enum, for metrics and docs.
    pub const ALL: [Self; 12] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Timeout,
        Self::ConnectionLost,
        Self::ConnectionRefused,
        Self::Dns,
        Self::Tls,
        Self::EgressRefused,
        Self::Token,
    ];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::ConnectionRefused => "connection_refused",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::EgressRefused => "egress_refused",
            Self::Token => "token",
        }
    }
}

/// What an attempt means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Another attempt may succeed; the strike tells the breaker whose fault it looks like.
    Transient(Strike),
    /// No further attempt can succeed.
    Permanent,
}

/// What a transient failure tells the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A failure of the moment.
    Failure,
    /// The target itself seems wrong: address, certificate, credentials, path.
    TargetFault,
    /// 410: the receiver wants no more.
    Gone,
}

/// Statuses that a target's config moves to the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Statuses to retry.
    pub transient: Vec<u16>,
    /// Statuses to dead-letter at once.
    pub permanent: Vec<u16>,
}

/// The outcome of an attempt that ended so.
#[must_use]
pub fn classify(end: &End, overrides: &Overrides) -> Outcome {
    match end {
        End::Answered(answer) => classify_status(answer.status, overrides),
        End::Broken(fault) => Outcome::Transient(strike(fault)),
    }
}

fn classify_status(status: u16, overrides: &Overrides) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        _ if overrides.permanent.contains(&status) => Outcome::Permanent,
        410 => Outcome::Transient(Strike::Gone),
        300..=399 | 401 | 403..=405 | 407 => Outcome::Transient(Strike::TargetFault),
        _ if overrides.transient.contains(&status) => Outcome::Transient(Strike::Failure),
        408 | 409 | 421 | 425 | 429 => Outcome::Transient(Strike::Failure),
        400..=499 | 501 | 505 => Outcome::Permanent,
        _ => Outcome::Transient(Strike::Failure),
    }
}

fn strike(fault: &Fault) -> Strike {
    match fault {
        Fault::Timeout(_)
        | Fault::ConnectionLost(_)
        | Fault::ConnectionRefused(_)
        | Fault::TokenUnavailable(_) => Strike::Failure,
        Fault::Dns(_) | Fault::Tls(_) | Fault::Egress(_) | Fault::TokenRefused(_) => Strike::TargetFault,
    }
}

impl Fault {
    fn kind(&self) -> EndKind {
        match self {
            Self::Timeout(_) => EndKind::Timeout,
            Self::ConnectionLost(_) => EndKind::ConnectionLost,
            Self::ConnectionRefused(_) => EndKind::ConnectionRefused,
            Self::Dns(_) => EndKind::Dns,
            Self::Tls(_) => EndKind::Tls,
            Self::Egress(_) => EndKind::EgressRefused,
            Self::TokenRefused(_) | Self::TokenUnavailable(_) => EndKind::Token,
        }
    }
}

impl End {
    /// Whether it looks as if the receiver had too much to do: a 429 or a timeout.
    #[must_use]
    pub fn overloaded(&self) -> bool {
        match self {
            Self::Answered(answer) => answer.status == 429,
            Self::Broken(fault) => matches!(fault, Fault::Timeout(_)),
        }
    }

    /// The wait that the receiver asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered(answer) => answer.retry_after,
            Self::Broken(_) => None,
        }
    }

    /// The status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Broken(_) => None,
        }
    }

    /// The class of the answer's status, or why no answer came.
    #[must_use]
    pub fn kind(&self) -> EndKind {
        match self {
            Self::Answered(answer) => match answer.status {
                ..200 => EndKind::Informational,
                200..=299 => EndKind::Success,
                300..=399 => EndKind::Redirection,
                400..=499 => EndKind::ClientError,
                500.. => EndKind::ServerError,
            },
            Self::Broken(fault) => fault.kind(),
        }
    }

    /// How the attempt ended in one word, for logs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.kind().as_str()
    }

    /// What went wrong, in words for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Answered(answer) => format!("answered {}", answer.status),
            Self::Broken(fault) => fault.to_string(),
        }
    }
}

/// The wait that a `Retry-After` value asks for at `now`: seconds or an HTTP-date (RFC 9110, 10.2.3), at most
/// [`RETRY_AFTER_MAX`]. Negative, past and unreadable values ask for nothing.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number: a very long wait.
        value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).ok()?
    };
    (!wait.is_zero()).then_some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_statuses_is_the_design_s() {
        let none = Overrides::default();
        for status in 200..600_u16 {
            let expected = match status {
                200..=299 => Outcome::Delivered,
                410 => Outcome::Transient(Strike::Gone),
                300..=399 | 401 | 403 | 404 | 405 | 407 => Outcome::Transient(Strike::TargetFault),
                408 | 409 | 421 | 425 | 429 => Outcome::Transient(Strike::Failure),
                501 | 505 => Outcome::Permanent,
                400..=499 => Outcome::Permanent,
                _ => Outcome::Transient(Strike::Failure),
            };
            assert_eq!(classify_status(status, &none), expected, "{status}");
        }
    }

    #[test]
    fn a_target_moves_statuses_to_the_other_side() {
        let overrides = Overrides { transient: vec![422], permanent: vec![404, 503] };
        assert_eq!(classify_status(422, &overrides), Outcome::Transient(Strike::Failure));
        assert_eq!(classify_status(404, &overrides), Outcome::Permanent);
        assert_eq!(classify_status(503, &overrides), Outcome::Permanent);
    }

    #[test]
    fn retry_after_takes_seconds_and_dates_and_ignores_nonsense() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("99999999999999999999999", now), Some(RETRY_AFTER_MAX));
        for nonsense in ["", "-5", "0", "1.5", "soon", "Sun, 06 Nov 1994 08:49:36 GMT", "１２"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense:?}");
        }
    }

    proptest! {
        #[test]
        fn no_retry_after_is_longer_than_the_bound(value in "\\PC{0,40}") {
            prop_assert!(retry_after(&value, SystemTime::UNIX_EPOCH).is_none_or(|w| w <= RETRY_AFTER_MAX));
        }
    }
}
