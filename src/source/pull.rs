//! Taking messages from a durable consumer: never more than there is room for, and through anything that may
//! happen to the consumer, its stream, or the connection. A pull never ends because of one error; it says what
//! is wrong, and attaches again.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    attach::{ATTACH_WAIT_MIN, Attachment, LinkChanges, Place, PullSpec, Search, attach, link_changes},
    broker::{Broker, BrokerError, REQUEST_TIMEOUT},
    gaps::{GapCheck, Gaps, Progress},
    receipt::{Incoming, Lives},
    rescue::Rescued,
    wire::{self, AckInfo},
};
use crate::{failure_log::Sparing, message::Delivery};

/// A silence that lasts so much longer than a request tells that something is wrong although nothing said so.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);
/// Two connections lost within this time make a message suspect that the client cannot read.
const SUSPICION_WINDOW: Duration = Duration::from_secs(300);

/// After an outage of this length the broker is asked how far the consumer has come: the stream may have dropped
/// messages meanwhile.
const OUTAGE: Duration = Duration::from_secs(10);

/// Messages from one durable consumer.
pub struct Pull {
    broker: Arc<Broker>,
    spec: PullSpec,
    state: State,
    place: Place,
    lives: Lives,
    gaps: Gaps,
    attached: watch::Sender<bool>,
    last_reconnect: Option<Instant>,
    unasked: Sparing,
}

enum State {
    Attaching(JoinHandle<(PullSpec, Attachment)>),
    Attached(Attached),
}

struct Attached {
    subscription: Subscriber,
    inbox: String,
    link: LinkChanges,
    /// What open requests asked for and has not come yet.
    outstanding: usize,
    /// When the broker last said anything here.
    heard: Instant,
    /// Since when the connection is down, if it is.
    down_since: Option<Instant>,
    warned: bool,
    rescued: VecDeque<Rescued>,
}

/// What came over an attached pull's subscription.
enum Heard {
    Message(Message),
    Request(Ending),
    Disconnected,
    Reconnected,
    Closed,
}

/// How a request for messages went on.
enum Ending {
    StillOpen,
    /// It is over; so many of the messages it asked for did not come.
    Over(usize),
    /// All open requests are over.
    AllOver(String),
    /// The consumer cannot be pulled from as it is.
    Broken(String),
}

impl Pull {
    /// Starts to attach to the consumer of `spec`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, spec: PullSpec) -> Self {
        let place = Place::default();
        let lives = Lives::default();
        let attaching = attach(Arc::clone(&broker), spec.clone(), place, lives.clone(), Search::Skip);
        let state = State::Attaching(tokio::spawn(attaching));
        let gaps = Gaps::after(Progress::default());
        Self {
            broker,
            spec,
            state,
            place,
            lives,
            gaps,
            attached: watch::Sender::new(false),
            last_reconnect: None,
            unasked: Sparing::default(),
        }
    }

    /// Follows whether messages can come at present.
    #[must_use]
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.attached.subscribe()
    }

    /// The next message, with never more than `room` asked for at a time, and by one request no more than `bytes`
    /// unless a single message is larger. May be dropped and called again at any point without losing anything.
    pub async fn next(&mut self, room: usize, bytes: usize) -> Incoming {
        loop {
            let attached = match &mut self.state {
                State::Attached(attached) => attached,
                State::Attaching(task) => match task.await {
                    Ok((spec, attachment)) => {
                        self.spec = spec;
                        self.place = attachment.place;
                        let Attachment { handed_out, first_sequence, pending, .. } = attachment;
                        self.gaps.go_on_after(handed_out, first_sequence, pending);
                        self.attached.send_replace(true);
                        self.state = State::Attached(attachment.into());
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(%error, "attaching to the consumer ended; starting again");
                        self.reattach(Search::Skip);
                        continue;
                    }
                },
            };
            if let Some(rescued) = attached.rescued.pop_front() {
                let receipt = self.lives.receipt(&self.broker, rescued.reply);
                return Incoming { delivery: Delivery::fresh(rescued.message), receipt, handed_out: 1 };
            }
            if attached.outstanding == 0 && room == 0 {
                self.gaps.note_wait();
            }
            if let Err(error) = attached.ask_for(&self.broker, &self.spec, room, bytes).await {
                if let Some(unsaid) = self.unasked.line(Instant::now().into_std()) {
                    let consumer = &self.spec.consumer.name;
                    tracing::warn!(%error, consumer, unsaid, "cannot ask the broker for messages");
                }
                sleep(ATTACH_WAIT_MIN).await;
                continue;
            }
            match attached.hear().await {
                Heard::Message(message) => {
                    if let Some(incoming) = self.incoming(message).await {
                        return incoming;
                    }
                }
                Heard::Disconnected => attached.down_since = Some(Instant::now()),
                Heard::Reconnected => {
                    attached.outstanding = 0;
                    let now = Instant::now();
                    let last = self.last_reconnect.replace(now);
                    let down = attached.down_since.take().map(|since| now - since);
                    if last.is_some_and(|last| now - last < SUSPICION_WINDOW) {
                        self.reattach(Search::ForUnreadable);
                    } else if down.is_some_and(|down| down > OUTAGE) {
                        self.reattach(Search::Skip);
                    }
                }
                Heard::Request(Ending::StillOpen) => {}
                Heard::Request(Ending::Over(left)) => {
                    attached.outstanding = attached.outstanding.saturating_sub(left);
                }
                Heard::Request(Ending::AllOver(why)) => {
                    tracing::info!(consumer = self.spec.consumer.name, why, "asking for messages again");
                    attached.outstanding = 0;
                }
                Heard::Request(Ending::Broken(why)) => {
                    tracing::error!(consumer = self.spec.consumer.name, why, "cannot pull; attaching again");
                    self.reattach(Search::Skip);
                }
                Heard::Closed => self.reattach(Search::Skip),
            }
        }
    }

    /// Attaches again if the broker has been silent for too long although the connection stands. To be called
    /// every few seconds.
    pub fn watch_silence(&mut self) {
        let State::Attached(attached) = &mut self.state else { return };
        if attached.is_silent(&self.spec) && self.broker.is_connected() {
            tracing::error!(consumer = self.spec.consumer.name, "the broker is silent; attaching again");
            self.reattach(Search::Skip);
        }
    }

    /// What the broker should be asked about now, if anything: gaps that may be messages which the stream dropped.
    /// To be called every few seconds.
    pub fn check_gaps(&mut self) -> Option<GapCheck> {
        let gaps = self.gaps.take(Instant::now().into_std())?;
        Some(GapCheck::new(Arc::clone(&self.broker), Arc::clone(&self.spec.consumer.stream), gaps))
    }

    /// How many messages open requests still ask for.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        match &self.state {
            State::Attaching(_) => 0,
            State::Attached(attached) => attached.outstanding,
        }
    }

    /// Whether the consumer has handed out something that did not come here, or may have, since the last call. Known at the
    /// first message behind it: the consumer counts its hand-outs.
    pub fn take_elsewhere(&mut self) -> bool {
        self.gaps.take_elsewhere()
    }

    /// Ends the pull, and gives back what came after the last call of [`Self::next`].
    pub async fn close(mut self) {
        let State::Attached(attached) = &mut self.state else { return };
        if attached.subscription.drain().await.is_err() {
            return;
        }
        let broker = &self.broker;
        let give_back = async {
            while let Some(message) = attached.subscription.next().await {
                if let (None, Some(reply)) = (message.status, message.reply) {
                    let receipt = self.lives.receipt(broker, reply);
                    receipt.hand_back(Duration::ZERO).await;
                }
            }
        };
        if timeout(REQUEST_TIMEOUT, give_back).await.is_err() {
            tracing::debug!("the broker did not confirm the end of a subscription");
        }
    }

    fn reattach(&mut self, search: Search) {
        self.attached.send_replace(false);
        let (spec, lives) = (self.spec.clone(), self.lives.clone());
        let attaching = attach(Arc::clone(&self.broker), spec, self.place, lives, search);
        self.state = State::Attaching(tokio::spawn(attaching));
    }

    /// A message as a delivery; `None` for what is not for the target, which is acked.
    async fn incoming(&mut self, message: Message) -> Option<Incoming> {
        let reply = message.reply.clone()?;
        let info = AckInfo::parse(&reply)?;
        self.place.sequence = self.place.sequence.max(info.sequence + 1);
        self.gaps.note(&info);
        let handed_out = info.delivered;
        let message = wire::stored_message(message, &self.spec.consumer.stream, &info);
        let receipt = self.lives.receipt(&self.broker, reply.clone());
        if self.spec.wanted.iter().any(|pattern| pattern.matches(&message.subject)) {
            return Some(Incoming { delivery: Delivery::fresh(message), receipt, handed_out });
        }
        receipt.ack().await;
        None
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        if let State::Attaching(task) = &self.state {
            task.abort();
        }
    }
}

impl From<Attachment> for Attached {
    fn from(attachment: Attachment) -> Self {
        Self {
            subscription: attachment.subscription,
            inbox: attachment.inbox,
            link: attachment.link,
            outstanding: 0,
            heard: Instant::now(),
            down_since: None,
            warned: false,
            rescued: attachment.rescued.into(),
        }
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull").field("consumer", &self.spec.consumer).finish_non_exhaustive()
    }
}

impl Attached {
    /// Asks for what there is room for and was not asked for yet. Small remainders wait until they are worth a
    /// request, unless nothing is open.
    async fn ask_for(
        &mut self,
        broker: &Broker,
        spec: &PullSpec,
        room: usize,
        bytes: usize,
    ) -> Result<(), BrokerError> {
        let batch = room.saturating_sub(self.outstanding);
        if batch == 0 || (self.outstanding > 0 && batch < room.div_ceil(2)) {
            return Ok(());
        }
        let request = serde_json::json!({
            "batch": batch,
            "expires": nanos(spec.expires),
            "idle_heartbeat": nanos(spec.heartbeat()),
            "max_bytes": bytes.max(broker.max_payload()),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", spec.consumer.stream, spec.consumer.name);
        let publish =
            broker.client.publish_with_reply(subject, self.inbox.clone(), request.to_string().into());
        match timeout(REQUEST_TIMEOUT, publish).await {
            Ok(Ok(())) => {
                if self.outstanding == 0 {
                    self.heard = Instant::now();
                }
                self.outstanding += batch;
                Ok(())
            }
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    async fn hear(&mut self) -> Heard {
        let message = tokio::select! {
            biased;
            message = self.subscription.next() => message,
            mut connected = self.link.as_mut() => {
                let back = *connected.borrow_and_update();
                self.link = link_changes(connected);
                return if back { Heard::Reconnected } else { Heard::Disconnected };
            }
        };
        match message {
            None => Heard::Closed,
            Some(message) => self.sort(message),
        }
    }

    /// Whether the broker has been silent for so long that something must be wrong.
    fn is_silent(&mut self, spec: &PullSpec) -> bool {
        let silence = self.heard.elapsed();
        if self.outstanding == 0 || silence < 2 * spec.heartbeat() {
            return false;
        }
        if silence < spec.expires + SILENCE_MARGIN {
            if !self.warned {
                tracing::warn!(consumer = spec.consumer.name, "the broker misses its heartbeat");
            }
            self.warned = true;
            return false;
        }
        true
    }

    fn sort(&mut self, message: Message) -> Heard {
        self.heard = Instant::now();
        self.warned = false;
        match message.status {
            None => {
                self.outstanding = self.outstanding.saturating_sub(1);
                Heard::Message(message)
            }
            Some(status) => Heard::Request(ending(status, &message)),
        }
    }
}

/// What a status message says about the request that it answers (NATS ADR-37 and the server's own texts).
fn ending(status: StatusCode, message: &Message) -> Ending {
    let text = message.description.clone().unwrap_or_default();
    let left = || {
        let pending = message.headers.as_ref().and_then(|h| h.get("Nats-Pending-Messages"));
        pending.and_then(|value| value.as_str().parse().ok()).unwrap_or(usize::MAX)
    };
    let lower = text.to_ascii_lowercase();
    match status.as_u16() {
        100 => Ending::StillOpen,
        404 | 408 => Ending::Over(left()),
        409 if lower.contains("maxbytes") || lower.contains("batch completed") => Ending::Over(left()),
        409 if lower.contains("leadership") || lower.contains("shutdown") => Ending::AllOver(text),
        other => Ending::Broken(format!("{other} {text}").trim().to_owned()),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
