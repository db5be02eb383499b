//! One HTTP attempt: the request goes out, and how it ended comes back. This is the only place that knows the
//! HTTP client; what the end means is for `outcome`.

use std::{
    error::Error,
    io,
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
    egress::{Guard, GuardedResolver, Reach, Refusal, ResolveError},
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
/// How long a connection may lie idle.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The HTTP clients that all targets share: one for each [`Reach`], since the resolver that a client asks is not told
/// the port. Cheap to clone.
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

    /// Makes one attempt; takes the target's `timeout` at most.
    pub async fn attempt(&self, request: Request) -> End {
        if let Some(refusal) = &self.refusal {
            return End::Broken(Fault::Egress(refusal.to_string()));
        }
        let mut deadline = pin!(sleep(self.timeout));
        let mut outgoing = reqwest::Request::new(self.method.clone(), self.url.clone());
        *outgoing.headers_mut() = request.headers;
        if request.body.is_empty() {
            // The client leaves it out, and some receivers then answer 411 (RFC 9110, 8.6).
            outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        *outgoing.body_mut() = Some(request.body.into());
        // Boxed: the client's future is large, and every future around it would be moved with it.
        let mut sending = Box::pin(self.client.execute(outgoing));
        tokio::select! {
            biased;
            sent = &mut sending => match sent {
                Err(error) => End::Broken(fault(error)),
                Ok(response) => End::Answered(answer(response, deadline).await),
            },
            () = deadline.as_mut() => End::Broken(Fault::Timeout(self.timeout)),
        }
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

/// Tells the causes apart by the types in the error's chain, never by its text.
fn fault(error: reqwest::Error) -> Fault {
    // The URL may hold secrets.
    let error = error.without_url();
    if let Some(error) = cause::<ResolveError>(&error) {
        return match error {
            ResolveError::Lookup { .. } => Fault::Dns(error.to_string()),
            ResolveError::Refused { .. } => Fault::Egress(error.to_string()),
        };
    }
    if let Some(error) = cause::<rustls::Error>(&error) {
        return Fault::Tls(error.to_string());
    }
    if error.is_timeout() {
        return Fault::Timeout(CONNECT_TIMEOUT);
    }
    let text = innermost(&error);
    if error.is_connect() {
        return match cause::<io::Error>(&error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
                Fault::ConnectionLost(text)
            }
            _ => Fault::ConnectionRefused(text),
        };
    }
    Fault::ConnectionLost(text)
}

/// The first error of type `T` in the chain; errors wrapped in an [`io::Error`] are looked into.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
