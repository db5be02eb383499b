//! Making a connection: the addresses that the guard allows, TCP, then TLS, in a bounded time. Nothing of HTTP.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::time::timeout;
use tower_service::Service;
use url::Url;

use super::tame::Tame;
use crate::egress::{Guard, GuardedResolver, Reach};

/// The longest that making a connection takes: name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

type BoxError = Box<dyn Error + Send + Sync>;
type Dialling<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// No connection was made in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {}", humantime::format_duration(*.0))]
pub(super) struct DialTimeout(pub(super) Duration);

/// Makes TCP connections to what the guard allows. A resolver is told a name but no port, so there is one for each
/// [`Reach`].
#[derive(Clone, Debug)]
pub(super) struct TcpDial {
    guard: Arc<Guard>,
    public: HttpConnector<GuardedResolver>,
    opened_only: HttpConnector<GuardedResolver>,
}

/// Makes connections with or without TLS, as the URL says, in a bounded time.
#[derive(Clone, Debug)]
pub(super) struct Dial(HttpsConnector<TcpDial>);

impl TcpDial {
    pub(super) fn new(guard: &Arc<Guard>) -> Self {
        let with = |reach| {
            let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(Arc::clone(guard), reach));
            // TLS is laid over it.
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_keepalive(Some(KEEPALIVE));
            // Shared among the addresses of a name, so that a dead one leaves time for the next.
            tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
            tcp
        };
        let (public, opened_only) = (with(Reach::Public), with(Reach::OpenedOnly));
        Self { guard: Arc::clone(guard), public, opened_only }
    }
}

impl Dial {
    pub(super) fn new(https: HttpsConnector<TcpDial>) -> Self {
        Self(https)
    }
}

impl Service<Uri> for TcpDial {
    type Response = TokioIo<Tame>;
    type Error = BoxError;
    type Future = Dialling<TokioIo<Tame>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let reach = Url::parse(&uri.to_string()).map(|url| self.guard.reach(&url));
        let mut tcp = match reach {
            Ok(Reach::Public) => self.public.clone(),
            Ok(Reach::OpenedOnly) => self.opened_only.clone(),
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        Box::pin(async move { Ok(TokioIo::new(Tame::new(tcp.call(uri).await?.into_inner()))) })
    }
}

impl Service<Uri> for Dial {
    type Response = MaybeHttpsStream<TokioIo<Tame>>;
    type Error = BoxError;
    type Future = Dialling<MaybeHttpsStream<TokioIo<Tame>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialling = timeout(CONNECT_TIMEOUT, self.0.call(uri));
        Box::pin(async move {
            match dialling.await {
                Ok(dialled) => dialled,
                Err(_) => Err(DialTimeout(CONNECT_TIMEOUT).into()),
            }
        })
    }
}
