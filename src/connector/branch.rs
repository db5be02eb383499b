//! A connection of the config and everything that runs over it: it waits for its broker for as long as that takes, and then
//! delivers. What it does depends on no other connection.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tracing::{Instrument, Span};

use super::{
    REPLACE_LIMIT, RunError,
    generation::{Generation, Means},
    line::Line,
    prepare::{self, Prepared},
    readiness::Readiness,
    registry::{self, Registered},
    reload::TargetChanges,
};
use crate::config::{Connection, ConnectionName};

/// How long a connection rests whose broker cannot be used as it is, where others go on.
const REST: Duration = Duration::from_secs(30);

type Preparing = Pin<Box<dyn Future<Output = Result<Prepared, RunError>> + Send>>;

/// A connection and what runs over it.
pub(super) struct Branch {
    connection: Connection,
    line: Line,
    /// In which the log speaks of it; none where there is only one.
    span: Span,
    state: State,
}

enum State {
    Preparing(Preparing),
    Resting(Pin<Box<Sleep>>),
    Running(Box<Generation>),
}

/// What happened to a branch.
pub(super) enum News {
    /// Its ground is there, or waiting would not bring it.
    Prepared(Box<Result<Prepared, RunError>>),
    /// A part of it ended by itself.
    Defect(RunError),
    /// What has registered is no longer what it was.
    Registered(Registered),
}

impl Branch {
    /// Begins to wait for the broker.
    pub(super) fn begin(connection: Connection, line: Line, span: Span) -> Self {
        let state = State::Preparing(preparing(&connection, line.readiness(), &span));
        Self { connection, line, span, state }
    }

    pub(super) fn name(&self) -> &ConnectionName {
        &self.connection.name
    }

    /// What is in use of the config, with the targets that registered.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The targets that registered, if any may and it runs.
    pub(super) fn registered(&self) -> Option<Registered> {
        match &self.state {
            State::Running(generation) => generation.registered(),
            State::Preparing(_) | State::Resting(_) => None,
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Resolves when something happened that the parent has to answer. May be dropped and called again before that.
    pub(super) async fn news(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Preparing(preparing) => return News::Prepared(Box::new(preparing.await)),
                State::Running(generation) => {
                    let registered = generation.registered();
                    return tokio::select! {
                        defect = generation.defect() => News::Defect(defect),
                        registered = registry::changed(registered) => News::Registered(registered),
                    };
                }
                State::Resting(rest) => {
                    rest.await;
                    self.begin_anew();
                }
            }
        }
    }

    /// Starts everything over what is prepared, and returns what ran before, if anything did.
    pub(super) fn start(&mut self, prepared: Prepared, means: Means) -> Option<Box<Generation>> {
        if let Some((registered, _)) = &prepared.registered {
            self.connection.set_registered(registered.targets());
        }
        let span = self.span.clone();
        let generation =
            span.in_scope(|| Generation::start(&self.connection, prepared, self.line.clone(), means));
        let targets = self.connection.targets.len();
        span.in_scope(|| tracing::info!(targets, server = generation.server(), "natshook runs"));
        match std::mem::replace(&mut self.state, State::Running(Box::new(generation))) {
            State::Running(before) => Some(before),
            State::Preparing(_) | State::Resting(_) => None,
        }
    }

    /// Tries again later what cannot be had now.
    pub(super) fn rest(&mut self, error: &RunError) {
        self.span.in_scope(|| {
            tracing::error!(
                %error, retry_in = %humantime::format_duration(REST),
                "a connection cannot be used; the others go on"
            );
        });
        self.state = State::Resting(Box::pin(sleep(REST)));
    }

    /// Prepares a change of everything, beside what runs.
    pub(super) async fn prepare(&self, connection: &Connection) -> Result<Prepared, RunError> {
        let prepared = timeout(REPLACE_LIMIT, preparing(connection, Readiness::default(), &self.span)).await;
        prepared.map_err(|_| RunError::NotInTime(REPLACE_LIMIT))?
    }

    /// Is as `connection` says from now on; whoever calls this starts and ends what differs.
    pub(super) fn set(&mut self, connection: Connection) {
        self.connection = connection;
    }

    /// The same; one that does not run yet begins anew.
    pub(super) fn change(&mut self, connection: Connection) {
        self.set(connection);
        if !self.is_running() {
            self.begin_anew();
        }
    }

    /// Starts and ends targets, if it runs.
    pub(super) async fn change_targets(&mut self, changes: &TargetChanges, grace_period: Duration) {
        if let State::Running(generation) = &mut self.state {
            let changed = generation.change_targets(&self.connection, changes, grace_period);
            changed.instrument(self.span.clone()).await;
        }
    }

    /// Ends it within `grace_period`, as one of `leaving`.
    pub(super) fn leave(self, leaving: &mut JoinSet<()>, grace_period: Duration) {
        if let State::Running(generation) = self.state {
            leaving.spawn(generation.drain(grace_period).instrument(self.span));
        }
    }

    fn begin_anew(&mut self) {
        self.state = State::Preparing(preparing(&self.connection, self.line.readiness(), &self.span));
    }
}

fn preparing(connection: &Connection, readiness: Readiness, span: &Span) -> Preparing {
    let connection = connection.clone();
    Box::pin(async move { prepare::prepare(&connection, readiness).await }.instrument(span.clone()))
}
