//! One HTTP attempt: the request goes out, and how it ended comes back. This is the only place that knows the
//! HTTP client; `fault` tells apart why no answer came, and what the end means is for `outcome`.

mod fault;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use reqwest::{Client, Response, redirect};
use tokio::time::{Sleep, sleep};
use url::Url;

use crate::{
    egress::{Guard, GuardedResolver, Reach, Refusal},
    envelope::RESPONSE_BYTES_MAX,
    outcome::{self, Answer, End, Fault},
    request::Request,
    target::Target,
};

/// The longest that making a connection takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of an answer's body that are read, so that the connection can serve again; a longer body
/// costs the connection.
const BODY_READ_MAX: usize = 64 * 1024;
/// How long a connection may lie idle. Less than the 60 s and 75 s after which common load balancers close it: a
/// request that crosses that close on its way is lost without anybody knowing whether it was processed.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// How long an HTTP/2 connection with open requests may be silent before it is asked for a sign of life. All requests
/// to a receiver share it, and one that has died without a word (a hung process, a forgotten NAT entry) would
/// otherwise fail every attempt until the kernel gives up on it.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long that sign of life may take; then the connection is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of an answer's body that an HTTP/2 receiver may send ahead of our reading it.
const HTTP2_STREAM_WINDOW: u32 = BODY_READ_MAX as u32;
/// The same for all answers of one connection together.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The largest headers of an HTTP/2 answer, in bytes as RFC 9113 (6.5.2) counts them. The HTTP/1.1 client stops at
/// 100 headers or about 400 KiB.
const HTTP2_HEADERS_MAX: u32 = 64 * 1024;
/// How often one attempt is sent again after the receiver has said that it did not process it.
const RESENDS_MAX: u32 = 2;

/// The HTTP clients that all targets share: one for each [`Reach`], since the resolver that a client asks is not told
/// the port. Each has its own pool, so no connection that one made serves the other. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    public: Client,
    opened_only: Client,
    guard: Arc<Guard>,
}

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the http client: {0}")]
pub struct HttpClientError(String);

/// Sends the requests of one target.
#[derive(Clone, Debug)]
pub struct Sender {
    client: Client,
    /// What the guard has against the URL itself.
    refusal: Option<Refusal>,
    method: Method,
    url: Url,
    timeout: Duration,
}

impl HttpClient {
    /// Clients that dial only what `guard` allows.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(guard: Guard) -> Result<Self, HttpClientError> {
        let guard = Arc::new(guard);
        let public = client(GuardedResolver::new(Arc::clone(&guard), Reach::Public))?;
        let opened_only = client(GuardedResolver::new(Arc::clone(&guard), Reach::OpenedOnly))?;
        Ok(Self { public, opened_only, guard })
    }

    fn client_for(&self, url: &Url) -> Client {
        match self.guard.reach(url) {
            Reach::Public => self.public.clone(),
            Reach::OpenedOnly => self.opened_only.clone(),
        }
    }
}

fn client(resolver: GuardedResolver) -> Result<Client, HttpClientError> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_MAX)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .http2_max_header_list_size(HTTP2_HEADERS_MAX)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(false)
        .dns_resolver(resolver)
        .build()
        .map_err(|error| HttpClientError(error.without_url().to_string()))
}

impl Sender {
    /// A sender for `target`.
    #[must_use]
    pub fn new(http: &HttpClient, target: &Target) -> Self {
        let url = target.url.expose().clone();
        Self {
            client: http.client_for(&url),
            // An address in the URL never reaches the resolver, so it is judged here.
            refusal: http.guard.check_url(&url).err(),
            method: target.method.clone(),
            url,
            timeout: target.timeout,
        }
    }

    /// Makes one attempt; takes the target's `timeout` at most. `request` is asked for once, and again for each time
    /// that the receiver says it has not processed what was sent: that is no attempt yet (RFC 9113, 8.7).
    pub async fn attempt(&self, request: impl Fn() -> Request) -> End {
        if let Some(refusal) = &self.refusal {
            return End::Broken(Fault::Egress(refusal.to_string()));
        }
        let mut deadline = pin!(sleep(self.timeout));
        let mut resends = 0;
        loop {
            // Boxed: the client's future is large, and every future around it would be moved with it.
            let mut sending = Box::pin(self.client.execute(self.outgoing(request())));
            return tokio::select! {
                biased;
                sent = &mut sending => match sent {
                    Err(error) if resends < RESENDS_MAX && fault::is_unprocessed(&error) => {
                        resends += 1;
                        continue;
                    }
                    Err(error) => End::Broken(fault::fault(error, CONNECT_TIMEOUT)),
                    Ok(response) => End::Answered(answer(response, deadline).await),
                },
                () = deadline.as_mut() => End::Broken(Fault::Timeout(self.timeout)),
            };
        }
    }

    fn outgoing(&self, request: Request) -> reqwest::Request {
        let mut outgoing = reqwest::Request::new(self.method.clone(), self.url.clone());
        *outgoing.headers_mut() = request.headers;
        if request.body.is_empty() {
            // The client leaves it out, and some receivers then answer 411 (RFC 9110, 8.6).
            outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        *outgoing.body_mut() = Some(request.body.into());
        outgoing
    }
}

/// The status decides; a body that breaks off, drips or never ends takes nothing back.
async fn answer(mut response: Response, mut deadline: Pin<&mut Sleep>) -> Answer {
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| outcome::retry_after(value, SystemTime::now()));
    let status = response.status().as_u16();
    let mut excerpt = BytesMut::new();
    let mut read = 0;
    while read < BODY_READ_MAX {
        let chunk = tokio::select! {
            biased;
            chunk = response.chunk() => chunk,
            () = deadline.as_mut() => break,
        };
        let Ok(Some(chunk)) = chunk else { break };
        read += chunk.len();
        let wanted = RESPONSE_BYTES_MAX.saturating_sub(excerpt.len()).min(chunk.len());
        excerpt.extend_from_slice(&chunk[..wanted]);
    }
    let excerpt = if excerpt.is_empty() { Bytes::new() } else { excerpt.freeze() };
    Answer { status, retry_after, excerpt }
}
