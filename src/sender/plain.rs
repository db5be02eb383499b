//! A client for what natshook itself asks of services beside it, such as a collector of traces. They are the operator's
//! own and mostly on internal addresses, so the egress guard is not asked; no target's request goes this way.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use url::Url;

use super::{HttpClientError, fault};
use crate::{outcome::Fault, request};

/// How long a kept connection may lie idle.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// The most bytes of an answer's body that are read.
const BODY_MAX: usize = 64 * 1024;

/// A client without a guard, for the operator's own services. Cheap to clone.
#[derive(Clone)]
pub struct PlainClient(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl fmt::Debug for PlainClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainClient")
    }
}

impl PlainClient {
    /// A client that trusts the system's certificate authorities.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new() -> Result<Self, HttpClientError> {
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(1)
            .build(https);
        Ok(Self(client))
    }

    /// Sends `request` and reads the answer, both together within `limit`. Redirects are not followed.
    ///
    /// # Errors
    /// No answer came in time, or one with more than 64 KiB of body.
    pub async fn send(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Bytes>, Fault> {
        let answered = async {
            let response =
                self.0.request(request.map(Full::new)).await.map_err(|error| fault::fault(&error))?;
            let (parts, mut body) = response.into_parts();
            let mut read = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| Fault::ConnectionLost(error.to_string()))?;
                let chunk = frame.into_data().unwrap_or_default();
                if read.len() + chunk.len() > BODY_MAX {
                    return Err(Fault::ConnectionLost(format!("the answer has more than {BODY_MAX} bytes")));
                }
                read.extend_from_slice(&chunk);
            }
            Ok(Response::from_parts(parts, read.freeze()))
        };
        timeout(limit, answered).await.unwrap_or(Err(Fault::Timeout(limit)))
    }
}

/// `url` as a client wants it, without user info and fragment; `None` if it cannot be dialled.
#[must_use]
pub fn dialled(url: &Url) -> Option<Uri> {
    request::uri(url)
}
