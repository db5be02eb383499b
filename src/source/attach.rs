//! Attaching to a durable consumer: finding or making its stream and itself again, where it had come to, and
//! subscribing to what it sends. Goes on until it succeeds, and says what is in the way.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Subscriber,
    jetstream::{consumer, stream},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    broker::{Broker, BrokerError, REQUEST_TIMEOUT},
    consumer::{ConsumerSpec, Position},
    gaps::Progress,
    own_stream::OwnStream,
    receipt::Lives,
    rescue::{self, Rescued},
    streams,
};
use crate::{
    config::{self, InstanceName},
    subject::Pattern,
    target::Start,
};

/// The first wait between two attempts to attach.
pub(super) const ATTACH_WAIT_MIN: Duration = Duration::from_millis(250);
const ATTACH_WAIT_MAX: Duration = Duration::from_secs(15);

/// How many pulls attach at a time: the broker answers no faster when it is asked more, and drops questions when too many
/// wait.
pub(super) const ATTACHES_MAX: usize = 64;
/// An attaching that takes longer lets the next one begin: one stream that does not answer must not hold up the others.
const TURN_MAX: Duration = Duration::from_secs(1);

/// What a pull takes from, and how it finds it again.
#[derive(Clone, Debug)]
pub struct PullSpec {
    /// The consumer.
    pub consumer: ConsumerSpec,
    /// Where a consumer that was never there begins.
    pub start: Position,
    /// What the target asked for; the consumer's filters may match more.
    pub wanted: Vec<Pattern>,
    /// How long the broker keeps one request for messages open. Whoever stops without a word is sent messages for so long.
    pub expires: Duration,
    /// What may be done when the stream is gone.
    pub recovery: Recovery,
}

impl PullSpec {
    /// What `expires` is unless there is a reason.
    pub const EXPIRES: Duration = Duration::from_secs(30);

    /// How often the broker shows that a request is still open: as seldom as it allows.
    pub(super) fn heartbeat(&self) -> Duration {
        self.expires / 2
    }
}

/// What is done when the stream of a pull is gone.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// Find or make a stream that holds the wanted subjects.
    Source {
        /// Whose.
        name: InstanceName,
        /// The stream that may be made.
        settings: config::Stream,
    },
    /// Make the retry queue again.
    RetryQueue(OwnStream),
}

/// Whether attaching looks for messages that the client cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Skip,
    ForUnreadable,
}

/// How far a pull has come, so that it can go on in a consumer that had to be made again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Unix nanoseconds of the stream's creation: another stream of the same name counts anew.
    pub(super) stream_created: i128,
    /// The first sequence that may not have been settled; 0 before the first attaching.
    pub(super) sequence: u64,
}

/// What attaching came to.
pub(super) struct Attachment {
    pub(super) subscription: Subscriber,
    /// Where the broker is asked to send messages.
    pub(super) inbox: String,
    /// Resolves when the connection has been lost or made again.
    pub(super) link: LinkChanges,
    pub(super) place: Place,
    /// What the consumer has handed out so far.
    pub(super) handed_out: Progress,
    /// Where the stream began just before.
    pub(super) first_sequence: u64,
    /// Whether messages wait in the stream.
    pub(super) pending: bool,
    /// Messages that the client cannot read and that were read another way.
    pub(super) rescued: Vec<Rescued>,
}

/// See [`link_changes`].
pub(super) type LinkChanges = Pin<Box<dyn Future<Output = watch::Receiver<bool>> + Send>>;

/// Tries until there is a consumer and a subscription for what it sends.
pub(super) async fn attach(
    broker: Arc<Broker>,
    mut spec: PullSpec,
    place: Place,
    lives: Lives,
    search: Search,
) -> (PullSpec, Attachment) {
    let mut wait = ATTACH_WAIT_MIN;
    loop {
        match attach_in_turn(&broker, &mut spec, place, &lives, search).await {
            Ok(attached) => return (spec, attached),
            Err(error) => {
                tracing::error!(
                    %error, stream = %spec.consumer.stream, consumer = spec.consumer.name,
                    retry_in = %humantime::format_duration(wait), "cannot attach to the consumer"
                );
            }
        }
        sleep(wait.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        wait = (wait * 2).min(ATTACH_WAIT_MAX);
    }
}

async fn attach_in_turn(
    broker: &Broker,
    spec: &mut PullSpec,
    place: Place,
    lives: &Lives,
    search: Search,
) -> Result<Attachment, BrokerError> {
    // The semaphore is never closed.
    let turn = broker.attaching.acquire().await;
    let mut attaching = pin!(attach_once(broker, spec, place, lives, search));
    match timeout(TURN_MAX, attaching.as_mut()).await {
        Ok(attached) => attached,
        Err(_) => {
            drop(turn);
            attaching.await
        }
    }
}

async fn attach_once(
    broker: &Broker,
    spec: &mut PullSpec,
    place: Place,
    lives: &Lives,
    search: Search,
) -> Result<Attachment, BrokerError> {
    let (created, first_sequence) = stream_now(broker, spec).await?;
    let first_time = place.sequence == 0;
    // Before there is a consumer which an ack of an old message could reach.
    if !first_time && place.stream_created != created {
        lives.begin_another();
    }
    let position = match place {
        _ if first_time => spec.start,
        // A work queue holds only what is not settled.
        _ if matches!(spec.recovery, Recovery::RetryQueue(_)) => Position::Start(Start::All),
        Place { stream_created, sequence } if stream_created == created => Position::At { sequence },
        _ => Position::Start(Start::All),
    };
    if !first_time && spec.consumer.find(broker).await?.is_none() {
        tracing::error!(
            consumer = spec.consumer.name,
            ?position,
            "the durable consumer vanished; making it again where it had come to"
        );
    }
    let info = spec.consumer.ensure(broker, position).await?;
    let rescued = match search {
        Search::Skip => Vec::new(),
        Search::ForUnreadable => rescue::unreadable_messages(broker, &spec.consumer, &info).await?,
    };
    let mut connected = broker.connected();
    connected.mark_unchanged();
    let inbox = broker.client.new_inbox();
    let subscribed = timeout(REQUEST_TIMEOUT, broker.client.subscribe(inbox.clone())).await;
    let subscription = match subscribed {
        Ok(Ok(subscription)) => subscription,
        Ok(Err(error)) => return Err(BrokerError::Refused(error.to_string())),
        Err(_) => return Err(BrokerError::TimedOut),
    };
    let settled = info.ack_floor.stream_sequence + 1;
    let sequence = if place.stream_created == created { place.sequence.max(settled) } else { settled };
    let handed_out = handed_out(&info, (!first_time && place.stream_created == created).then_some(place));
    let place = Place { stream_created: created, sequence };
    Ok(Attachment {
        subscription,
        inbox,
        link: link_changes(connected),
        place,
        handed_out,
        first_sequence,
        pending: info.num_pending > 0,
        rescued,
    })
}

/// How far the consumer has come. One that was made again says that it has come to the stream's beginning, even
/// where that lies after the place at which it was to go on.
fn handed_out(info: &consumer::Info, before: Option<Place>) -> Progress {
    let (consumer, stream) = (info.delivered.consumer_sequence, info.delivered.stream_sequence);
    match before {
        Some(place) if consumer == 0 => {
            Progress { consumer, stream: stream.min(place.sequence.saturating_sub(1)) }
        }
        _ => Progress { consumer, stream },
    }
}

/// When the stream was made, in Unix nanoseconds, and where it begins; if it is gone, it is made or found again
/// first.
async fn stream_now(broker: &Broker, spec: &mut PullSpec) -> Result<(i128, u64), BrokerError> {
    let now = |info: stream::Info| (info.created.unix_timestamp_nanos(), info.state.first_sequence);
    if let Some(info) = streams::find(broker, &spec.consumer.stream).await? {
        return Ok(now(info));
    }
    tracing::error!(stream = %spec.consumer.stream, "the stream is gone; making or finding another");
    recover_stream(broker, spec).await?;
    match streams::find(broker, &spec.consumer.stream).await? {
        Some(info) => Ok(now(info)),
        None => Err(BrokerError::NoStream(spec.consumer.stream.to_string())),
    }
}

async fn recover_stream(broker: &Broker, spec: &mut PullSpec) -> Result<(), BrokerError> {
    match &spec.recovery {
        Recovery::Source { name, settings } => {
            let (found, _) = streams::ensure_source_streams(broker, name, settings, &spec.wanted).await?;
            let kept = found.iter().find(|s| s.stream == spec.consumer.stream).or(found.first());
            if let Some(stream) = kept {
                spec.consumer.stream = Arc::clone(&stream.stream);
                spec.consumer.filters = stream.filters.iter().map(ToString::to_string).collect();
            }
            Ok(())
        }
        Recovery::RetryQueue(stream) => stream.ensure().await,
    }
}
/// Waits for the connection to be lost or made again; one future for all waits, instead of one for each message.
pub(super) fn link_changes(mut connected: watch::Receiver<bool>) -> LinkChanges {
    Box::pin(async move {
        if connected.changed().await.is_err() {
            // The connection was closed for good, which the subscription tells.
            std::future::pending::<()>().await;
        }
        connected
    })
}
