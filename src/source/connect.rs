//! How the connection to the broker is made and watched: credentials, TLS, names, and what is logged when it
//! comes and goes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{ConnectOptions, Event, ServerAddr, ServerError};
use tokio::sync::watch;
use tracing::{Instrument, Span};

use super::broker::{Broker, Denials};
use crate::{
    config::{InstanceName, NamedFile, Nats, NatsAuth, ServerUrl},
    failure_log::Sparing,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The longest wait between two attempts to reach the broker again.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(50);
/// Messages that may wait in the client for one subscription. Pulls never have more under way; a core
/// subscription that falls behind further loses messages, which is reported.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;

/// How many different refusals are told apart in the log.
const REFUSALS_MAX: usize = 64;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the config names cannot be used.
    #[error("{what} {path}: {cause}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        path: String,
        /// What is wrong with it.
        cause: std::io::Error,
    },
    /// An address that the client does not accept.
    #[error("nats.servers: {server}: {cause}")]
    Address {
        /// The address, without user info.
        server: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No server could be reached, or none let us in.
    #[error("cannot connect to {servers}: {cause}")]
    Unreachable {
        /// All that were tried, without user info.
        servers: String,
        /// What the client says.
        cause: String,
    },
}

impl ConnectError {
    /// Whether another attempt may succeed although nothing is changed here.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Connects once; the connection then mends itself for as long as it is held.
///
/// # Errors
/// A file or an address is wrong, or no server can be reached.
pub async fn connect(nats: &Nats, name: &InstanceName) -> Result<Broker, ConnectError> {
    let denials = Arc::new(Denials::default());
    let (connected, watching) = watch::channel(false);
    let over = Arc::new(AtomicBool::new(false));
    let options = options(nats, name, &over).await?;
    let options = watch_events(options, Arc::clone(&denials), connected.clone());
    let addresses = nats.servers.iter().map(|server| {
        server
            .expose()
            .as_str()
            .parse::<ServerAddr>()
            .map_err(|error| ConnectError::Address { server: server.to_string(), cause: error.to_string() })
    });
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let client = options.connect(addresses).await.map_err(|error| ConnectError::Unreachable {
        servers: nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        cause: error.to_string(),
    })?;
    connected.send_replace(true);
    Ok(Broker::new(client, denials, watching, over))
}

async fn options(
    nats: &Nats,
    name: &InstanceName,
    over: &Arc<AtomicBool>,
) -> Result<ConnectOptions, ConnectError> {
    let over = Arc::clone(over);
    let file = |what, path: &std::path::Path| {
        let path = path.display().to_string();
        move |cause| ConnectError::File { what, path, cause }
    };
    let options = ConnectOptions::new()
        .name(format!("natshook/{} {}", env!("CARGO_PKG_VERSION"), name.as_str()))
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| reconnect_wait(attempts, over.load(Ordering::Relaxed)));
    let mut options = match &nats.auth {
        NatsAuth::None => with_url_credentials(options, nats),
        NatsAuth::CredentialsFile(named) => {
            let path = named.path();
            options.credentials_file(path).await.map_err(file("nats.credentials_file", path))?
        }
        NatsAuth::NkeySeed(seed) => options.nkey(seed.expose().to_owned()),
        NatsAuth::Token(token) => options.token(token.expose().to_owned()),
        NatsAuth::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
    };
    if let Some(prefix) = &nats.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    let tls = &nats.tls;
    if let Some(ca_file) = tls.ca_file.as_ref().map(NamedFile::path) {
        std::fs::File::open(ca_file).map_err(file("nats.tls.ca_file", ca_file))?;
        options = options.add_root_certificates(ca_file.to_owned()).require_tls(true);
    }
    if let Some(client) = &tls.client {
        let (cert_file, key_file) = (client.cert_file.path(), client.key_file.path());
        std::fs::File::open(cert_file).map_err(file("nats.tls.cert_file", cert_file))?;
        std::fs::File::open(key_file).map_err(file("nats.tls.key_file", key_file))?;
        options = options.add_client_certificate(cert_file.to_owned(), key_file.to_owned()).require_tls(true);
    }
    Ok(if tls.first { options.tls_first().require_tls(true) } else { options })
}

/// Credentials in a server's URL, which the client itself ignores: `user:password@` or `token@`.
fn with_url_credentials(options: ConnectOptions, nats: &Nats) -> ConnectOptions {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let urls = nats.servers.iter().map(ServerUrl::expose);
    match urls.map(|url| (url.username(), url.password())).find(|(user, _)| !user.is_empty()) {
        None => options,
        Some((token, None)) => options.token(decoded(token)),
        Some((user, Some(password))) => options.user_and_password(decoded(user), decoded(password)),
    }
}

/// The client goes on looking for a server when nobody holds it any more, if it was disconnected then; all that can be
/// done is to have it wait.
fn reconnect_wait(attempts: usize, over: bool) -> Duration {
    if over {
        return FOR_EVER;
    }
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let wait = (RECONNECT_WAIT_MIN * 2_u32.pow(doublings)).min(RECONNECT_WAIT_MAX);
    wait.mul_f64(0.75 + 0.5 * fastrand::f64())
}

/// Events that come once for each message, or for each thing that natshook does.
#[derive(Debug, Default)]
struct Crowds {
    slow: Sparing,
    /// By what is refused: each names another permission.
    refused: HashMap<String, Sparing>,
}

impl Crowds {
    fn refused(&mut self, text: &str, now: Instant) -> Option<u64> {
        let known = self.refused.contains_key(text) || self.refused.len() < REFUSALS_MAX;
        // Further ones share a place.
        self.refused.entry(if known { text } else { "" }.to_owned()).or_default().line(now)
    }
}

fn watch_events(
    options: ConnectOptions,
    denials: Arc<Denials>,
    connected: watch::Sender<bool>,
) -> ConnectOptions {
    let crowds = Arc::new(Mutex::new(Crowds::default()));
    // The client's events come outside of what whoever connects is in.
    let span = Span::current();
    options.event_callback(move |event| {
        let (denials, connected, crowds) = (Arc::clone(&denials), connected.clone(), Arc::clone(&crowds));
        let heard = async move {
            let now = Instant::now();
            let mut crowds = crowds.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Connected => {
                    if connected.send_if_modified(|stands| !std::mem::replace(stands, true)) {
                        tracing::info!("connected to the broker again");
                    }
                }
                Event::Disconnected => {
                    connected.send_replace(false);
                    tracing::warn!("connection to the broker lost; trying to reach it again");
                }
                Event::SlowConsumer(subscription) => {
                    if let Some(unsaid) = crowds.slow.line(now) {
                        tracing::error!(
                            subscription,
                            unsaid,
                            "messages lost: natshook cannot keep up with the broker"
                        );
                    }
                }
                Event::ServerError(ServerError::Other(text)) => {
                    if let Some(unsaid) = crowds.refused(&text, now) {
                        tracing::error!(error = %text, unsaid, "the broker refused something");
                    }
                    denials.note(&text);
                }
                Event::LameDuckMode | Event::ServerError(_) | Event::ClientError(_) => {
                    tracing::warn!(event = %event, "the broker's connection reports");
                }
                Event::Draining | Event::Closed => tracing::debug!(event = %event, "connection ends"),
            }
        };
        heard.instrument(span.clone())
    })
}
