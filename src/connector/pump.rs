//! From a source to a target's courier: no more is taken than there is room for, and everything taken is run to
//! its end.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};

use super::{Readiness, START_WAIT_MAX, START_WAIT_MIN, open::OpenDeliveries};
use crate::{
    config::{self, InstanceName},
    delivery::Courier,
    metrics::TargetMetrics,
    source::{
        Broker, ConsumerSpec, GapCheck, Incoming, Position, Pull, PullSpec, Recovery, Subscription,
        TargetStream, ensure_source_streams, warn_of_limits,
    },
    target::{Start, TargetName},
};

/// Deliveries that may be open beyond a lane's permits: ones whose attempt is over and whose settling waits,
/// because a stream refuses them.
const UNSETTLED_FACTOR: usize = 2;
/// The most deliveries of a target that wait in memory when the source is core NATS.
const CORE_OPEN_MAX: usize = 10_000;

/// What the pumps of all targets need to find and make streams.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: InstanceName,
    pub(super) stream: config::Stream,
    /// The stream that was made or extended for all targets at this start, and the first sequence after that.
    pub(super) extended: Option<(Arc<str>, u64)>,
    /// Targets find their streams one after the other: two that make or extend the same one would collide.
    pub(super) turn: Arc<Mutex<()>>,
}

/// Delivers what the streams hold for a target until natshook drains.
pub(super) async fn from_streams(
    broker: Arc<Broker>,
    setup: Setup,
    courier: Arc<Courier>,
    readiness: Arc<Readiness>,
) {
    let found = watch::Sender::new(false);
    readiness.follow(format!("streams of target {}", courier.target.name), found.subscribe());
    let streams = tokio::select! {
        streams = find_streams(&broker, &setup, &courier) => streams,
        () = courier.ending.drain.cancelled() => return,
    };
    found.send_replace(true);
    let pumps: FuturesUnordered<_> = streams
        .into_iter()
        .map(|stream| {
            let pull = Pull::new(Arc::clone(&broker), pull_spec(&setup, &courier, &stream));
            let part = format!("consumer of target {} on stream {}", courier.target.name, stream.stream);
            readiness.follow(part, pull.attached());
            pump(pull, &courier)
        })
        .collect();
    pumps.collect::<()>().await;
}

async fn find_streams(broker: &Broker, setup: &Setup, courier: &Courier) -> Vec<TargetStream> {
    let mut wait = START_WAIT_MIN;
    loop {
        let target = &courier.target;
        let turn = setup.turn.lock().await;
        let found = ensure_source_streams(broker, &setup.name, &setup.stream, &target.subjects).await;
        drop(turn);
        match found {
            Ok(streams) => {
                for stream in &streams {
                    if let Err(error) = warn_of_limits(broker, &stream.stream, target).await {
                        tracing::debug!(%error, stream = %stream.stream, "the stream's limits are not known");
                    }
                }
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

fn pull_spec(setup: &Setup, courier: &Courier, stream: &TargetStream) -> PullSpec {
    let target = &courier.target;
    // Shared by all replicas.
    let max_ack_pending = (8 * target.concurrency.max().get()).max(1000);
    PullSpec {
        consumer: ConsumerSpec {
            stream: Arc::clone(&stream.stream),
            name: setup.name.consumer(target.name.as_str()),
            filters: stream.filters.iter().map(ToString::to_string).collect(),
            max_ack_pending: i64::try_from(max_ack_pending).unwrap_or(i64::MAX),
        },
        start: start(setup, target.start, stream),
        wanted: target.subjects.clone(),
        recovery: Recovery::Source { name: setup.name.clone(), settings: setup.stream.clone() },
    }
}

/// What a stream stored since natshook made it is new, although it is older than the consumer.
fn start(setup: &Setup, start: Start, stream: &TargetStream) -> Position {
    let at_this_start = setup.extended.as_ref().filter(|(extended, _)| *extended == stream.stream);
    match (start, stream.extended_at.or(at_this_start.map(|(_, first_new)| *first_new))) {
        (Start::New, Some(sequence)) => Position::At { sequence },
        _ => Position::Start(start),
    }
}

async fn pump(mut pull: Pull, courier: &Courier) {
    let mut open = OpenDeliveries::new();
    let mut ticks = OpenDeliveries::ticks();
    let mut draining = pin!(courier.ending.drain.cancelled());
    loop {
        // New deliveries take their permits here, and ended ones give theirs back, before anything is asked for.
        open.advance();
        let room = room(courier, &open);
        tokio::select! {
            biased;
            () = draining.as_mut() => break,
            incoming = pull.next(room) => {
                let receipt = incoming.receipt.clone();
                open.push(&receipt, payload_bytes(&incoming), courier.run(incoming));
            }
            () = open.one_ended() => {}
            _ = ticks.tick() => {
                open.report_progress().await;
                pull.watch_silence();
                if let Some(check) = pull.check_gaps() {
                    tokio::spawn(tell_of_dropped(check, courier.target.name.clone(), courier.metrics.clone()));
                }
            }
            () = breaker_moves(courier), if room == 0 => {}
        }
    }
    tokio::join!(pull.close(), open.finish(&courier.ending));
}

/// Says what is lost although natshook did nothing wrong: the promise holds for what the stream keeps.
async fn tell_of_dropped(check: GapCheck, target: TargetName, metrics: TargetMetrics) {
    match check.dropped().await {
        Ok(None) => {}
        Ok(Some(dropped)) => {
            metrics.source_dropped.inc_by(dropped.at_most);
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

/// How many messages may be taken now.
fn room(courier: &Courier, open: &OpenDeliveries<'_>) -> usize {
    courier.lane.room().min(open.room(UNSETTLED_FACTOR * courier.target.concurrency.max().get()))
}

async fn breaker_moves(courier: &Courier) {
    match courier.lane.closed_for() {
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
    name: InstanceName,
    courier: Arc<Courier>,
    readiness: Arc<Readiness>,
) {
    let subscribed = watch::Sender::new(false);
    readiness.follow(format!("subscription of target {}", courier.target.name), subscribed.subscribe());
    let target = &courier.target;
    let mut subscription = loop {
        let broker = Arc::clone(&broker);
        match Subscription::new(broker, &name, target.name.as_str(), target.subjects.clone()).await {
            Ok(subscription) => break subscription,
            Err(error) => tracing::error!(target = %target.name, %error, "cannot subscribe"),
        }
        sleep(START_WAIT_MAX).await;
    };
    subscribed.send_replace(true);
    let mut open = OpenDeliveries::new();
    loop {
        tokio::select! {
            biased;
            () = courier.ending.drain.cancelled() => break,
            () = open.one_ended() => {}
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
}

fn open_core<'a>(open: &mut OpenDeliveries<'a>, courier: &'a Courier, incoming: Incoming) {
    let receipt = incoming.receipt.clone();
    open.push(&receipt, payload_bytes(&incoming), courier.run(incoming));
}
