//! The config as the rest of the house sees it: valid by construction. Nothing downstream checks it again, and
//! nothing here knows how it was written.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{Connection, TargetTest};
use crate::{
    egress::Guard,
    target::{HttpUrl, Target},
};

/// Everything that natshook was told.
#[derive(Debug)]
pub struct Config {
    /// The prefix of its streams, consumers and subjects, in each account.
    pub name: InstanceName,
    /// The accounts that messages come from: at least one, with unique names; all their targets have unique names.
    pub connections: Vec<Connection>,
    /// The listener for health, metrics and the status page.
    pub admin: Admin,
    /// Where traces go, if anywhere.
    pub otlp: Option<Otlp>,
    /// How a changed config is noticed.
    pub reload: Reload,
    /// What targets may be reached.
    pub egress: Guard,
    /// How natshook ends.
    pub shutdown: Shutdown,
    /// The tests of the targets; nothing of them is used while natshook runs.
    pub tests: Vec<TargetTest>,
}

impl Config {
    /// The targets of all connections.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.connections.iter().flat_map(|connection| &connection.targets)
    }

    /// What tells two configs apart, in 16 hexadecimal digits: equal in all replicas of the same version and config.
    /// Secrets are no part of it, so it says nothing about them, and is the same after one was rotated; nor is the admin
    /// address, which replicas on one machine cannot share.
    #[must_use]
    pub fn hash(&self) -> String {
        const BYTES: usize = 8;
        let Self { name, connections, admin, otlp, reload, egress, shutdown, tests: _ } = self;
        let connections: Vec<String> = connections.iter().map(Connection::shown).collect();
        // The printed forms leave secrets out by their types.
        let shown = format!(
            "{name:?} {connections:?} {} {otlp:?} {} {egress:?} {shutdown:?}",
            admin.open_metrics, reload.on_change
        );
        let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
        digest.as_ref().iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How targets register while natshook runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// What their secrets are sealed with: the first one seals, all open. None: no secrets.
    pub keys: Vec<SealKey>,
    /// On how many servers the bucket is kept, 1 to 5.
    pub replicas: usize,
}

/// A key that seals secrets. Never printed.
#[derive(Clone, PartialEq)]
pub struct SealKey(Zeroizing<[u8; SealKey::BYTES]>);

impl SealKey {
    /// Its length: that of a key of AES-256.
    pub const BYTES: usize = 32;

    /// `None` unless there are just so many bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|key| Self(Zeroizing::new(key)))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
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

    /// The subject under which deliveries to `target` wait that are kept in order; `*` stands for all targets.
    #[must_use]
    pub fn ordered_subject(&self, target: &str) -> String {
        format!("{}.ordered.{target}", self.0)
    }

    /// The subject under which dead letters of `target` are stored; `*` stands for all targets.
    #[must_use]
    pub fn dead_letter_subject(&self, target: &str) -> String {
        format!("{}.dead-letter.{target}", self.0)
    }

    /// The key-value bucket of what operators decided.
    #[must_use]
    pub fn state_bucket(&self) -> String {
        format!("{}_STATE", self.0.to_uppercase())
    }

    /// The key-value bucket of targets that registered.
    #[must_use]
    pub fn registry_bucket(&self) -> String {
        format!("{}_TARGETS", self.0.to_uppercase())
    }

    /// The subject on which natshook is asked to do `what` with a target; `*` stands for all that it can do.
    #[must_use]
    pub fn registry_subject(&self, what: &str) -> String {
        format!("{}.{what}", self.registry_group())
    }

    /// What the subjects of the registry's service begin with.
    #[must_use]
    pub fn registry_group(&self) -> String {
        format!("{}.targets", self.0)
    }

    /// The subject on which every replica of this instance is asked for `what`.
    #[must_use]
    pub fn control_subject(&self, what: &str) -> String {
        format!("{}.control.{what}", self.0)
    }

    /// The durable consumer of a target, or of the retry queue (`retry`).
    #[must_use]
    pub fn consumer(&self, of: &str) -> String {
        format!("{}-{of}", self.0)
    }
}

/// A secret that can be compared with another and never printed.
#[derive(Clone, Debug)]
pub struct SecretText(SecretString);

impl SecretText {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<SecretString> for SecretText {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// A file that the config names and somebody else reads. Two are equal when path and content are, so that one that was
/// written anew is a change.
#[derive(Clone)]
pub struct NamedFile {
    path: PathBuf,
    content: ring::digest::Digest,
}

impl NamedFile {
    /// The file at `path`, as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: PathBuf) -> std::io::Result<Self> {
        let content = Zeroizing::new(std::fs::read(&path)?);
        Ok(Self { path, content: ring::digest::digest(&ring::digest::SHA256, &content) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for NamedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.content.as_ref() == other.content.as_ref()
    }
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The listener for health, metrics and the status page.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Its address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What whoever reads or acts must know; always there when the address is not loopback.
    pub token: Option<SecretText>,
    /// Whether metrics are open to everybody all the same.
    pub open_metrics: bool,
}

impl Admin {
    /// Where it listens unless the config says otherwise.
    pub const DEFAULT_LISTEN: SocketAddr = super::limits::LISTEN;
}

/// A collector of traces, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Its base address, to which `/v1/traces` is appended.
    pub endpoint: HttpUrl,
    /// Headers for it; their values are marked sensitive.
    pub headers: HeaderMap,
    /// Which share of the traces that begin here is recorded, 0 to 1.
    pub sample_ratio: f64,
}

/// How a changed config is noticed, beside SIGHUP.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// Whether files are watched.
    pub on_change: bool,
    /// The config's file and those of its secrets.
    pub files: Vec<PathBuf>,
}

/// How natshook ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// The longest a drain takes.
    pub grace_period: Duration,
}
