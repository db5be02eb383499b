//! What has to stand before anything is delivered: the connection, natshook's own streams and bucket, the source stream.
//! Decides nothing about any delivery.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{
    RunError, START_WAIT_MAX, START_WAIT_MIN,
    pauses::Pauses,
    readiness::Readiness,
    registry::{self as registered, Registered},
};
use crate::{
    config::{Connection, SourceKind, Storage},
    registry::Judge,
    source::{self, Broker, Bucket, Changes, KnownStreams, OwnStream, StreamRole, ensure_source_streams},
    subject::{Pattern, reduce},
    target::Target,
};

/// The longest that finding or making the source streams may hold up a start.
const STREAMS_LIMIT: Duration = Duration::from_secs(30);

/// natshook's own streams.
#[derive(Clone, Debug)]
pub(super) struct OwnStreams {
    pub(super) retry_queue: OwnStream,
    pub(super) dead_letters: OwnStream,
}

impl OwnStreams {
    fn new(broker: &Arc<Broker>, connection: &Connection) -> Self {
        let own = |role, storage: &Storage| {
            OwnStream::new(Arc::clone(broker), role, connection.instance.clone(), storage.clone())
        };
        Self {
            retry_queue: own(StreamRole::RetryQueue, &connection.retry_queue),
            dead_letters: own(StreamRole::DeadLetters, &connection.dead_letter),
        }
    }
}

/// All that stands when targets can start.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) broker: Arc<Broker>,
    pub(super) own: OwnStreams,
    pub(super) bucket: Bucket,
    /// What operators decided so far.
    pub(super) pauses: Pauses,
    /// How operators' decisions change from now on; with core NATS there are none.
    pub(super) decisions: Option<Changes>,
    /// The targets that registered, if any may, and how they change from now on; `None` when they are not known yet.
    pub(super) registered: Option<(Registered, Option<Changes>)>,
    /// The targets' streams.
    pub(super) streams: KnownStreams,
    /// What has to stand from now on.
    pub(super) readiness: Readiness,
}

/// Waits for the broker, checks what it can do, and makes what natshook needs there, however long that takes; `readiness`
/// tells how far it is.
///
/// # Errors
/// Waiting would not mend what is wrong.
pub(super) async fn prepare(connection: &Connection, readiness: Readiness) -> Result<Prepared, RunError> {
    let broker = Arc::new(connected(connection, &readiness).await?);
    let own = OwnStreams::new(&broker, connection);
    let bucket = Bucket::decisions(Arc::clone(&broker), &connection.instance, connection.state_replicas);
    let pauses = Pauses::default();
    if connection.source == SourceKind::Core {
        readiness.started();
        let (streams, registered) = (KnownStreams::default(), None);
        return Ok(Prepared { broker, own, bucket, pauses, decisions: None, registered, streams, readiness });
    }
    if !broker.is_at_least(2, 10) {
        return Err(RunError::OldServer(broker.version()));
    }
    has_jetstream(&broker).await?;
    make_own_streams(&own).await;
    let decisions = Some(read_decisions(&bucket, &pauses).await);
    let registered = read_registered(&broker, connection).await;
    let others = registered.as_ref().map(|(registered, _)| registered.targets()).unwrap_or_default();
    let targets = connection.own_targets().chain(others.iter().map(|(target, _)| target));
    let streams = source_streams(&broker, connection, targets).await;
    readiness.started();
    Ok(Prepared { broker, own, bucket, pauses, decisions, registered, streams, readiness })
}

/// Waits for the broker, however long it takes.
async fn connected(connection: &Connection, readiness: &Readiness) -> Result<Broker, RunError> {
    let mut wait = START_WAIT_MIN;
    loop {
        match source::connect(&connection.nats, &connection.instance).await {
            Ok(broker) => {
                tracing::info!(server = broker.version(), "connected to the broker");
                readiness.connected(broker.connected());
                return Ok(broker);
            }
            Err(error) if error.may_pass() => tracing::warn!(
                %error, retry_in = %humantime::format_duration(wait), "waiting for the broker"
            ),
            Err(error) => return Err(error.into()),
        }
        sleep(wait).await;
        wait = (wait * 2).min(START_WAIT_MAX);
    }
}

/// A broker that has just started may not have its JetStream up yet.
async fn has_jetstream(broker: &Broker) -> Result<(), RunError> {
    let mut tries_left = 3;
    while let Err(error) = broker.check_jetstream().await {
        tries_left -= 1;
        if tries_left == 0 && broker.is_connected() {
            return Err(RunError::NoJetStream(error.to_string()));
        }
        sleep(START_WAIT_MIN).await;
    }
    Ok(())
}

async fn make_own_streams(own: &OwnStreams) {
    let mut wait = START_WAIT_MIN;
    for stream in [&own.retry_queue, &own.dead_letters] {
        while let Err(error) = stream.ensure().await {
            tracing::error!(
                %error, stream = stream.name(), retry_in = %humantime::format_duration(wait),
                "cannot make natshook's own stream; nothing is delivered without it"
            );
            sleep(wait).await;
            wait = (wait * 2).min(START_WAIT_MAX);
        }
    }
}

/// A paused target must not be sent anything because natshook does not know yet that it is.
async fn read_decisions(bucket: &Bucket, pauses: &Pauses) -> Changes {
    let mut wait = START_WAIT_MIN;
    loop {
        match pauses.read(bucket).await {
            Ok(changes) => return changes,
            Err(error) => tracing::error!(
                %error, bucket = bucket.name(), retry_in = %humantime::format_duration(wait),
                "cannot read which targets are paused; nothing is delivered before that"
            ),
        }
        sleep(wait).await;
        wait = (wait * 2).min(START_WAIT_MAX);
    }
}

/// Reads once which targets registered. The others must not wait for it if that fails: it is tried again beside them.
async fn read_registered(
    broker: &Arc<Broker>,
    connection: &Connection,
) -> Option<(Registered, Option<Changes>)> {
    let (registry, judge) = connection.registry.as_ref().zip(Judge::new(connection))?;
    let bucket = Bucket::targets(Arc::clone(broker), &connection.instance, registry.replicas);
    let registered = Registered::new(bucket, judge);
    let changes = registered.read().await;
    let changes = changes.map_err(|error| registered::not_read(&error, START_WAIT_MIN)).ok();
    Some((registered, changes))
}

/// Finds or makes the stream for all targets at once, so that it is made with all its subjects, and so that the broker is
/// not asked by each of a thousand targets. A target whose streams are not known after this looks for them by itself, and
/// reports what is wrong.
pub(super) async fn source_streams<'a>(
    broker: &Broker,
    connection: &Connection,
    targets: impl Iterator<Item = &'a Target>,
) -> KnownStreams {
    let subjects: Vec<Pattern> = targets.flat_map(|target| target.subjects.iter().cloned()).collect();
    let subjects = reduce(&subjects);
    let found = ensure_source_streams(broker, &connection.instance, &connection.stream, &subjects);
    match timeout(STREAMS_LIMIT, found).await {
        Ok(Ok((_, known))) => known,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the targets' subjects have no streams yet");
            KnownStreams::default()
        }
        Err(_) => KnownStreams::default(),
    }
}
