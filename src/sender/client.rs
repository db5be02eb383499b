//! The HTTP clients: one that all targets share, and one for each other set of TLS needs; with every limit said. They follow
//! no redirect, keep no cookie, know no proxy, unpack nothing, and send a request again only where nothing of it had been
//! written.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};

use super::{
    BODY_READ_MAX,
    dial::{Dial, TcpDial},
    fence::Outgoing,
    tokens::{TokenSource, Tokens},
};
use crate::{
    access_token::ClientCredentials,
    egress::Guard,
    outcome::Fault,
    tls::{Tls, provider},
};

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
/// The largest headers of an answer, in bytes: as RFC 9113 (6.5.2) counts them for HTTP/2, and what is buffered for
/// HTTP/1.1.
const HEADERS_MAX: u32 = 64 * 1024;

/// hyper's client with our connections.
pub(super) type Client = legacy::Client<Dial, Outgoing>;

/// The client for some TLS needs, while somebody uses it.
type Other = (Tls, Weak<Client>);

/// The HTTP clients of all targets, and the guard that they obey. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct HttpClient {
    common: Arc<Client>,
    /// Those of targets with TLS needs of their own, for as long as somebody uses them.
    others: Arc<Mutex<Vec<Other>>>,
    tokens: Tokens,
    pub(super) guard: Arc<Guard>,
}

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the http client: {0}")]
pub struct HttpClientError(#[from] io::Error);

impl HttpClient {
    /// A client that dials only what `guard` allows, and trusts the system's certificate authorities.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(guard: Guard) -> Result<Self, HttpClientError> {
        let guard = Arc::new(guard);
        let common = Arc::new(client(&guard, common_config().map_err(io::Error::other)?));
        Ok(Self { common, others: Arc::default(), tokens: Tokens::default(), guard })
    }

    /// The client of targets without TLS needs of their own.
    pub(super) fn common(&self) -> Arc<Client> {
        Arc::clone(&self.common)
    }

    /// Where a target with these settings gets its access tokens; targets with the same share them.
    pub(super) fn tokens(&self, credentials: &Arc<ClientCredentials>, tls: Option<&Tls>) -> Arc<TokenSource> {
        self.tokens.source(self, credentials, tls)
    }

    /// The client for a target with these TLS needs; targets with the same share it, and its connections.
    pub(super) fn client_for(&self, tls: Option<&Tls>) -> Result<Arc<Client>, Fault> {
        let Some(tls) = tls else { return Ok(self.common()) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let known = others.iter().find(|(other, _)| other == tls).and_then(|(_, client)| client.upgrade());
        if let Some(client) = known {
            return Ok(client);
        }
        let config = own_config(tls).map_err(|error| Fault::Tls(error.to_string()))?;
        let made = Arc::new(client(&self.guard, config));
        others.retain(|(_, client)| client.strong_count() > 0);
        others.push((tls.clone(), Arc::downgrade(&made)));
        Ok(made)
    }
}

fn common_config() -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

fn own_config(tls: &Tls) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let authorities = tls.authorities.iter().cloned();
    let builder = if tls.system_roots {
        let verifier = Verifier::new_with_extra_roots(authorities, provider())?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        let mut store = RootCertStore::empty();
        for authority in authorities {
            store.add(authority)?;
        }
        builder.with_root_certificates(store)
    };
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()),
    }
}

fn client(guard: &Arc<Guard>, config: ClientConfig) -> Client {
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(TcpDial::new(guard));
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .timer(TokioTimer::new())
        .http1_max_buf_size(HEADERS_MAX as usize)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(false)
        // Only what was not written at all, because a kept connection had ended, goes over another one.
        .retry_canceled_requests(true)
        .build(Dial::new(https))
}
