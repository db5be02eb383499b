//! Access tokens while natshook runs: each is asked for when a request needs it, kept, and renewed before it ends. However
//! many requests want one, an endpoint is asked by one at a time; while it fails it is left alone for growing times. What is
//! asked and what the answer means is the business of `access_token`.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::{
    sync::watch,
    time::{Sleep, timeout},
};

use super::{
    BODY_READ_MAX,
    client::{Client, HttpClient},
    fault,
    fence::Outgoing,
};
use crate::{
    access_token::{AccessToken, ClientCredentials, LIFE_MIN, TokenError},
    outcome::Fault,
    request,
    tls::Tls,
};

/// The longest that an endpoint may take to answer.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// A token that is younger is not thrown away at a 401: whoever refuses it just after it was given would refuse the next
/// one too, and each refusal would cost the endpoint a request.
const AGE_MIN: Duration = Duration::from_secs(1);
/// How long an endpoint that failed is left alone at first, and at most; doubled with each failure.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The sources that somebody uses. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens(Arc<Mutex<Vec<Weak<TokenSource>>>>);

impl Tokens {
    /// The source with these settings, a new one if nobody has it. It lives as long as one of its users, so that a reload
    /// which keeps the settings keeps the token.
    pub(super) fn source(
        &self,
        http: &HttpClient,
        credentials: &Arc<ClientCredentials>,
        tls: Option<&Tls>,
    ) -> Arc<TokenSource> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |source: &Arc<TokenSource>| source.credentials == *credentials && source.tls.as_ref() == tls;
        if let Some(known) = sources.iter().filter_map(Weak::upgrade).find(same) {
            return known;
        }
        let made = Arc::new(TokenSource::new(http, credentials, tls));
        sources.retain(|source| source.strong_count() > 0);
        sources.push(Arc::downgrade(&made));
        made
    }
}

/// Gives the access token of all targets with the same settings. Printed without it.
pub(super) struct TokenSource {
    credentials: Arc<ClientCredentials>,
    tls: Option<Tls>,
    /// The way to the endpoint, or why there is none.
    way: Result<(Arc<Client>, Uri), Fault>,
    state: Mutex<State>,
    /// Told each time that the endpoint has been asked.
    asked: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    token: Option<Held>,
    /// Whether the endpoint is being asked now.
    asking: bool,
    failed: Option<Failed>,
}

struct Held {
    token: AccessToken,
    asked: Instant,
}

struct Failed {
    fault: Fault,
    wait: Duration,
    until: Instant,
}

/// What a request does about its token.
enum Step {
    Use(HeaderValue),
    Fail(Fault),
    Wait,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSource({})", self.credentials.token_url)
    }
}

impl TokenSource {
    fn new(http: &HttpClient, credentials: &Arc<ClientCredentials>, tls: Option<&Tls>) -> Self {
        Self {
            credentials: Arc::clone(credentials),
            tls: tls.cloned(),
            way: way(http, credentials, tls),
            state: Mutex::default(),
            asked: watch::Sender::new(()),
        }
    }

    /// The value of `Authorization` for a request that is sent now. Waits for the endpoint when there is no token, until
    /// `deadline` at most.
    pub(super) async fn token(self: &Arc<Self>, mut deadline: Pin<&mut Sleep>) -> Result<HeaderValue, Fault> {
        let mut asked = self.asked.subscribe();
        loop {
            asked.mark_unchanged();
            match self.step(Instant::now()) {
                Step::Use(value) => return Ok(value),
                Step::Fail(fault) => return Err(fault),
                Step::Wait => {}
            }
            tokio::select! {
                biased;
                _ = asked.changed() => {}
                () = deadline.as_mut() => {
                    let cause = "the token endpoint did not answer within the target's timeout";
                    return Err(Fault::TokenUnavailable(cause.to_owned()));
                }
            }
        }
    }

    /// The token that is held.
    pub(super) fn in_use(&self) -> Option<HeaderValue> {
        self.lock().token.as_ref().map(|held| held.token.value.clone())
    }

    /// Throws away a token that a target answered with a 401; false when it is too young for that. That somebody else has
    /// thrown it away already is as good.
    pub(super) fn discard(&self, refused: &HeaderValue) -> bool {
        let mut state = self.lock();
        match &state.token {
            Some(held) if held.token.value == *refused => {
                let old = held.asked.elapsed() >= AGE_MIN;
                if old {
                    state.token = None;
                }
                old
            }
            Some(_) | None => true,
        }
    }

    fn step(self: &Arc<Self>, now: Instant) -> Step {
        let mut state = self.lock();
        let age = |held: &Held| now.saturating_duration_since(held.asked);
        let held = state.token.as_ref().filter(|held| age(held) < held.token.life);
        let (value, due) = match held {
            Some(held) => (Some(held.token.value.clone()), age(held) >= held.token.renewed_after()),
            None => (None, true),
        };
        let resting = state.failed.as_ref().filter(|failed| now < failed.until);
        match (value, resting) {
            (None, Some(failed)) => Step::Fail(failed.fault.clone()),
            (value, resting) => {
                if due && resting.is_none() && !state.asking {
                    state.asking = true;
                    // On its own, so that it ends even if nobody waits for it any more.
                    tokio::spawn(Asking(Arc::clone(self)).run());
                }
                value.map_or(Step::Wait, Step::Use)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, came: Result<AccessToken, TokenError>, asked: Instant) {
        let mut state = self.lock();
        match came {
            Ok(token) => {
                let still_good = (Instant::now() + LIFE_MIN).checked_sub(token.life);
                let asked = still_good.map_or(asked, |good| good.max(asked));
                state.failed = None;
                state.token = Some(Held { token, asked });
            }
            Err(error) => {
                let before = state.failed.as_ref().map(|failed| failed.wait);
                let wait = before.map_or(WAIT_MIN, |wait| (wait * 2).min(WAIT_MAX));
                let rest = wait.max(error.retry_after.unwrap_or_default()).min(WAIT_MAX);
                let fault = if error.refused {
                    Fault::TokenRefused(error.cause)
                } else {
                    Fault::TokenUnavailable(error.cause)
                };
                tracing::warn!(
                    endpoint = %self.credentials.token_url, %fault, wait = %humantime::format_duration(rest),
                    "no access token; the endpoint is left alone until then"
                );
                state.failed = Some(Failed { fault, wait, until: Instant::now() + rest });
            }
        }
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let (client, uri) = self.way.as_ref().map_err(|fault| no_token(fault.clone()))?;
        let (headers, body) = self.credentials.request();
        let mut outgoing = Request::new(Outgoing::new(body, None));
        *outgoing.method_mut() = Method::POST;
        *outgoing.uri_mut() = uri.clone();
        *outgoing.headers_mut() = headers;
        let answered = timeout(ENDPOINT_TIMEOUT, answer(client, outgoing));
        let (status, headers, body) =
            answered.await.unwrap_or(Err(Fault::Timeout(ENDPOINT_TIMEOUT))).map_err(no_token)?;
        self.credentials.read(status, &headers, &body, SystemTime::now())
    }
}

/// The endpoint is being asked for as long as this lives.
struct Asking(Arc<TokenSource>);

impl Asking {
    async fn run(self) {
        let asked = Instant::now();
        let came = self.0.ask().await;
        self.0.keep(came, asked);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.lock().asking = false;
        self.0.asked.send_replace(());
    }
}

fn way(
    http: &HttpClient,
    credentials: &ClientCredentials,
    tls: Option<&Tls>,
) -> Result<(Arc<Client>, Uri), Fault> {
    let url = credentials.token_url.expose();
    http.guard.check_url(url).map_err(|refusal| Fault::Egress(refusal.to_string()))?;
    let uri = request::uri(url).ok_or_else(|| Fault::Dns("the url cannot be dialled".to_owned()))?;
    Ok((http.client_for(tls)?, uri))
}

async fn answer(client: &Client, request: Request<Outgoing>) -> Result<(u16, HeaderMap, Bytes), Fault> {
    let response = client.request(request).await.map_err(|error| fault::fault(&error))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, BODY_READ_MAX).collect().await;
    let body = body.map_err(|_| Fault::ConnectionLost("its answer broke off or was too long".to_owned()))?;
    Ok((parts.status.as_u16(), parts.headers, body.to_bytes()))
}

/// The endpoint could not be asked. What is wrong with its address or its certificate is as lasting as a refusal.
fn no_token(fault: Fault) -> TokenError {
    let refused = match fault {
        Fault::Dns(_) | Fault::Tls(_) | Fault::Egress(_) | Fault::TokenRefused(_) => true,
        Fault::Timeout(_)
        | Fault::ConnectionLost(_)
        | Fault::ConnectionRefused(_)
        | Fault::TokenUnavailable(_) => false,
    };
    TokenError { refused, cause: format!("the token endpoint cannot be asked: {fault}"), retry_after: None }
}
