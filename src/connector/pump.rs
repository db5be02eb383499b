//! From a source to a target's courier: no more is taken than there is room for, and everything taken is run to
//! its end.

use std::{
    iter::{once, repeat_with},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};

use super::{
    START_WAIT_MAX, START_WAIT_MIN,
    open::OpenDeliveries,
    readiness::Readiness,
    space::{Part, Room, Space},
    survey::Survey,
};
use crate::{
    batch::Batcher,
    config::{self, InstanceName},
    delivery::Courier,
    metrics::TargetMetrics,
    source::{
        Broker, ConsumerSpec, GapCheck, Incoming, KnownStreams, Position, Pull, PullSpec, Recovery,
        Subscription, TargetStream, ensure_source_streams,
    },
    target::{Start, Target, TargetName},
};

/// Deliveries that may be open beyond a lane's permits: ones whose attempt is over and whose settling waits,
/// because a stream refuses them.
const UNSETTLED_FACTOR: usize = 2;
/// How many messages of a target may be with all its replicas, at least.
const ACK_PENDING_LEAST: usize = 1_000;
/// The most deliveries that a target with batches has open, unless two full batches are more: its requests times the
/// messages in each could be all that there is room for.
const BATCHED_OPEN_MAX: usize = 1_024;
/// The most deliveries of a target that wait in memory when the source is core NATS.
const CORE_OPEN_MAX: usize = 10_000;

/// What the pumps of all targets need to find and make streams.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: InstanceName,
    pub(super) stream: config::Stream,
    /// The streams that were found or made for all targets at this start.
    pub(super) known: Arc<KnownStreams>,
    /// Targets that have to look for theirs do so one after the other: two that make or extend the same one would collide.
    pub(super) turn: Arc<Mutex<()>>,
    /// Who asks what waits in the streams that were found.
    pub(super) survey: Survey,
    /// What all targets of its kind together may have open.
    pub(super) space: Space,
    /// When the target registered, if it did.
    pub(super) since: Option<SystemTime>,
}

/// Delivers what the streams hold for a target until natshook drains.
pub(super) async fn from_streams(
    broker: Arc<Broker>,
    setup: Setup,
    courier: Arc<Courier>,
    readiness: Readiness,
    part: Part,
) {
    let Some(streams) = streams(&broker, &setup, &courier, &readiness).await else { return };
    let parts = once(part).chain(repeat_with(|| setup.space.part()));
    let pumps: FuturesUnordered<_> = streams
        .into_iter()
        .zip(parts)
        .map(|(stream, part)| {
            let pull = Pull::new(Arc::clone(&broker), pull_spec(&setup, &courier, &stream));
            let place = format!("consumer of target {} on stream {}", courier.target.name, stream.stream);
            readiness.follow(place, pull.attached());
            // Boxed: the set has room for one more of its futures than there are.
            Box::pin(pump(pull, &courier, part))
        })
        .collect();
    pumps.collect::<()>().await;
}

/// The target's streams; `None` when natshook drains before they are found.
pub(super) async fn streams(
    broker: &Broker,
    setup: &Setup,
    courier: &Courier,
    readiness: &Readiness,
) -> Option<Vec<TargetStream>> {
    let found = watch::Sender::new(false);
    readiness.follow(format!("streams of target {}", courier.target.name), found.subscribe());
    let streams = tokio::select! {
        // Boxed: what is needed once must not make an idle target larger.
        streams = Box::pin(find_streams(broker, setup, courier)) => streams,
        () = courier.ending.drain.cancelled() => return None,
    };
    found.send_replace(true);
    setup.survey.follow(&courier.target.name, &streams);
    Some(streams)
}

async fn find_streams(broker: &Broker, setup: &Setup, courier: &Courier) -> Vec<TargetStream> {
    let target = &courier.target;
    if let Some(streams) = setup.known.of(&target.subjects) {
        setup.known.warn_of_limits(target, &streams);
        return streams;
    }
    let mut wait = START_WAIT_MIN;
    loop {
        let turn = setup.turn.lock().await;
        let found = ensure_source_streams(broker, &setup.name, &setup.stream, &target.subjects).await;
        drop(turn);
        match found {
            Ok((streams, known)) => {
                known.warn_of_limits(target, &streams);
                return streams;
            }
            Err(error) => tracing::error!(
                target = %target.name, %error, retry_in = %humantime::format_duration(wait),
                "cannot find the target's streams"
            ),
        }
        sleep(wait.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        wait = (wait * 2).min(START_WAIT_MAX);
    }
}

pub(super) fn pull_spec(setup: &Setup, courier: &Courier, stream: &TargetStream) -> PullSpec {
    let target = &courier.target;
    // Shared by all replicas.
    let max_ack_pending = (8 * at_a_time(target)).max(ACK_PENDING_LEAST);
    PullSpec {
        consumer: ConsumerSpec {
            stream: Arc::clone(&stream.stream),
            name: setup.name.consumer(target.name.as_str()),
            filters: stream.filters.iter().map(ToString::to_string).collect(),
            max_ack_pending: i64::try_from(max_ack_pending).unwrap_or(i64::MAX),
        },
        start: start(target.start, stream, setup.since),
        wanted: target.subjects.clone(),
        expires: PullSpec::EXPIRES,
        recovery: Recovery::Source { name: setup.name.clone(), settings: setup.stream.clone() },
    }
}

/// What a stream stored since natshook made it is new, although it is older than the consumer.
fn start(start: Start, stream: &TargetStream, since: Option<SystemTime>) -> Position {
    match (start, stream.extended_at) {
        (Start::New, Some(sequence)) => Position::At { sequence },
        (Start::New, None) => since.map_or(Position::Start(start), |time| Position::Since { time }),
        _ => Position::Start(start),
    }
}

async fn pump(mut pull: Pull, courier: &Courier, part: Part) {
    let mut open = OpenDeliveries::new(part);
    let mut ticks = open.ticks();
    let mut draining = pin!(courier.ending.drain.cancelled());
    loop {
        // New deliveries take their permits here, and ended ones give theirs back, before anything is asked for.
        open.advance();
        let room = room(courier, &mut open);
        tokio::select! {
            biased;
            () = draining.as_mut() => break,
            incoming = pull.next(room.messages, room.bytes) => {
                let receipt = incoming.receipt.clone();
                open.push(&receipt, payload_bytes(&incoming), courier.run(incoming));
            }
            () = open.one_ended() => {}
            _ = ticks.tick() => {
                courier.journal.sum_up();
                open.report_progress().await;
                pull.watch_silence();
                if let Some(check) = pull.check_gaps() {
                    tokio::spawn(tell_of_dropped(check, courier.target.name.clone(), courier.metrics.clone()));
                }
            }
            () = lane_moves(courier), if room.messages == 0 => {}
        }
    }
    Box::pin(async { tokio::join!(pull.close(), open.finish(&courier.ending)) }).await;
    courier.journal.close();
}

/// Says what is lost although natshook did nothing wrong: the promise holds for what the stream keeps.
pub(super) async fn tell_of_dropped(check: GapCheck, target: TargetName, metrics: TargetMetrics) {
    match check.dropped().await {
        Ok(None) => {}
        Ok(Some(dropped)) => {
            metrics.lost(dropped.at_most);
            tracing::error!(
                %target, stream = %dropped.stream, at_most = dropped.at_most,
                first_sequence = dropped.first_sequence, last_sequence = dropped.last_sequence,
                "the stream dropped messages before they could be delivered"
            );
        }
        Err(error) => tracing::warn!(
            %target, %error, "cannot learn whether the stream dropped messages before they could be delivered"
        ),
    }
}

/// What may be taken now: for each request that the lane has room for as many messages as go in one, without those that
/// wait for one already.
fn room(courier: &Courier, open: &mut OpenDeliveries<'_>) -> Room {
    let target = &courier.target;
    let waiting = courier.batcher.as_ref().map_or(0, Batcher::waiting);
    let wanted = (courier.lane.room() * target.per_request().get()).saturating_sub(waiting);
    open.room(UNSETTLED_FACTOR * at_a_time(target), wanted)
}

/// How many messages of a target are under way at a time.
fn at_a_time(target: &Target) -> usize {
    let (concurrency, per_request) = (target.concurrency.max().get(), target.per_request().get());
    match target.batch {
        None => concurrency,
        Some(_) => (concurrency * per_request).min(BATCHED_OPEN_MAX.max(2 * per_request) / UNSETTLED_FACTOR),
    }
}

pub(super) async fn lane_moves(courier: &Courier) {
    match courier.lane.closed_for() {
        None if courier.lane.is_paused() => courier.lane.moved().await,
        None => std::future::pending().await,
        Some(wait) => tokio::select! {
            () = sleep(wait.max(Duration::from_millis(1))) => {}
            () = courier.lane.moved() => {}
        },
    }
}

fn payload_bytes(incoming: &Incoming) -> usize {
    incoming.delivery.message.payload.len()
}

/// Delivers what comes by core NATS until natshook drains. Retries wait in memory; what comes while too many
/// wait is left to the client, which drops and reports what it cannot hold.
pub(super) async fn from_core(
    broker: Arc<Broker>,
    setup: Setup,
    courier: Arc<Courier>,
    readiness: Readiness,
) {
    let subscribed = watch::Sender::new(false);
    readiness.follow(format!("subscription of target {}", courier.target.name), subscribed.subscribe());
    let target = &courier.target;
    let mut subscription = loop {
        let broker = Arc::clone(&broker);
        match Subscription::new(broker, &setup.name, target.name.as_str(), target.subjects.clone()).await {
            Ok(subscription) => break subscription,
            Err(error) => tracing::error!(target = %target.name, %error, "cannot subscribe"),
        }
        sleep(START_WAIT_MAX).await;
    };
    subscribed.send_replace(true);
    let mut open = OpenDeliveries::new(setup.space.part());
    let mut ticks = open.ticks();
    loop {
        tokio::select! {
            biased;
            () = courier.ending.drain.cancelled() => break,
            () = open.one_ended() => {}
            _ = ticks.tick() => courier.journal.sum_up(),
            incoming = subscription.next(), if open.len() < CORE_OPEN_MAX => match incoming {
                Some(incoming) => open_core(&mut open, &courier, incoming),
                None => break,
            },
        }
    }
    // What the client has received already is delivered too: core NATS takes nothing back.
    subscription.close().await;
    while let Some(incoming) = subscription.next().await {
        open_core(&mut open, &courier, incoming);
    }
    open.finish(&courier.ending).await;
    courier.journal.close();
}

fn open_core<'a>(open: &mut OpenDeliveries<'a>, courier: &'a Courier, incoming: Incoming) {
    let receipt = incoming.receipt.clone();
    open.push(&receipt, payload_bytes(&incoming), courier.run(incoming));
}
