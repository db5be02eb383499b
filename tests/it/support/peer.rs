//! A receiver below HTTP: what it does with each connection is a function of the test.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::free_port;
use super::http::read_to_close;

/// A listening peer. It stops with the value, and with it every connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Peer {
    /// `serve` gets each connection and its number, from 1.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = tcp.set_nodelay(true);
                open.spawn(serve(tcp, count.fetch_add(1, Ordering::Relaxed) + 1));
            }
        });
        Self { port, connections, accepting }
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls<F>(
        config: Arc<ServerConfig>,
        serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(config);
        let serve = Arc::new(serve);
        Self::start(move |tcp, number| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Ok(stream) = acceptor.accept(tcp).await {
                    serve(stream, number).await;
                }
            }
        })
        .await
    }

    /// Sends these bytes to whoever connects, and reads what comes until the other side closes.
    pub(crate) async fn saying(bytes: &'static [u8]) -> Self {
        Self::start(move |mut tcp, _| async move {
            let _ = tcp.write_all(bytes).await;
            read_to_close(&mut tcp).await;
        })
        .await
    }

    pub(crate) fn https(&self) -> String {
        format!("https://127.0.0.1:{}/hook", self.port)
    }

    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
