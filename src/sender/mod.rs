//! One HTTP attempt: the request goes out, and how it ended comes back. This is the only room that knows the HTTP
//! client: `client` makes one for each set of TLS needs with all its limits, `dial` makes connections and `tame` keeps them from holding up
//! the others; `fault` tells apart why no answer came, `fence` keeps what must not be sent any more from being written; `tokens` gets access
//! tokens. What the end means is for `outcome`. `plain` is for the operator's
//! own services, which are no targets.

mod client;
mod dial;
mod fault;
mod fence;
mod plain;
mod tame;
mod tokens;

use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, RETRY_AFTER},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use client::Client;
pub use client::{HttpClient, HttpClientError};
pub use fence::Fence;
use fence::Outgoing;
pub use plain::{PlainClient, dialled};
use tokens::TokenSource;

use crate::{
    envelope::RESPONSE_BYTES_MAX,
    outcome::{self, Answer, End, Fault, Kept},
    request::{self, Request},
    target::{Auth, Target},
};

/// The most bytes of an answer's body that are read, so that the connection can serve again; a longer body
/// costs the connection.
pub const BODY_READ_MAX: usize = 64 * 1024;
/// How often one attempt is sent again after the receiver has said that it did not process it.
const RESENDS_MAX: u32 = 2;

/// Sends the requests of one target. Printed without the query of its address, which may hold a secret.
#[derive(Clone)]
pub struct Sender {
    client: Arc<Client>,
    method: Method,
    /// Where to, or why not.
    uri: Result<Uri, Fault>,
    timeout: Duration,
    /// How many bytes of an answer's body are kept beside its excerpt; without a number nothing is.
    keep: Option<usize>,
    /// Where access tokens come from, if requests need one.
    tokens: Option<Arc<TokenSource>>,
    /// Until when requests may be written, where that can end.
    fence: Option<Fence>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.uri.as_ref().map(Uri::path);
        f.debug_struct("Sender").field("method", &self.method).field("path", &path).finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender for `target`.
    #[must_use]
    pub fn new(http: &HttpClient, target: &Target) -> Self {
        let url = target.url.expose();
        // An address in the URL never reaches the resolver, so it is judged here.
        let uri = match http.guard.check_url(url) {
            // The text is left out: it may hold secrets.
            Ok(()) => request::uri(url).ok_or_else(|| Fault::Dns("the url cannot be dialled".to_owned())),
            Err(refusal) => Err(Fault::Egress(refusal.to_string())),
        };
        let tokens = match &target.auth {
            Auth::OAuth2(credentials) => Some(http.tokens(credentials, target.tls.as_ref())),
            Auth::None | Auth::Bearer(_) | Auth::Basic(_) | Auth::Header(..) | Auth::SigV4(_) => None,
        };
        let (client, uri) = match http.client_for(target.tls.as_ref()) {
            Ok(client) => (client, uri),
            Err(fault) => (http.common(), uri.and(Err(fault))),
        };
        let (method, timeout) = (target.method.clone(), target.timeout);
        let fence = target.order.as_ref().map(|_| Fence::default());
        Self { client, method, uri, timeout, keep: None, tokens, fence }
    }

    /// The same, keeping the headers of answers, and as many as `bytes` of their bodies. Where that is more than the 64 KiB
    /// that are read of any answer, more is read.
    #[must_use]
    pub fn keeping(self, bytes: usize) -> Self {
        Self { keep: Some(bytes), ..self }
    }

    /// The same, asking with OPTIONS instead of delivering, and keeping the headers of the answer.
    #[must_use]
    pub fn asking(self) -> Self {
        Self { method: Method::OPTIONS, ..self }.keeping(0)
    }

    /// The access token in use, for those who have to hide it from what they show.
    #[must_use]
    pub fn access_token(&self) -> Option<HeaderValue> {
        self.tokens.as_ref().and_then(|tokens| tokens.in_use())
    }

    /// Gets what requests are authorized with, as the first attempt would; takes the target's `timeout` at most.
    ///
    /// # Errors
    /// The token endpoint gives no access token.
    pub async fn authorize(&self) -> Result<(), Fault> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let deadline = pin!(sleep(self.timeout));
        tokens.token(deadline).await.map(|_| ())
    }

    /// Until when requests may be written; `None` where that does not end, as for targets without order.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Makes one attempt; takes the target's `timeout` at most. `request` is asked for once, and again for each time
    /// that the receiver says it has not processed what was sent: that is no attempt yet (RFC 9113, 8.7). Nor is a 401 to an
    /// access token that may have been withdrawn: then the same goes out once more with another.
    pub async fn attempt(&self, request: impl Fn() -> Request) -> End {
        let uri = match &self.uri {
            Ok(uri) => uri,
            Err(fault) => return End::Broken(fault.clone()),
        };
        let mut deadline = pin!(sleep(self.timeout));
        let mut token = match &self.tokens {
            None => None,
            // Boxed, so that requests without tokens do not carry its size around.
            Some(tokens) => match Box::pin(tokens.token(deadline.as_mut())).await {
                Ok(token) => Some(token),
                Err(fault) => return End::Broken(fault),
            },
        };
        let mut renewed = false;
        let mut resends = 0;
        loop {
            // Boxed: the client's future is large, and every future around it would be moved with it.
            let mut sending = Box::pin(self.client.request(self.outgoing(uri, request(), token.as_ref())));
            let sent = tokio::select! {
                biased;
                sent = &mut sending => sent,
                () = deadline.as_mut() => return End::Broken(Fault::Timeout(self.timeout)),
            };
            match sent {
                Err(error) if resends < RESENDS_MAX && fault::is_unprocessed(&error) => resends += 1,
                Err(error) => return End::Broken(fault::fault(&error)),
                Ok(response) => {
                    let refused = !renewed && response.status() == StatusCode::UNAUTHORIZED;
                    if let (true, Some(tokens), Some(old)) = (refused, &self.tokens, &token)
                        && tokens.discard(old)
                    {
                        // What it says is of no interest, but its connection is.
                        answer(response, None, deadline.as_mut()).await;
                        match Box::pin(tokens.token(deadline.as_mut())).await {
                            Ok(new) => token = Some(new),
                            Err(fault) => return End::Broken(fault),
                        }
                        renewed = true;
                        continue;
                    }
                    return End::Answered(answer(response, self.keep, deadline).await);
                }
            }
        }
    }

    fn outgoing(&self, uri: &Uri, request: Request, token: Option<&HeaderValue>) -> http::Request<Outgoing> {
        let empty = request.body.is_empty();
        let mut outgoing = http::Request::new(Outgoing::new(request.body, self.fence.clone()));
        *outgoing.method_mut() = self.method.clone();
        *outgoing.uri_mut() = match request.path {
            None => uri.clone(),
            Some(path) => request::at(uri, path),
        };
        *outgoing.headers_mut() = request.headers;
        if let Some(token) = token {
            outgoing.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        if empty {
            // The client leaves it out, and some receivers then answer 411 (RFC 9110, 8.6).
            outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        outgoing
    }
}

/// The status decides; a body that breaks off, drips or never ends takes nothing back.
async fn answer(response: Response<Incoming>, keep: Option<usize>, mut deadline: Pin<&mut Sleep>) -> Answer {
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| outcome::retry_after(value, SystemTime::now()));
    let status = response.status().as_u16();
    let (parts, mut body) = response.into_parts();
    let mut beginning = BytesMut::new();
    let keep_bytes = keep.unwrap_or(0).max(RESPONSE_BYTES_MAX);
    let mut read = 0;
    while read < BODY_READ_MAX.max(keep_bytes) {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = deadline.as_mut() => break,
        };
        let Some(Ok(frame)) = frame else { break };
        let Ok(chunk) = frame.into_data() else { break };
        read += chunk.len();
        let wanted = keep_bytes.saturating_sub(beginning.len()).min(chunk.len());
        beginning.extend_from_slice(&chunk[..wanted]);
    }
    let beginning = if beginning.is_empty() { Bytes::new() } else { beginning.freeze() };
    let excerpt = beginning.slice(..beginning.len().min(RESPONSE_BYTES_MAX));
    let kept = keep.map(|bytes| {
        Box::new(Kept { headers: parts.headers, body: beginning.slice(..beginning.len().min(bytes)) })
    });
    Answer { status, retry_after, excerpt, kept }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_printed_sender_shows_no_query_and_no_credentials() {
        let text = "[[targets]]\nname = \"a\"\nsubjects = \"a\"\nurl = \"https://hooks.example/path?key=hunter2\"\n\
                    auth = { bearer = \"hunter3\" }";
        let config = Config::from_toml(text, "test").unwrap();
        let http = HttpClient::new(config.egress.clone()).unwrap();
        let shown = format!("{:?} {config:?}", Sender::new(&http, &config.connections[0].targets[0]));
        assert!(shown.contains("/path") && !shown.contains("hunter"), "{shown}");
    }
}
