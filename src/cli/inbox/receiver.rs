//! A webhook receiver that prints each request, says whether its signature holds, and fails where its path says so.
//! Takes no part in any delivery.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header::AUTHORIZATION},
};
use tokio::{net::TcpListener, time::sleep};

use super::shown::{Form, Received, Signature};
use crate::{
    cli::print,
    handshake::{ALLOWED_ORIGIN, ALLOWED_RATE, REQUEST_ORIGIN},
    request::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
    signature::SigningKeys,
    sigv4,
    target::{Auth, Target},
};

/// The path that is answered with 503 a few times for each message.
const FAILS_TWICE: &str = "/fails-twice";
/// The path that is always answered with 500.
const NEVER_WORKS: &str = "/never-works";
/// The path where one message in [`SOME`] is answered with 503 the first time.
const SOMETIMES_FAILS: &str = "/sometimes-fails";
/// The path where one message in [`SOME`] is always answered with 422.
const SOMETIMES_REFUSES: &str = "/sometimes-refuses";
const SOME: u64 = 5;
/// How often [`FAILS_TWICE`] fails for each message.
const FAILURES: u32 = 2;
/// How many messages are remembered; then all are forgotten, and fail twice again.
const REMEMBERED_MAX: usize = 10_000;
/// The largest body that natshook can send.
const BODY_BYTES_MAX: usize = 64 << 20;

struct Receiver {
    form: Form,
    delay: Duration,
    /// What targets sign with, by the path of their URL.
    keys: HashMap<String, SigningKeys>,
    /// Headers that hold what targets prove themselves with.
    secret: HashSet<HeaderName>,
    seen: Mutex<HashMap<String, u32>>,
}

/// Receives until the process ends, and answers each request after `delay`; knows the secrets of `targets`, so that it can verify and hide them.
///
/// # Errors
/// The listener fails.
pub(in crate::cli) async fn serve(
    listener: TcpListener,
    targets: &[Target],
    form: Form,
    delay: Duration,
) -> io::Result<()> {
    let keys = targets.iter().map(|t| (t.url.expose().path().to_owned(), t.signing.clone())).collect();
    let secret = targets.iter().flat_map(|target| match &target.auth {
        Auth::None => vec![],
        Auth::Bearer(_) | Auth::Basic(_) | Auth::OAuth2(_) => vec![AUTHORIZATION],
        Auth::Header(name, _) => vec![name.clone()],
        Auth::SigV4(_) => vec![AUTHORIZATION, sigv4::SECURITY_TOKEN],
    });
    let receiver = Arc::new(Receiver { form, delay, keys, secret: secret.collect(), seen: Mutex::default() });
    let router =
        Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(receiver);
    axum::serve(listener, router).await
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    payload: Bytes,
) -> (StatusCode, HeaderMap, &'static str) {
    let id = headers.get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let (status, text) = receiver.answer(uri.path(), id);
    let received = Received {
        method: &method,
        uri: &uri,
        headers: &headers,
        payload: &payload,
        status,
        signature: receiver.judge(uri.path(), &headers, &payload),
        secret: &receiver.secret,
    };
    // Whoever closed stdout does not want to see it; the webhooks are answered all the same.
    let _ = print(&received.shown(receiver.form));
    sleep(receiver.delay).await;
    (status, consent(&method, &headers), text)
}

/// Whoever asks for consent gets it.
fn consent(method: &Method, headers: &HeaderMap) -> HeaderMap {
    let mut consent = HeaderMap::new();
    if let (&Method::OPTIONS, Some(origin)) = (method, headers.get(REQUEST_ORIGIN)) {
        consent.insert(ALLOWED_ORIGIN, origin.clone());
        consent.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
    }
    consent
}

impl Receiver {
    fn answer(&self, path: &str, id: &str) -> (StatusCode, &'static str) {
        match path {
            FAILS_TWICE if self.count(id) <= FAILURES => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
            SOMETIMES_FAILS if is_one_of_some(id) && self.count(id) == 1 => {
                (StatusCode::SERVICE_UNAVAILABLE, "try again")
            }
            SOMETIMES_REFUSES if is_one_of_some(id) => (StatusCode::UNPROCESSABLE_ENTITY, "not this one"),
            NEVER_WORKS => (StatusCode::INTERNAL_SERVER_ERROR, "this never works"),
            _ => (StatusCode::OK, "thank you"),
        }
    }

    /// The how manieth request this is for the message.
    fn count(&self, id: &str) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        let count = seen.entry(id.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    fn judge(&self, path: &str, headers: &HeaderMap, payload: &[u8]) -> Signature {
        let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signature = value(WEBHOOK_SIGNATURE);
        match self.keys.get(path).filter(|keys| !keys.is_empty()) {
            _ if signature.is_empty() => Signature::None,
            None => Signature::Unknown,
            Some(keys) if keys.verify(signature, value(WEBHOOK_ID), value(WEBHOOK_TIMESTAMP), payload) => {
                Signature::Verified
            }
            Some(_) => Signature::Wrong,
        }
    }
}

/// The same for all requests of a message, and evenly spread.
fn is_one_of_some(id: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish().is_multiple_of(SOME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn receiver() -> Receiver {
        let keys = SigningKeys::parse(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
        let keys = HashMap::from([("/works".to_owned(), keys)]);
        Receiver {
            form: Form::Json,
            delay: Duration::ZERO,
            keys,
            secret: HashSet::new(),
            seen: Mutex::default(),
        }
    }

    #[test]
    fn each_message_fails_twice_and_then_works() {
        let receiver = receiver();
        let statuses = |id| (0..3).map(|_| receiver.answer(FAILS_TWICE, id).0.as_u16()).collect::<Vec<_>>();
        assert_eq!(statuses("a"), [503, 503, 200]);
        assert_eq!(statuses("b"), [503, 503, 200]);
        assert_eq!(receiver.answer(NEVER_WORKS, "a").0.as_u16(), 500);
        assert_eq!(receiver.answer("/works", "a").0.as_u16(), 200);
    }

    #[test]
    fn some_messages_fail_once_and_some_are_refused_for_good() {
        let receiver = receiver();
        let answers =
            |path, id: u32| (0..2).map(|_| receiver.answer(path, &id.to_string()).0.as_u16()).collect();
        let some = |path, answered: [u16; 2]| {
            (0..1000).filter(|id| -> bool { Vec::<u16>::eq(&answers(path, *id), &answered) }).count()
        };
        let (failing, working) = (some(SOMETIMES_FAILS, [503, 200]), some(SOMETIMES_FAILS, [200, 200]));
        assert!((150..250).contains(&failing) && working > 700, "{failing} {working}");
        assert!((150..250).contains(&some(SOMETIMES_REFUSES, [422, 422])));
    }

    #[test]
    fn signatures_are_judged_by_the_path_s_keys() {
        let receiver = receiver();
        let mut headers = HeaderMap::new();
        assert_eq!(receiver.judge("/works", &headers, b"{}"), Signature::None);
        let signature = receiver.keys["/works"].sign("id", 5, b"{}");
        headers.insert(WEBHOOK_ID, "id".parse().unwrap());
        headers.insert(WEBHOOK_TIMESTAMP, "5".parse().unwrap());
        headers.insert(WEBHOOK_SIGNATURE, signature.parse().unwrap());
        assert_eq!(receiver.judge("/works", &headers, b"{}"), Signature::Verified);
        assert_eq!(receiver.judge("/works", &headers, b"{} "), Signature::Wrong);
        assert_eq!(receiver.judge("/other", &headers, b"{}"), Signature::Unknown);
    }
}
