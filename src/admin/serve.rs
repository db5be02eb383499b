//! Accepts connections and bounds what a client can take: connections, time and the size of what it sends. Knows
//! nothing of what is asked.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_service::Service;

/// Connections at a time; more wait in the system's queue until one of these ends.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send the head of a request, and stay without one.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How much of a connection is buffered.
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// The longest life of a connection: whoever reads nothing does not keep one for ever.
const CONNECTION_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Before accepting again when the system has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves until it is dropped, and with it every connection.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = connection(stream, Peer(peer.ip().to_canonical()), router.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    let _ = timeout(CONNECTION_LIMIT, connection).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the admin listener cannot accept a connection");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, router: Router) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(router.clone(), peer, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin listener ended early");
    }
}

async fn answer(
    mut router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    router.call(request).await
}
