//! The config as the rest of the house sees it: valid by construction. Nothing downstream checks it again, and
//! nothing here knows how it was written.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

use crate::{egress::Guard, target::Target};

/// Everything that natshook was told.
#[derive(Debug)]
pub struct Config {
    /// The prefix of its streams, consumers and subjects.
    pub name: InstanceName,
    /// Where messages come from.
    pub source: SourceKind,
    /// The broker.
    pub nats: Nats,
    /// The stream that natshook makes for subjects that no stream holds.
    pub stream: Stream,
    /// The retry queue's storage.
    pub retry_queue: Storage,
    /// The dead-letter stream's storage.
    pub dead_letter: Storage,
    /// The listener for health and metrics.
    pub admin: Admin,
    /// What targets may be reached.
    pub egress: Guard,
    /// How natshook ends.
    pub shutdown: Shutdown,
    /// At least one, with unique names.
    pub targets: Vec<Target>,
}

/// The instance's name, in the forms that streams, consumers and subjects use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName(String);

impl Default for InstanceName {
    fn default() -> Self {
        Self("natshook".to_owned())
    }
}

impl InstanceName {
    /// `None` when `text` breaks the rule for names (see [`crate::target::is_name`]).
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        crate::target::is_name(text).then(|| Self(text.to_owned()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream of deliveries that wait for their next attempt.
    #[must_use]
    pub fn retry_stream(&self) -> String {
        format!("{}_RETRY", self.0.to_uppercase())
    }

    /// The stream of dead letters.
    #[must_use]
    pub fn dead_letter_stream(&self) -> String {
        format!("{}_DEAD_LETTER", self.0.to_uppercase())
    }

    /// The subject under which deliveries to `target` wait; `*` stands for all targets.
    #[must_use]
    pub fn retry_subject(&self, target: &str) -> String {
        format!("{}.retry.{target}", self.0)
    }

    /// The subject under which dead letters of `target` are stored; `*` stands for all targets.
    #[must_use]
    pub fn dead_letter_subject(&self, target: &str) -> String {
        format!("{}.dead-letter.{target}", self.0)
    }

    /// The durable consumer of a target, or of the retry queue (`retry`).
    #[must_use]
    pub fn consumer(&self, of: &str) -> String {
        format!("{}-{of}", self.0)
    }
}

/// Where messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A stream: nothing is lost.
    JetStream,
    /// Plain subscriptions, for brokers without JetStream.
    Core,
}

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct Nats {
    /// At least one.
    pub servers: Vec<ServerUrl>,
    /// Who we are.
    pub auth: NatsAuth,
    /// How the connection is protected.
    pub tls: Tls,
    /// The prefix of reply subjects, for accounts that may not subscribe to `_INBOX.>`.
    pub inbox_prefix: Option<String>,
}

/// A broker's address. Printed without user info, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// `None` unless the scheme is `nats` or `tls` and there is a host.
    #[must_use]
    pub fn new(url: Url) -> Option<Self> {
        (matches!(url.scheme(), "nats" | "tls") && url.has_host()).then_some(Self(url))
    }

    /// The whole URL, password included.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().unwrap_or(4222);
        write!(f, "{}://{}:{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How natshook proves to the broker who it is.
#[derive(Clone, Debug)]
pub enum NatsAuth {
    /// Not at all, or by what the server's URL holds, or by a client certificate.
    None,
    /// A `.creds` file (JWT and seed).
    CredentialsFile(PathBuf),
    /// An nkey seed.
    NkeySeed(SecretString),
    /// A token.
    Token(SecretString),
    /// User and password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
}

/// How the broker's connection is protected. With a file set, or `first`, TLS is required.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// A CA certificate to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate and its key, if the broker asks for one.
    pub client: Option<ClientCertificate>,
    /// Whether TLS begins before the server's first line (`handshake_first`).
    pub first: bool,
}

/// A client certificate in PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The stream for subjects that no stream holds.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Whether natshook may create it.
    pub create: bool,
    /// On how many servers it is kept, 1 to 5.
    pub replicas: usize,
}

/// Limits of one of natshook's own streams.
#[derive(Clone, Debug)]
pub struct Storage {
    /// On how many servers it is kept, 1 to 5.
    pub replicas: usize,
    /// The most bytes it holds; when full it refuses more.
    pub max_bytes: Option<u64>,
    /// How long it keeps a message.
    pub max_age: Option<Duration>,
}

/// The listener for health and metrics.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// How natshook ends.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// The longest a drain takes.
    pub grace_period: Duration,
}
