//! One connection to the broker and everything that runs over it: the targets, the way back from the retry queue, and
//! what answers people. Targets come and go while it lives; another connection makes another generation.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::Instrument;

use super::{
    LAST_WORDS, RunError, answers,
    batches::Batches,
    handshakes,
    line::Line,
    ordered::{self, Office, OrderedTarget},
    pauses::Pauses,
    prepare::{self, OwnStreams, Prepared},
    pump,
    readiness::Readiness,
    registrar::Registrar,
    registry::Registered,
    reload::TargetChanges,
    retries,
    space::Space,
    survey::Survey,
};
use crate::{
    batch::{AnswerRule, Batcher, batcher},
    config::{Connection, SourceKind},
    dead_letter::DeadLetters,
    delivery::{Courier, Ending},
    journal::Journal,
    lane::Lane,
    replies::Replies,
    request::Template,
    retry_queue::RetryQueue,
    sender::{BODY_READ_MAX, HttpClient, Sender},
    shaper::Shaper,
    source::{Broker, Bucket, Changes, KnownStreams},
    status::TargetStatus,
    target::{Target, TargetName},
    trace::Tracer,
};

/// How a task ended.
enum Ended {
    /// It was told to.
    Told,
    /// By itself, which none does.
    Untold,
}

/// What a generation uses that is the process's.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) http: HttpClient,
    pub(super) tracer: Tracer,
    /// How many files and connections it may have open.
    pub(super) open_files: u64,
}

/// A running natshook on one connection.
#[derive(Debug)]
pub(super) struct Generation {
    line: Line,
    pauses: Pauses,
    /// The targets that registered, if any may.
    registered: Option<Registered>,
    readiness: Readiness,
    broker: Arc<Broker>,
    bucket: Bucket,
    own: OwnStreams,
    http: HttpClient,
    tracer: Tracer,
    survey: Survey,
    space: Space,
    /// Targets with batches have a space of their own: one of them that is sick holds as much as many others.
    batch_space: Space,
    tasks: JoinSet<Ended>,
    /// How each target's tasks are told to end.
    targets: BTreeMap<TargetName, Ending>,
    /// How everything else is.
    rest: Ending,
}

impl Generation {
    /// Starts everything that `connection` says, over what is prepared.
    pub(super) fn start(connection: &Connection, prepared: Prepared, line: Line, means: Means) -> Self {
        let Means { http, tracer, open_files } = means;
        let Prepared { broker, own, bucket, pauses, decisions, registered, streams, readiness } = prepared;
        line.connected(connection, &broker, bucket.clone(), pauses.clone(), readiness.clone());
        forget_others(&line, connection);
        let mut generation = Self {
            line,
            pauses,
            registered: registered.as_ref().map(|(registered, _)| registered.clone()),
            readiness,
            broker,
            bucket: bucket.clone(),
            own,
            http,
            tracer,
            survey: Survey::default(),
            space: Space::new(open_files),
            batch_space: Space::new(open_files),
            tasks: JoinSet::new(),
            targets: BTreeMap::new(),
            rest: Ending::default(),
        };
        generation.start_targets(connection, connection.targets.iter(), streams);
        // The retry queue has a space of its own: what sick targets hold of the others' must not keep it from those who are well.
        generation.start_rest(connection, &Space::new(open_files));
        if let Some(changes) = decisions {
            generation.follow_decisions(bucket, changes);
        }
        if let Some((registered, changes)) = registered {
            generation.serve_registry(connection, registered, changes);
        }
        generation
    }

    /// The server's version, as it calls itself.
    pub(super) fn server(&self) -> String {
        self.broker.version()
    }

    /// Starts what has changed, and lets what was there before end its work: until then both take from the same
    /// consumer, as replicas do.
    pub(super) async fn change_targets(
        &mut self,
        connection: &Connection,
        changes: &TargetChanges,
        grace_period: Duration,
    ) {
        for name in changes.removed.iter().chain(&changes.changed) {
            if let Some(ending) = self.targets.remove(name) {
                end_within(ending, grace_period);
            }
        }
        changes.removed.iter().for_each(|name| self.survey.forget(name));
        forget_others(&self.line, connection);
        let names: HashSet<&TargetName> = changes.added.iter().chain(&changes.changed).collect();
        let started = || connection.targets.iter().filter(|target| names.contains(&target.name));
        let streams = match connection.source {
            SourceKind::JetStream if names.is_empty() => KnownStreams::default(),
            SourceKind::JetStream => prepare::source_streams(&self.broker, connection, started()).await,
            SourceKind::Core => KnownStreams::default(),
        };
        self.start_targets(connection, started(), streams);
    }

    /// The targets that registered, if any may.
    pub(super) fn registered(&self) -> Option<Registered> {
        self.registered.clone()
    }

    fn start_targets<'a>(
        &mut self,
        connection: &Connection,
        targets: impl Iterator<Item = &'a Target>,
        streams: KnownStreams,
    ) {
        self.space.fit(connection.targets.iter().map(|t| t.concurrency.max().get()).max().unwrap_or(0));
        let mut setup = pump::Setup {
            name: connection.instance.clone(),
            stream: connection.stream.clone(),
            known: Arc::new(streams),
            turn: Arc::default(),
            survey: self.survey.clone(),
            space: self.space.clone(),
            since: None,
        };
        let mut unordered = Vec::new();
        for target in targets {
            let ending = Ending::default();
            setup.space = if target.batch.is_some() { &self.batch_space } else { &self.space }.clone();
            let (batcher, joined) = target.batch.as_ref().map(batcher).unzip();
            let courier = Arc::new(self.courier(connection, target, &ending, batcher));
            if let Some(pause) = self.pauses.get(target.name.as_str()) {
                courier.lane.set_pause(pause);
            }
            self.line.couriers().put(Arc::clone(&courier));
            self.targets.insert(target.name.clone(), ending.clone());
            let batches = target.batch.clone().zip(joined);
            let batches =
                batches.map(|(batching, joined)| Batches::new(Arc::clone(&courier), batching, joined));
            if let Some(handshake) = target.handshake.clone() {
                self.spawn(handshakes::keep(Arc::clone(&courier), handshake), ending.clone());
            }
            let broker = Arc::clone(&self.broker);
            setup.since = connection.registered.get(&target.name).copied();
            // Whoever registers a target whose subjects no stream can hold must not make replicas look unwell.
            let readiness = if setup.since.is_some() { Readiness::default() } else { self.readiness.clone() };
            courier.status.note_order(None);
            match (connection.source, &target.order) {
                (SourceKind::JetStream, Some(order)) => {
                    let (setup, office, order) = (setup.clone(), self.office(), order.clone());
                    let ordered = OrderedTarget { broker, setup, office, courier, order, readiness };
                    self.spawn(ordered.run(), ending);
                }
                (SourceKind::JetStream, None) => {
                    unordered.push(Arc::clone(&courier));
                    // All parts are there before the first target asks for anything.
                    let part = setup.space.part();
                    let pump = pump::from_streams(broker, setup.clone(), courier, readiness, part);
                    self.spawn_pump(pump, batches, ending);
                }
                (SourceKind::Core, _) => {
                    let pump = pump::from_core(broker, setup.clone(), courier, readiness);
                    self.spawn_pump(pump, batches, ending);
                }
            }
        }
        if !unordered.is_empty() {
            self.move_leftovers(connection, unordered);
        }
    }

    fn office(&self) -> Office {
        Office {
            bucket: self.bucket.clone(),
            releases: self.pauses.releases().clone(),
            retry_queue: self.own.retry_queue.clone(),
        }
    }

    fn move_leftovers(&mut self, connection: &Connection, unordered: Vec<Arc<Courier>>) {
        let (broker, name, drain) =
            (Arc::clone(&self.broker), connection.instance.clone(), self.rest.drain.clone());
        let moving = ordered::move_leftovers(broker, name, self.office(), unordered);
        self.tasks.spawn(async move {
            tokio::select! {
                () = moving => {}
                () = drain.cancelled() => {}
            }
            Ended::Told
        });
    }

    /// A target's own source, and beside it, where there are batches, what sends them.
    fn spawn_pump(
        &mut self,
        pump: impl Future<Output = ()> + Send + 'static,
        batches: Option<Batches>,
        ending: Ending,
    ) {
        let Some(batches) = batches else { return self.spawn(pump, ending) };
        let over = batches.over();
        let pump = async move {
            pump.await;
            over.cancel();
        };
        self.spawn(pump, ending.clone());
        self.spawn(batches.run(), ending);
    }

    fn courier(
        &self,
        connection: &Connection,
        target: &Target,
        ending: &Ending,
        batcher: Option<Batcher>,
    ) -> Courier {
        let (retry_queue, dead_letters) = match connection.source {
            SourceKind::JetStream => (
                RetryQueue::Stream(self.own.retry_queue.clone()),
                DeadLetters::Stream(self.own.dead_letters.clone()),
            ),
            SourceKind::Core => (
                RetryQueue::Memory,
                DeadLetters::Plain { broker: Arc::clone(&self.broker), name: connection.instance.clone() },
            ),
        };
        let before = self.line.couriers().get(target.name.as_str());
        let replies = target
            .reply
            .is_some()
            .then(|| Replies::new(Arc::clone(&self.broker), connection.instance.clone(), connection.source));
        Courier {
            template: Template::new(target),
            shaper: target.shape.clone().map(Shaper::new),
            sender: sender(&self.http, target),
            replies,
            lane: Lane::new(target),
            batcher,
            retry_queue,
            dead_letters,
            metrics: self.line.metrics().target(&target.name),
            journal: Journal::new(&target.name),
            tracer: self.tracer.target(target),
            // What is known of a target outlives a change of it.
            status: before.map_or_else(|| Arc::new(TargetStatus::default()), |before| before.status.clone()),
            ending: ending.clone(),
            target: target.clone(),
        }
    }

    fn start_rest(&mut self, connection: &Connection, retry_space: &Space) {
        let (broker, line) = (Arc::clone(&self.broker), self.line.clone());
        let rest = self.rest.clone();
        self.spawn_until_drain(answers::answer(Arc::clone(&broker), line.clone()));
        if connection.source == SourceKind::JetStream {
            let couriers = line.couriers().clone();
            let retries = retries::Retries::new(
                Arc::clone(&broker),
                &connection.instance,
                &self.own,
                (couriers.clone(), self.registered.clone()),
                line.metrics().clone(),
                retry_space.part(),
                rest.clone(),
            );
            self.readiness.follow("retry queue", retries.attached());
            self.spawn(retries.run(), rest);
            self.spawn_until_drain(self.survey.clone().run(broker, connection.instance.clone(), couriers));
        }
    }

    fn follow_decisions(&mut self, bucket: Bucket, changes: Changes) {
        let pauses = self.pauses.clone();
        let couriers = self.line.couriers().clone();
        self.spawn_until_drain(pauses.follow(Arc::clone(&self.broker), bucket, couriers, changes));
    }

    fn serve_registry(&mut self, connection: &Connection, registered: Registered, changes: Option<Changes>) {
        self.readiness.follow("registered targets", registered.known());
        let registrar = Registrar::new(
            Arc::clone(&self.broker),
            &connection.instance,
            self.line.clone(),
            registered.clone(),
        );
        self.spawn_until_drain(registered.follow(Arc::clone(&self.broker), changes));
        self.spawn_until_drain(registrar.serve());
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static, ending: Ending) {
        let task = async move {
            work.await;
            if ending.drain.is_cancelled() { Ended::Told } else { Ended::Untold }
        };
        self.tasks.spawn(task.in_current_span());
    }

    /// For work that never ends and has nothing to hand back.
    fn spawn_until_drain(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let drain = self.rest.drain.clone();
        let task = async move {
            tokio::select! {
                () = work => Ended::Untold,
                () = drain.cancelled() => Ended::Told,
            }
        };
        self.tasks.spawn(task.in_current_span());
    }

    /// Resolves when a task has ended that was not told to. natshook ends rather than run without it: whoever started it
    /// starts it again.
    pub(super) async fn defect(&mut self) -> RunError {
        let cause = loop {
            match self.tasks.join_next().await {
                Some(Ok(Ended::Told)) => {}
                Some(Ok(Ended::Untold)) | None => break "it returned".to_owned(),
                Some(Err(error)) => break error.to_string(),
            }
        };
        tracing::error!(cause, "a task of natshook ended");
        RunError::Defect(cause)
    }

    /// Takes nothing new, lets what is under way end within `grace_period`, hands back the rest, and flushes.
    pub(super) async fn drain(mut self, grace_period: Duration) {
        let endings: Vec<Ending> = self.targets.into_values().chain([self.rest]).collect();
        endings.iter().for_each(|ending| ending.drain.cancel());
        let tasks = &mut self.tasks;
        if timeout(grace_period, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("the grace period is over; handing back what is left");
            endings.iter().for_each(|ending| ending.abandon.cancel());
            let ended = async { while tasks.join_next().await.is_some() {} };
            if timeout(LAST_WORDS, ended).await.is_err() {
                tracing::warn!("not everything could be handed back; the broker hands it out again");
            }
        }
        if let Err(error) = self.broker.flush().await {
            tracing::warn!(%error, "the last acks may not have reached the broker; some messages may come again");
        }
    }
}

/// Keeps as much of answers as somebody looks at.
fn sender(http: &HttpClient, target: &Target) -> Sender {
    let sender = Sender::new(http, target);
    // One more than is published, to know whether there is more.
    let replied = target.reply.as_ref().map(|reply| reply.max_body_bytes + 1);
    let judged = match target.batch.as_ref().map(|batching| &batching.answer) {
        None | Some(AnswerRule::Whole) => None,
        Some(AnswerRule::MultiStatus | AnswerRule::Failed { .. }) => Some(BODY_READ_MAX),
    };
    match replied.max(judged) {
        Some(bytes) => sender.keeping(bytes),
        None => sender,
    }
}

/// Nobody serves or shows a target that `connection` does not have, whatever had it before.
fn forget_others(line: &Line, connection: &Connection) {
    let names: HashSet<&TargetName> = connection.targets.iter().map(|target| &target.name).collect();
    for courier in line.couriers().all() {
        let name = &courier.target.name;
        if !names.contains(name) {
            line.couriers().remove(name);
            tracing::info!(target = %name, "target removed");
        }
    }
}

/// Drains what was told to end by a change: it has as long as at the end of natshook.
fn end_within(ending: Ending, grace_period: Duration) {
    ending.drain.cancel();
    tokio::spawn(async move {
        sleep(grace_period).await;
        ending.abandon.cancel();
    });
}
