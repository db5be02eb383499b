//! The HTTP client that all targets share, with every one of its limits said. It follows no redirect, keeps no
//! cookie, knows no proxy, unpacks nothing, and sends a request again only where nothing of it had been written.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    BODY_READ_MAX,
    dial::{Dial, TcpDial},
};
use crate::egress::Guard;

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
pub(super) type Client = legacy::Client<Dial, Full<Bytes>>;

/// The HTTP client that all targets share, and the guard that it obeys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    pub(super) client: Client,
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
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(TcpDial::new(&guard));
        let client = legacy::Client::builder(TokioExecutor::new())
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
            .build(Dial::new(https));
        Ok(Self { client, guard })
    }
}
