//! The inbox of `natshook dev`: a webhook receiver that prints each request, says whether its signature holds, and
//! fails where its path says so. Never used by anything but `natshook dev`.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header::AUTHORIZATION},
};
use tokio::net::TcpListener;

use super::paint::{Paint, body, clock, harmless};
use crate::{
    cli::{REDACTED, print},
    config::Config,
    request::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
    signature::SigningKeys,
    target::Auth,
};

/// The path that is answered with 503 a few times for each message.
const FAILS_TWICE: &str = "/fails-twice";
/// The path that is always answered with 500.
const NEVER_WORKS: &str = "/never-works";
/// How often [`FAILS_TWICE`] fails for each message.
const FAILURES: u32 = 2;
/// How many messages are remembered; then all are forgotten, and fail twice again.
const REMEMBERED_MAX: usize = 10_000;
/// The largest body that natshook can send.
const BODY_BYTES_MAX: usize = 64 << 20;

struct Inbox {
    paint: Paint,
    /// What targets sign with, by the path of their URL.
    keys: HashMap<String, SigningKeys>,
    /// Headers that hold what targets prove themselves with.
    secret: HashSet<HeaderName>,
    seen: Mutex<HashMap<String, u32>>,
}

/// Listens on `wanted`, or on a free port of its address if that one is taken.
///
/// # Errors
/// There is no free port either.
pub(super) async fn listen(wanted: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((wanted.ip(), 0)).await,
        other => other,
    }
}

/// Receives for the targets of `config` until the process ends.
pub(super) fn serve(listener: TcpListener, config: &Config, paint: Paint) {
    let keys = config.targets.iter().map(|t| (t.url.expose().path().to_owned(), t.signing.clone())).collect();
    let secret = config.targets.iter().filter_map(|target| match &target.auth {
        Auth::None => None,
        Auth::Bearer(_) | Auth::Basic(_) => Some(AUTHORIZATION),
        Auth::Header(name, _) => Some(name.clone()),
    });
    let inbox = Arc::new(Inbox { paint, keys, secret: secret.collect(), seen: Mutex::default() });
    let router =
        Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(inbox);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the inbox ended");
        }
    });
}

async fn receive(
    State(inbox): State<Arc<Inbox>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    payload: Bytes,
) -> (StatusCode, &'static str) {
    let id = headers.get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let (status, text) = inbox.answer(uri.path(), id);
    // Whoever closed stdout does not want to see it; the webhooks are answered all the same.
    let _ = print(&inbox.show(&method, &uri, &headers, &payload, status));
    (status, text)
}

impl Inbox {
    fn answer(&self, path: &str, id: &str) -> (StatusCode, &'static str) {
        match path {
            FAILS_TWICE if self.count(id) <= FAILURES => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
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

    fn show(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        payload: &[u8],
        status: StatusCode,
    ) -> String {
        let paint = self.paint;
        let code = status.as_u16().to_string();
        let code = if status.is_success() { paint.good(&code) } else { paint.bad(&code) };
        let mut text = format!(
            "\n{} {} answered {code}, {}\n",
            paint.dim(&clock()),
            // A query may hold a secret as well.
            paint.bold(&format!("{method} {}", harmless(uri.path()))),
            self.judge(uri.path(), headers, payload)
        );
        for (name, value) in headers {
            let value = if self.secret.contains(name) {
                REDACTED.to_owned()
            } else {
                harmless(&String::from_utf8_lossy(value.as_bytes()))
            };
            let _ = writeln!(text, "    {}", paint.dim(&format!("{name}: {value}")));
        }
        text.push_str(&body(payload));
        text
    }

    fn judge(&self, path: &str, headers: &HeaderMap, payload: &[u8]) -> String {
        let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signature = value(WEBHOOK_SIGNATURE);
        match self.keys.get(path) {
            _ if signature.is_empty() => "not signed".to_owned(),
            None => self.paint.bad("signature not verified: no target has this path"),
            Some(keys) if keys.verify(signature, value(WEBHOOK_ID), value(WEBHOOK_TIMESTAMP), payload) => {
                self.paint.good("signature verified")
            }
            Some(_) => self.paint.bad("signature NOT verified"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn inbox() -> Inbox {
        let keys = SigningKeys::parse(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
        let keys = HashMap::from([("/works".to_owned(), keys)]);
        Inbox { paint: Paint::for_stdout(), keys, secret: HashSet::new(), seen: Mutex::default() }
    }

    #[test]
    fn each_message_fails_twice_and_then_works() {
        let inbox = inbox();
        let statuses = |id| (0..3).map(|_| inbox.answer(FAILS_TWICE, id).0.as_u16()).collect::<Vec<_>>();
        assert_eq!(statuses("a"), [503, 503, 200]);
        assert_eq!(statuses("b"), [503, 503, 200]);
        assert_eq!(inbox.answer(NEVER_WORKS, "a").0.as_u16(), 500);
        assert_eq!(inbox.answer("/works", "a").0.as_u16(), 200);
    }

    #[test]
    fn signatures_are_judged_by_the_path_s_keys() {
        let inbox = inbox();
        let mut headers = HeaderMap::new();
        assert_eq!(inbox.judge("/works", &headers, b"{}"), "not signed");
        let signature = inbox.keys["/works"].sign("id", 5, b"{}");
        headers.insert(WEBHOOK_ID, "id".parse().unwrap());
        headers.insert(WEBHOOK_TIMESTAMP, "5".parse().unwrap());
        headers.insert(WEBHOOK_SIGNATURE, signature.parse().unwrap());
        assert!(inbox.judge("/works", &headers, b"{}").contains("signature verified"));
        assert!(inbox.judge("/works", &headers, b"{} ").contains("NOT verified"));
        assert!(inbox.judge("/other", &headers, b"{}").contains("no target"));
    }

    #[test]
    fn what_targets_prove_themselves_with_is_not_shown() {
        let key = HeaderName::from_static("x-key");
        let inbox = Inbox { secret: HashSet::from([AUTHORIZATION, key.clone()]), ..inbox() };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer hunter2".parse().unwrap());
        headers.insert(key, "hunter2".parse().unwrap());
        headers.insert("x-source", "shown".parse().unwrap());
        let uri = Uri::from_static("/works?token=hunter2");
        let text = inbox.show(&Method::POST, &uri, &headers, b"{}", StatusCode::OK);
        assert!(text.contains("/works") && text.contains("shown") && !text.contains("hunter2"), "{text}");
    }
}
