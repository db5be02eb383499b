//! One HTTP attempt: the request goes out, and how it ended comes back. This is the only room that knows the HTTP
//! client: `client` is made once with all its limits, `dial` makes connections and `tame` keeps them from holding up
//! the others; `fault` tells apart why no answer came. What the end means is for `outcome`.

mod client;
mod dial;
mod fault;
mod tame;

use std::{
    fmt,
    pin::{Pin, pin},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Response, Uri,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use url::{Position, Url};

use client::Client;
pub use client::{HttpClient, HttpClientError};

use crate::{
    envelope::RESPONSE_BYTES_MAX,
    outcome::{self, Answer, End, Fault},
    request::Request,
    target::Target,
};

/// The most bytes of an answer's body that are read, so that the connection can serve again; a longer body
/// costs the connection.
const BODY_READ_MAX: usize = 64 * 1024;
/// How often one attempt is sent again after the receiver has said that it did not process it.
const RESENDS_MAX: u32 = 2;

/// Sends the requests of one target. Printed without the query of its address, which may hold a secret.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    method: Method,
    /// Where to, or why not.
    uri: Result<Uri, Fault>,
    timeout: Duration,
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
            Ok(()) => uri(url),
            Err(refusal) => Err(Fault::Egress(refusal.to_string())),
        };
        Self { client: http.client.clone(), method: target.method.clone(), uri, timeout: target.timeout }
    }

    /// Makes one attempt; takes the target's `timeout` at most. `request` is asked for once, and again for each time
    /// that the receiver says it has not processed what was sent: that is no attempt yet (RFC 9113, 8.7).
    pub async fn attempt(&self, request: impl Fn() -> Request) -> End {
        let uri = match &self.uri {
            Ok(uri) => uri,
            Err(fault) => return End::Broken(fault.clone()),
        };
        let mut deadline = pin!(sleep(self.timeout));
        let mut resends = 0;
        loop {
            // Boxed: the client's future is large, and every future around it would be moved with it.
            let mut sending = Box::pin(self.client.request(self.outgoing(uri.clone(), request())));
            return tokio::select! {
                biased;
                sent = &mut sending => match sent {
                    Err(error) if resends < RESENDS_MAX && fault::is_unprocessed(&error) => {
                        resends += 1;
                        continue;
                    }
                    Err(error) => End::Broken(fault::fault(&error)),
                    Ok(response) => End::Answered(answer(response, deadline).await),
                },
                () = deadline.as_mut() => End::Broken(Fault::Timeout(self.timeout)),
            };
        }
    }

    fn outgoing(&self, uri: Uri, request: Request) -> http::Request<Full<Bytes>> {
        let empty = request.body.is_empty();
        let mut outgoing = http::Request::new(Full::new(request.body));
        *outgoing.method_mut() = self.method.clone();
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = request.headers;
        if empty {
            // The client leaves it out, and some receivers then answer 411 (RFC 9110, 8.6).
            outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        outgoing
    }
}

/// The URL as the client wants it: without user info, which belongs into headers, and without a fragment.
fn uri(url: &Url) -> Result<Uri, Fault> {
    let (scheme, host, rest) = (
        url.scheme(),
        &url[Position::BeforeHost..Position::AfterPort],
        &url[Position::BeforePath..Position::AfterQuery],
    );
    // The text is left out: it may hold secrets.
    format!("{scheme}://{host}{rest}").parse().map_err(|_| Fault::Dns("the url cannot be dialled".to_owned()))
}

/// The status decides; a body that breaks off, drips or never ends takes nothing back.
async fn answer(response: Response<Incoming>, mut deadline: Pin<&mut Sleep>) -> Answer {
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| outcome::retry_after(value, SystemTime::now()));
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut excerpt = BytesMut::new();
    let mut read = 0;
    while read < BODY_READ_MAX {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = deadline.as_mut() => break,
        };
        let Some(Ok(frame)) = frame else { break };
        let Ok(chunk) = frame.into_data() else { break };
        read += chunk.len();
        let wanted = RESPONSE_BYTES_MAX.saturating_sub(excerpt.len()).min(chunk.len());
        excerpt.extend_from_slice(&chunk[..wanted]);
    }
    let excerpt = if excerpt.is_empty() { Bytes::new() } else { excerpt.freeze() };
    Answer { status, retry_after, excerpt }
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
        let shown = format!("{:?} {config:?}", Sender::new(&http, &config.targets[0]));
        assert!(shown.contains("/path") && !shown.contains("hunter"), "{shown}");
    }
}
