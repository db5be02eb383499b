//! The accounts that messages come from, as the rest of the house sees them: valid by construction. What the process has beside
//! them is in `checked`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use url::Url;

use super::{
    checked::{InstanceName, NamedFile, Registry, SecretText},
    rules::TargetRules,
};
use crate::target::{Target, TargetName};

/// An account of a broker, and what is delivered from it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What it is called among the connections.
    pub name: ConnectionName,
    /// The prefix of natshook's streams, consumers and subjects there.
    pub instance: InstanceName,
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
    /// On how many servers the bucket of operators' decisions is kept, 1 to 5.
    pub state_replicas: usize,
    /// How targets register while natshook runs, if they may.
    pub registry: Option<Registry>,
    /// What those are judged by, if there may be any.
    pub rules: Option<TargetRules>,
    /// The names of the targets of other connections, which none that registers here can have.
    pub elsewhere: BTreeSet<TargetName>,
    /// With unique names; at least one where none can register.
    pub targets: Vec<Target>,
    /// Which of them registered, and when. None before a connector adds them.
    pub registered: BTreeMap<TargetName, SystemTime>,
}

impl Connection {
    /// The targets that the config names itself.
    pub fn own_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| !self.registered.contains_key(&target.name))
    }

    /// From now on these are the targets that have registered, each with when, instead of those that had. One whose name the
    /// config gives to a target of its own is left out.
    pub fn set_registered(&mut self, registered: Vec<(Target, SystemTime)>) {
        let before = std::mem::take(&mut self.registered);
        self.targets.retain(|target| !before.contains_key(&target.name));
        let mut taken = self.elsewhere.clone();
        taken.extend(self.targets.iter().map(|target| target.name.clone()));
        for (target, since) in registered {
            if !taken.contains(&target.name) {
                self.registered.insert(target.name.clone(), since);
                self.targets.push(target);
            }
        }
    }

    /// All of it but what comes and goes on each replica at a moment of its own: the targets that registered. The printed forms
    /// leave secrets out by their types.
    pub(super) fn shown(&self) -> String {
        let targets: Vec<&Target> = self.own_targets().collect();
        let Self { name, instance, source, nats, stream, retry_queue, dead_letter, state_replicas, .. } =
            self;
        let Self { registry, rules, .. } = self;
        format!(
            "{name:?} {instance:?} {source:?} {nats:?} {stream:?} {retry_queue:?} {dead_letter:?} {state_replicas} \
             {registry:?} {rules:?} {targets:?}"
        )
    }
}

/// The part of a connection that tells which natshook is meant, and how to reach its broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// What the connection is called.
    pub connection: ConnectionName,
    /// The prefix of natshook's streams, consumers and subjects.
    pub name: InstanceName,
    /// Where messages come from.
    pub source: SourceKind,
    /// The broker.
    pub nats: Nats,
    /// On how many servers the bucket of operators' decisions is kept, 1 to 5.
    pub state_replicas: usize,
    /// Whether targets may register while it runs.
    pub registry: bool,
    /// The names of its targets, as far as they are valid.
    pub targets: Vec<TargetName>,
}

/// What a connection is called among others: a name as targets have. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionName(Arc<str>);

impl Default for ConnectionName {
    /// The name of the only connection of a config without `[[connections]]`.
    fn default() -> Self {
        Self("main".into())
    }
}

impl ConnectionName {
    /// `None` when `text` breaks the rule for names (see [`crate::target::is_name`]).
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        crate::target::is_name(text).then(|| Self(text.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub enum NatsAuth {
    /// Not at all, or by what the server's URL holds, or by a client certificate.
    None,
    /// A `.creds` file (JWT and seed).
    CredentialsFile(NamedFile),
    /// An nkey seed.
    NkeySeed(SecretText),
    /// A token.
    Token(SecretText),
    /// User and password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: SecretText,
    },
}

/// How the broker's connection is protected. With a file set, or `first`, TLS is required.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// A CA certificate to trust beside the system's.
    pub ca_file: Option<NamedFile>,
    /// A certificate and its key, if the broker asks for one.
    pub client: Option<ClientCertificate>,
    /// Whether TLS begins before the server's first line (`handshake_first`).
    pub first: bool,
}

/// A client certificate in PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub cert_file: NamedFile,
    /// Its private key.
    pub key_file: NamedFile,
}

/// The stream for subjects that no stream holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Whether natshook may create it.
    pub create: bool,
    /// On how many servers it is kept, 1 to 5.
    pub replicas: usize,
}

/// Limits of one of natshook's own streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// On how many servers it is kept, 1 to 5.
    pub replicas: usize,
    /// The most bytes it holds; when full it refuses more.
    pub max_bytes: Option<u64>,
    /// How long it keeps a message.
    pub max_age: Option<Duration>,
}
