//! A running natshook for those who look at it or steer it: the admin page comes through here, and asks each of its
//! connections. Nothing here delivers anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{line::Line, shown};
use crate::{
    config::{Config, ConnectionName},
    metrics::{Format, Metrics},
    shaper::ShapeError,
    source::BrokerError,
    status::{ConfigState, Refusal, Snapshot, TargetDetail},
};

/// Why natshook did not do what somebody asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The config has no such target.
    #[error("no target {0:?} in the config of this natshook")]
    UnknownTarget(String),
    /// The config has no such connection.
    #[error("no connection {0:?} in the config of this natshook")]
    UnknownConnection(String),
    /// The connection to the broker has not been made yet.
    #[error("natshook is not connected to the broker yet; try again")]
    NotConnected,
    /// With core NATS there is nowhere to keep it.
    #[error(
        "a pause needs JetStream, where it is kept and where messages wait; this natshook has source = \"core\""
    )]
    Core,
    /// The broker did not take it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// It cannot be told what would be sent.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What came of a test request to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Whether the target answered with a 2xx.
    pub delivered: bool,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How it ended, in words.
    pub end: String,
    /// The beginning of the answer's body, as text; a stranger wrote it.
    pub excerpt: String,
    /// How long it took, in milliseconds.
    pub took_millis: u64,
}

/// A running natshook. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: Process,
    lines: RwLock<BTreeMap<ConnectionName, Line>>,
}

/// What all connections have in common. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Process(Arc<ProcessState>);

#[derive(Debug)]
struct ProcessState {
    replica: String,
    started: SystemTime,
    metrics: Metrics,
    config: RwLock<ConfigState>,
}

impl Process {
    fn new(config: &Config) -> Self {
        let started = SystemTime::now();
        let config = ConfigState { hash: config.hash(), loaded: started, refused: None };
        let metrics = Metrics::default();
        metrics.config_loaded(&config.hash, started);
        Self(Arc::new(ProcessState { replica: replica(), started, metrics, config: RwLock::new(config) }))
    }

    /// The replica at this moment, without any connection.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            instance: String::new(),
            replica: self.0.replica.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.0.started,
            broker_connected: false,
            broker_version: String::new(),
            missing: Vec::new(),
            config: self.config(),
            retry_waiting: None,
            dead_letters: None,
            targets: Vec::new(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn config(&self) -> ConfigState {
        self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_config(&self, change: impl FnOnce(&mut ConfigState)) {
        change(&mut self.0.config.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Control {
    /// A natshook with `config` that has no connection yet.
    #[must_use]
    pub(super) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner { process: Process::new(config), lines: RwLock::default() }))
    }

    pub(super) fn process(&self) -> &Process {
        &self.0.process
    }

    /// `line` is one of its connections from now on.
    pub(super) fn put(&self, line: Line) {
        self.0.process.metrics().broker(line.connection().as_str(), false, 0);
        self.0.lines.write().unwrap_or_else(PoisonError::into_inner).insert(line.connection().clone(), line);
    }

    /// The connection called `name` is none of its any more.
    pub(super) fn remove(&self, name: &ConnectionName) {
        self.0.process.metrics().forget_broker(name.as_str());
        self.0.lines.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// `config` is in use from now on.
    pub(super) fn config_applied(&self, config: &Config) {
        let state = ConfigState { hash: config.hash(), loaded: SystemTime::now(), refused: None };
        self.0.process.metrics().config_loaded(&state.hash, state.loaded);
        self.0.process.change_config(|config| *config = state);
    }

    /// A changed config is as the one in use again: what was refused is gone.
    pub(super) fn config_unchanged(&self) {
        self.0.process.metrics().config_unchanged();
        self.0.process.change_config(|config| config.refused = None);
    }

    /// A changed config was refused, for these reasons.
    pub(super) fn config_refused(&self, errors: Vec<String>) {
        self.0.process.metrics().config_refused();
        let refusal = Refusal { at: SystemTime::now(), errors };
        self.0.process.change_config(|config| config.refused = Some(refusal));
    }

    /// The config in use, and whether a newer one was refused.
    #[must_use]
    pub fn config(&self) -> ConfigState {
        self.0.process.config()
    }

    /// Its connections, in the order of their names.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.read().values().cloned().collect()
    }

    /// The connection called `name`; with an empty name, the first one.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn line(&self, name: &str) -> Result<Line, ControlError> {
        let lines = self.read();
        let found =
            lines.values().find(|line| name.is_empty() || line.connection().as_str() == name).cloned();
        found.ok_or_else(|| ControlError::UnknownConnection(name.to_owned()))
    }

    /// The connection that `target` gets its messages from.
    ///
    /// # Errors
    /// The config does not have it.
    pub fn line_of(&self, target: &str) -> Result<Line, ControlError> {
        let lines = self.read();
        let found = lines.values().find(|line| line.couriers().get(target).is_some()).cloned();
        found.ok_or_else(|| ControlError::UnknownTarget(target.to_owned()))
    }

    /// Whether natshook delivers, and what is missing. A connection that is down does not make the others less ready: natshook is
    /// ready when one of them stands.
    #[must_use]
    pub fn readiness(&self) -> (bool, Vec<String>) {
        let lines = self.lines();
        let missing: Vec<Vec<String>> = lines.iter().map(|line| line.readiness().missing()).collect();
        let ready = missing.iter().any(Vec::is_empty);
        let several = lines.len() > 1;
        let named = |(line, missing): (&Line, Vec<String>)| {
            let place = if several { format!("connection {}: ", line.connection()) } else { String::new() };
            missing.into_iter().map(move |part| format!("{place}{part}")).collect::<Vec<_>>()
        };
        (ready, lines.iter().zip(missing).flat_map(named).collect())
    }

    /// Whether natshook ends.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.read().values().any(|line| line.readiness().is_draining())
    }

    /// The replica and the targets of all connections at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let lines = self.lines();
        let merged = lines.iter().map(Line::snapshot).reduce(merged);
        let mut all = merged.unwrap_or_else(|| self.0.process.snapshot());
        all.targets.sort_by(|a, b| a.name.cmp(&b.name));
        all.missing = self.readiness().1;
        all
    }

    /// All metrics as text, with what is shown of this moment.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn exposition(&self, format: Format) -> Result<String, std::fmt::Error> {
        let metrics = self.0.process.metrics();
        for line in self.lines() {
            for courier in line.couriers().all() {
                metrics.show(&courier.target.name, &shown::gauges(&courier));
            }
            if let Ok(broker) = line.broker() {
                metrics.broker(line.connection().as_str(), broker.is_connected(), broker.reconnects());
            }
        }
        metrics.encode(format)
    }

    /// All that is known of `target`.
    ///
    /// # Errors
    /// The config does not have it.
    pub fn detail(&self, target: &str) -> Result<TargetDetail, ControlError> {
        self.line_of(target)?.detail(target)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ConnectionName, Line>> {
        self.0.lines.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two connections of a replica as one.
fn merged(one: Snapshot, other: Snapshot) -> Snapshot {
    let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
    let versions = [one.broker_version.as_str(), other.broker_version.as_str()];
    let versions: Vec<&str> = versions.into_iter().filter(|version| !version.is_empty()).collect();
    let broker_version = if one.broker_version == other.broker_version {
        one.broker_version.clone()
    } else {
        versions.join(", ")
    };
    Snapshot {
        broker_connected: one.broker_connected && other.broker_connected,
        broker_version,
        retry_waiting: sum(one.retry_waiting, other.retry_waiting),
        dead_letters: sum(one.dead_letters, other.dead_letters),
        targets: [one.targets.clone(), other.targets].concat(),
        ..one
    }
}

/// Host and process: what tells replicas apart for people.
fn replica() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = std::env::var("HOSTNAME").unwrap_or(host);
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "natshook" } else { host }, std::process::id())
}
