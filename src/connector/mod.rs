//! Wires the parts, watches over them, and drains. Decides nothing about any delivery: that is `delivery`.
//!
//! A `branch` is a connection of the config: `prepare` makes what has to stand first, a `generation` is everything that runs over
//! it, `reload` tells what a changed config changes. `control` is how people see and steer it all, and `line` one connection:
//! `pauses`, `survey`, `shown`, `answers` serve that; `handshakes` asks receivers for their consent. `registry` knows the targets
//! that registered, and `registrar` is whom they register with.

mod answers;
mod batches;
mod branch;
mod control;
mod couriers;
mod generation;
mod handshakes;
mod line;
mod open;
mod open_files;
mod ordered;
mod pauses;
mod prepare;
mod pump;
mod readiness;
mod registrar;
mod registry;
mod reload;
mod retries;
mod shown;
mod space;
mod survey;

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use futures_util::future::{join_all, select_all};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tracing::Span;

pub use answers::{STATUS, TEST, TestAnswer};
pub use control::{Control, ControlError, TestReport};
pub use line::Line;
pub use pauses::KEY as PAUSE_KEY;
pub use readiness::Readiness;
pub use registrar::ANSWER_WAIT as REGISTRY_WAIT;

use crate::{
    admin,
    config::{Config, Connection, ConnectionName, LoadError},
    registry::Judge,
    sender::{HttpClient, HttpClientError},
    source::ConnectError,
    trace::{TraceError, Tracer},
};
use branch::{Branch, News};
use generation::Means;
use prepare::Prepared;
use registry::Registered;
use reload::{Changes, ConnectionChange, Reloads, TargetChanges};

const START_WAIT_MIN: Duration = Duration::from_millis(250);
const START_WAIT_MAX: Duration = Duration::from_secs(10);
/// What is left for handing back and flushing after the grace period.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a changed connection may take to stand before the change is refused.
const REPLACE_LIMIT: Duration = Duration::from_secs(15);

/// Why natshook does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin listener cannot listen.
    #[error("admin.listen: cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] HttpClientError),
    /// Traces cannot be made.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The broker cannot be reached in a way that waiting would not mend.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server is too old.
    #[error("nats-server {0} is too old: consumers with several subjects need 2.10 or newer")]
    OldServer(String),
    /// The broker or the account has no JetStream.
    #[error(
        "the broker has no JetStream for this account ({0}); enable it there, or set source = \"core\" and accept that \
         messages are lost while natshook is away"
    )]
    NoJetStream(String),
    /// A changed connection does not come to stand.
    #[error("the broker of the changed config did not have everything ready within {}", humantime::format_duration(*.0))]
    NotInTime(Duration),
    /// A part of natshook ended by itself.
    #[error("a task ended unexpectedly: {0}; this is a defect of natshook, please report it")]
    Defect(String),
}

/// Runs until `shutdown` resolves, then drains within the grace period. Reads its config again at each of `hangups`, and
/// when its files change.
///
/// # Errors
/// natshook could not start; what goes wrong later is reported and mended.
pub async fn run(
    config: Config,
    hangups: mpsc::Receiver<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let control = Control::new(&config);
    let http = HttpClient::new(config.egress.clone())?;
    let reloads = Reloads::new(&config, hangups);
    let tracer = Tracer::start(config.otlp.as_ref(), &config.name)?;
    let open_files = open_files::raise();
    open_files::warn_if_few(open_files, &config);
    let branches = branches(&config, &control);
    let admin = admin::listen(&config.admin, control.clone()).await?;
    let leaving = JoinSet::new();
    let mut connector = Connector {
        config,
        control,
        admin,
        reloads,
        http,
        tracer: tracer.clone(),
        open_files,
        branches,
        leaving,
    };
    let end = connector.live(std::pin::pin!(shutdown)).await;
    connector.end().await;
    tracer.shutdown().await;
    end
}

fn branches(config: &Config, control: &Control) -> Vec<Branch> {
    let branch = |connection: &Connection| branch(connection, control, config.connections.len());
    config.connections.iter().map(branch).collect()
}

/// Begins a connection, one of `connections`.
fn branch(connection: &Connection, control: &Control, connections: usize) -> Branch {
    let line = Line::new(control.process().clone(), connection);
    control.put(line.clone());
    let span = match connections {
        1 => Span::none(),
        _ => tracing::error_span!("connection", name = %connection.name),
    };
    Branch::begin(connection.clone(), line, span)
}

/// What lives as long as the process.
struct Connector {
    config: Config,
    control: Control,
    admin: admin::Listener,
    reloads: Reloads,
    http: HttpClient,
    tracer: Tracer,
    /// How many files and connections the process may have open.
    open_files: u64,
    /// The connections; at least one.
    branches: Vec<Branch>,
    /// Generations that a changed config replaced or removed, and that end their work.
    leaving: JoinSet<()>,
}

impl Connector {
    /// Lives until natshook is told to end, a defect ends it, or its only connection cannot be used.
    async fn live(&mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Result<(), RunError> {
        loop {
            let changing = tokio::select! {
                () = &mut shutdown => return Ok(()),
                (branch, news) = news(&mut self.branches) => match news {
                    News::Defect(defect) => return Err(defect),
                    News::Prepared(prepared) => {
                        self.start(branch, *prepared)?;
                        continue;
                    }
                    News::Registered(registered) => Changing::Registered(branch, registered),
                },
                reloaded = self.reloads.next() => Changing::Config(Box::new(reloaded)),
            };
            let taking = async {
                match changing {
                    Changing::Config(reloaded) => self.take(*reloaded).await,
                    Changing::Registered(branch, registered) => {
                        self.take_registered(branch, &registered).await
                    }
                }
            };
            tokio::select! {
                () = taking => {}
                () = &mut shutdown => return Ok(()),
            }
        }
    }

    fn start(&mut self, branch: usize, prepared: Result<Prepared, RunError>) -> Result<(), RunError> {
        let (means, is_only) = (self.means(self.branches.len()), self.branches.len() == 1);
        let branch = &mut self.branches[branch];
        match prepared {
            Ok(prepared) => drop(branch.start(prepared, means)),
            Err(error) if is_only => return Err(error),
            Err(error) => branch.rest(&error),
        }
        let (connection, registered) = (branch.connection().clone(), branch.registered());
        self.keep(connection, registered.as_ref());
        Ok(())
    }

    /// What is in use of a connection, with the targets that registered there.
    fn keep(&mut self, connection: Connection, registered: Option<&Registered>) {
        if let Some(registered) = registered {
            self.control.process().metrics().registered(registered.count());
        }
        if let Some(kept) = self.config.connections.iter_mut().find(|kept| kept.name == connection.name) {
            *kept = connection;
        }
    }

    /// Starts, changes and ends targets as they have registered.
    async fn take_registered(&mut self, branch: usize, registered: &Registered) {
        let grace_period = self.config.shutdown.grace_period;
        let branch = &mut self.branches[branch];
        let mut connection = branch.connection().clone();
        connection.set_registered(registered.targets());
        let changes = reload::target_changes(&branch.connection().targets, &connection.targets);
        branch.set(connection.clone());
        if changes != TargetChanges::default() {
            branch.change_targets(&changes, grace_period).await;
        }
        for name in &changes.removed {
            self.control.process().metrics().forget(name);
        }
        self.keep(connection, Some(registered));
    }

    /// What a generation uses that is the process's, one of so many.
    fn means(&self, connections: usize) -> Means {
        let parts = u64::try_from(connections).unwrap_or(u64::MAX).max(1);
        Means { http: self.http.clone(), tracer: self.tracer.clone(), open_files: self.open_files / parts }
    }

    /// Does what a changed config says, all of it or nothing.
    async fn take(&mut self, reloaded: Result<Config, LoadError>) {
        let mut new = match reloaded {
            Ok(new) => new,
            Err(error) => return self.refuse(errors(error)),
        };
        self.judge_by(&mut new.connections);
        let changes = reload::changes(&self.config, &new);
        if changes == Changes::default() {
            tracing::debug!("the config is as it was");
            // Defaults that no target takes yet.
            self.follow(&new);
            self.config.connections = new.connections;
            return self.control.config_unchanged();
        }
        match self.change(&new, changes).await {
            Ok(()) => self.apply(new),
            Err(error) => {
                let mut old = self.config.connections.clone();
                self.judge_by(&mut old);
                self.refuse(vec![error.to_string()]);
            }
        }
    }

    /// What has registered is what it was, if `connections` let it be one.
    fn judge_by(&self, connections: &mut [Connection]) {
        for connection in connections {
            let branch = self.branches.iter().find(|branch| *branch.name() == connection.name);
            let registered = branch.and_then(Branch::registered).zip(Judge::new(connection));
            if let Some((registered, judge)) = registered {
                registered.judge_by(judge);
                connection.set_registered(registered.targets());
                self.control.process().metrics().registered(registered.count());
            }
        }
    }

    /// Connections whose targets are the same may have other rules for those that register.
    fn follow(&mut self, new: &Config) {
        for connection in &new.connections {
            let branch = self.branches.iter_mut().find(|branch| *branch.name() == connection.name);
            if let Some(branch) = branch {
                branch.set(connection.clone());
            }
        }
    }

    /// What can fail is done before anything is changed.
    async fn change(&mut self, new: &Config, changes: Changes) -> Result<(), RunError> {
        let http = match changes.egress {
            true => HttpClient::new(new.egress.clone())?,
            false => self.http.clone(),
        };
        let mut prepared = self.prepare(new, &changes).await?;
        if changes.admin {
            self.admin.change(&new.admin, self.control.clone()).await?;
        }
        self.http = http;
        self.follow(new);
        let grace_period = self.config.shutdown.grace_period;
        for (name, change) in changes.connections {
            let Some(connection) = new.connections.iter().find(|connection| connection.name == name) else {
                continue;
            };
            let prepared = prepared.remove(&name);
            self.change_connection(connection, change, prepared, new.connections.len(), grace_period).await;
        }
        for name in &changes.removed {
            self.remove(name, grace_period);
        }
        Ok(())
    }

    /// The ground of each connection that is replaced while it runs: a new generation starts beside the old one, which then
    /// ends its work. As with two replicas, nothing waits.
    async fn prepare(
        &self,
        new: &Config,
        changes: &Changes,
    ) -> Result<BTreeMap<ConnectionName, Prepared>, RunError> {
        let replaced = changes.connections.iter().filter(|(_, change)| *change == ConnectionChange::Replaced);
        let preparing = replaced.filter_map(|(name, _)| {
            let branch = self.branches.iter().find(|branch| branch.name() == name && branch.is_running())?;
            let connection = new.connections.iter().find(|connection| connection.name == *name)?;
            Some(async move { Ok((name.clone(), branch.prepare(connection).await?)) })
        });
        join_all(preparing).await.into_iter().collect()
    }

    async fn change_connection(
        &mut self,
        connection: &Connection,
        change: ConnectionChange,
        prepared: Option<Prepared>,
        connections: usize,
        grace_period: Duration,
    ) {
        let means = self.means(connections);
        let branch = self.branches.iter_mut().find(|branch| *branch.name() == connection.name);
        let Some(branch) = branch else {
            return self.branches.push(self::branch(connection, &self.control, connections));
        };
        branch.change(connection.clone());
        match change {
            ConnectionChange::Targets(targets) => branch.change_targets(&targets, grace_period).await,
            ConnectionChange::Added | ConnectionChange::Replaced => {
                let before = prepared.and_then(|prepared| branch.start(prepared, means));
                if let Some(before) = before {
                    self.leaving.spawn(before.drain(grace_period));
                }
            }
        }
    }

    fn remove(&mut self, name: &ConnectionName, grace_period: Duration) {
        if let Some(at) = self.branches.iter().position(|branch| branch.name() == name) {
            self.control.remove(name);
            self.branches.remove(at).leave(&mut self.leaving, grace_period);
            tracing::info!(connection = %name, "connection removed");
        }
    }

    fn apply(&mut self, mut new: Config) {
        // With what has registered where a connection was started anew.
        for connection in &mut new.connections {
            let branch = self.branches.iter().find(|branch| *branch.name() == connection.name);
            if let Some(branch) = branch {
                connection.clone_from(branch.connection());
            }
        }
        if self.config.otlp != new.otlp {
            tracing::warn!("a change of [telemetry] takes effect at the next start");
        }
        open_files::warn_if_few(self.open_files, &new);
        for target in self.config.targets().filter(|old| new.targets().all(|target| target.name != old.name))
        {
            self.control.process().metrics().forget(&target.name);
        }
        self.control.config_applied(&new);
        self.reloads.follow(&self.config, &new);
        tracing::info!(targets = new.targets().count(), hash = new.hash(), "config reloaded");
        self.config = new;
    }

    /// The config in use stays, whole.
    fn refuse(&self, errors: Vec<String>) {
        for error in &errors {
            tracing::error!(error, "the changed config is refused; the one in use stays");
        }
        self.control.config_refused(errors);
    }

    async fn end(mut self) {
        let grace_period = self.config.shutdown.grace_period;
        tracing::info!(grace_period = %humantime::format_duration(grace_period), "draining");
        let mut draining = JoinSet::new();
        for branch in self.branches {
            branch.line().readiness().draining();
            branch.leave(&mut draining, grace_period);
        }
        while draining.join_next().await.is_some() {}
        let others = async { while self.leaving.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, others).await.is_err() {
            tracing::warn!(
                "what an earlier config had under way was not handed back; the broker hands it out again"
            );
        }
        tracing::info!("drained");
    }
}

/// What changes while natshook runs.
enum Changing {
    /// The config, if it can be read.
    Config(Box<Result<Config, LoadError>>),
    /// The targets that registered, on a branch.
    Registered(usize, Registered),
}

/// The next news of any of `branches`, at least one, and which it is.
async fn news(branches: &mut [Branch]) -> (usize, News) {
    let news = branches.iter_mut().map(|branch| Box::pin(branch.news()));
    let (news, branch, _) = select_all(news).await;
    (branch, news)
}

/// Every error, a line each.
fn errors(error: LoadError) -> Vec<String> {
    match error {
        LoadError::Invalid { errors, .. } => errors.iter().map(ToString::to_string).collect(),
        error => vec![error.to_string()],
    }
}
