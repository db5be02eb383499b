//! The webhook handshake (HTTP 1.1 Web Hooks for Event Delivery 1.0.2, 4): what a sender asks a receiver before it delivers
//! anything, and what the answer grants. Pure; asking is for `connector::handshakes`, and what a grant means for
//! deliveries for `lane`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    outcome::{Answer, End},
    target::Rate,
};

/// Who asks, and who delivers: sent with the question and with every delivery.
pub const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
/// The rate that is asked for, in requests per minute.
pub const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
/// Who may deliver.
pub const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
/// How many requests per minute.
pub const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

const MINUTE: Duration = Duration::from_secs(60);

/// The most characters of a receiver's header that are told.
const TOLD_CHARS_MAX: usize = 80;

/// What a target asks its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// A DNS name for the system that sends, whichever of its machines does.
    pub origin: HeaderValue,
}

/// What an answer to the question means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Deliveries are wanted, at this rate at most if one is named.
    Granted(Option<Rate>),
    /// They are not, or the answer does not say so: what it said.
    Refused(String),
    /// Nobody could tell: no answer, or one that only speaks of trouble.
    Unknown(String),
}

impl Handshake {
    /// What goes with the question, beside the target's own headers. `rate` is what the target would use.
    pub fn ask(&self, rate: Option<Rate>, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ORIGIN, self.origin.clone());
        if let Some(rate) = rate {
            headers.insert(REQUEST_RATE, HeaderValue::from(per_minute(rate)));
        }
    }

    /// What `end` means. The status says nothing where the headers speak: a receiver that answers every OPTIONS alike
    /// has not consented (4.2).
    #[must_use]
    pub fn read(&self, end: &End) -> Word {
        let End::Answered(answer) = end else { return Word::Unknown(end.describe()) };
        let Some(origin) = answer.header(&ALLOWED_ORIGIN) else {
            let unable = answer.status >= 500 || matches!(answer.status, 408 | 429);
            let said = format!("answered {} without WebHook-Allowed-Origin", answer.status);
            return if unable { Word::Unknown(said) } else { Word::Refused(said) };
        };
        if origin != "*" && !origin.as_bytes().eq_ignore_ascii_case(self.origin.as_bytes()) {
            return Word::Refused(format!("WebHook-Allowed-Origin: {}", told(origin)));
        }
        match answer.header(&ALLOWED_RATE) {
            // The specification wants it; without it only the target's own limit is known.
            None | Some("*") => Word::Granted(None),
            Some(text) => text.parse().map_or_else(
                |_| Word::Refused(format!("WebHook-Allowed-Rate: {}", told(text))),
                |requests| Word::Granted(Some(Rate { requests, per: MINUTE })),
            ),
        }
    }
}

impl Answer {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        // What is no text says nothing that could be meant here.
        self.kept.as_ref()?.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// A rate in whole requests per minute; one that is less than one is asked for as one.
fn per_minute(rate: Rate) -> u32 {
    let requests = u128::from(rate.requests.get()) * MINUTE.as_nanos() / rate.per.as_nanos().max(1);
    u32::try_from(requests).map_or(u32::MAX, |requests| requests.max(1))
}

/// The beginning of what a receiver said, in one line.
fn told(text: &str) -> String {
    text.chars().take(TOLD_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU32;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::{Fault, Kept};

    fn handshake() -> Handshake {
        Handshake { origin: HeaderValue::from_static("events.example.com") }
    }

    fn answered(status: u16, headers: &[(&'static str, &str)]) -> End {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let kept = Some(Box::new(Kept { headers, body: Bytes::new() }));
        End::Answered(Answer { status, retry_after: None, excerpt: Bytes::new(), kept })
    }

    fn rate(requests: u32, seconds: u64) -> Rate {
        Rate { requests: NonZeroU32::new(requests).unwrap(), per: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_rate_is_asked_for_in_requests_per_minute() {
        for (asked, text) in [(rate(2, 1), "120"), (rate(30, 60), "30"), (rate(5, 3600), "1")] {
            let mut headers = HeaderMap::new();
            handshake().ask(Some(asked), &mut headers);
            assert_eq!(headers[&REQUEST_ORIGIN], "events.example.com");
            assert_eq!(headers[&REQUEST_RATE], text);
        }
        let mut headers = HeaderMap::new();
        handshake().ask(None, &mut headers);
        assert!(!headers.contains_key(&REQUEST_RATE));
    }

    #[test]
    fn consent_is_the_origin_or_a_star_whatever_the_status() {
        for origin in ["*", "events.example.com", "Events.Example.com"] {
            let allowed = ("webhook-allowed-origin", origin);
            for status in [200, 204, 405] {
                assert_eq!(handshake().read(&answered(status, &[allowed])), Word::Granted(None));
            }
            for (text, granted) in [("*", None), ("120", Some(rate(120, 60)))] {
                let end = answered(200, &[allowed, ("webhook-allowed-rate", text)]);
                assert_eq!(handshake().read(&end), Word::Granted(granted));
            }
        }
    }

    #[test]
    fn anything_else_is_no_consent() {
        let origin = ("webhook-allowed-origin", "*");
        for headers in [
            &[][..],
            &[("allow", "POST, OPTIONS")],
            &[("webhook-allowed-origin", "other.example.com")],
            &[("webhook-allowed-rate", "120")],
            &[origin, ("webhook-allowed-rate", "0")],
            &[origin, ("webhook-allowed-rate", "-1")],
            &[origin, ("webhook-allowed-rate", "many")],
        ] {
            let word = handshake().read(&answered(200, headers));
            assert!(matches!(word, Word::Refused(_)), "{headers:?}: {word:?}");
        }
    }

    #[test]
    fn trouble_is_neither_consent_nor_refusal() {
        for end in [answered(503, &[]), answered(429, &[]), End::Broken(Fault::Timeout(MINUTE))] {
            assert!(matches!(handshake().read(&end), Word::Unknown(_)), "{end:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_grants_what_it_does_not_name(
            origin in "[ -~]{0,30}", rate in "[ -~]{0,12}", status in 100_u16..600,
        ) {
            let end = answered(
                status, &[("webhook-allowed-origin", &origin), ("webhook-allowed-rate", &rate)],
            );
            if let Word::Granted(granted) = handshake().read(&end) {
                let allowed = ["*", "events.example.com"];
                prop_assert!(allowed.contains(&origin.trim().to_ascii_lowercase().as_str()));
                prop_assert_eq!(granted.map(|rate| rate.requests.get()), rate.trim().parse().ok());
            }
        }
    }
}
