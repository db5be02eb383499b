//! The connection to the broker, and publishing through it. Every await that touches the broker has a time
//! limit here: while disconnected, the client's queue fills and then blocks.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use async_nats::{
    Client, Subject,
    jetstream::{self, ErrorCode, response::Response},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{attach::ATTACHES_MAX, silence::Silence, wire};
use crate::{failure_log::Sparing, message::Headers};

/// The longest that anything asked of the broker may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a command waits for a server that says that its cluster has no leaders at the moment. Longer than
/// the patience with one that says nothing, so that a server which stays without is left for another.
const LEADERS_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often it asks again meanwhile.
const LEADERS_WAIT: Duration = Duration::from_millis(500);

/// How often the client is told to connect to another server before the present one is taken as it is.
const MOVES_MAX: usize = 8;

/// How many refusals by the broker's permissions are remembered, to explain time-outs.
const DENIALS_MAX: usize = 32;

/// A connection to the broker.
pub struct Broker {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    denials: Arc<Denials>,
    connected: watch::Receiver<bool>,
    silence: Mutex<Silence>,
    lost_acks: Mutex<Sparing>,
    /// The right to attach to a consumer.
    pub(super) attaching: Semaphore,
    /// Set when this is dropped; the client itself lives on while it looks for a server.
    over: Arc<AtomicBool>,
    /// How long a question is asked again while there are no leaders to answer it.
    leaders_wait: Duration,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}

/// Why the broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It did not answer in time.
    #[error("the broker did not answer within {}", humantime::format_duration(REQUEST_TIMEOUT))]
    TimedOut,
    /// The account's permissions forbid it.
    #[error("the broker's permissions forbid it ({0}); grant it to natshook's account")]
    Denied(String),
    /// The stream is not there.
    #[error("stream {0} does not exist")]
    NoStream(String),
    /// The client or the broker refused.
    #[error("{0}")]
    Refused(String),
}

/// Where a published message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The stream.
    pub stream: String,
    /// The sequence in it.
    pub sequence: u64,
    /// Whether the stream held a message with this id already and did not store another.
    pub duplicate: bool,
}

/// Why a message was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Payload and headers together are larger than the server takes.
    #[error(
        "{bytes} bytes with headers are more than the server's max_payload of {max_payload}; raise it there"
    )]
    TooLarge {
        /// Payload and headers.
        bytes: usize,
        /// The server's limit.
        max_payload: usize,
    },
    /// More headers than a stream takes, whatever the payload.
    #[error("{bytes} bytes of headers are more than the {HEADER_BYTES_MAX} that a stream takes")]
    TooManyHeaders {
        /// Their bytes.
        bytes: usize,
    },
    /// No stream has the subject.
    #[error("no stream has the subject {0}")]
    NoStream(String),
    /// Anything else, such as a full stream.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The most bytes of headers that a stream takes with a message: the server keeps their length in 16 bits, and refuses
/// more with its error 10097.
pub(super) const HEADER_BYTES_MAX: usize = 65_535;

/// The latest refusals by permissions. The broker reports them apart from the request that they answer, which
/// itself only times out.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<Vec<String>>);

impl Denials {
    pub(super) fn note(&self, text: &str) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|known| known != text);
        texts.push(text.to_owned());
        if texts.len() > DENIALS_MAX {
            texts.remove(0);
        }
    }

    fn about(&self, subject: &str) -> Option<String> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.iter().rev().find(|text| text.contains(&format!("\"{subject}\""))).cloned()
    }
}

impl Broker {
    pub(super) fn new(
        client: Client,
        denials: Arc<Denials>,
        connected: watch::Receiver<bool>,
        over: Arc<AtomicBool>,
    ) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let (silence, lost_acks) = (Mutex::new(Silence::NONE), Mutex::default());
        let attaching = Semaphore::new(ATTACHES_MAX);
        Self {
            client,
            jetstream,
            denials,
            connected,
            silence,
            lost_acks,
            attaching,
            over,
            leaders_wait: Duration::ZERO,
        }
    }

    /// The same for a command, which asks once and ends: for a while it waits for a cluster that has no leaders, as after a
    /// fault or while a server comes back. What runs for long asks again by itself.
    #[must_use]
    pub fn for_command(mut self) -> Self {
        self.leaders_wait = LEADERS_WAIT_MAX;
        self
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Follows whether the connection stands.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Resolves when the connection has been made again after it was lost, or for the first time.
    pub fn reconnected(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut connected = self.connected();
        connected.mark_unchanged();
        async move {
            while connected.changed().await.is_ok() {
                if *connected.borrow_and_update() {
                    return;
                }
            }
            // The connection was closed for good.
            std::future::pending().await
        }
    }

    /// How often the connection was made again after it was lost.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The server's version, as it calls itself.
    #[must_use]
    pub fn version(&self) -> String {
        self.client.server_info().version
    }

    /// Whether the server is at least `major.minor`.
    #[must_use]
    pub fn is_at_least(&self, major: i64, minor: i64) -> bool {
        self.client.is_server_compatible(major, minor, 0)
    }

    /// The largest message, headers included, that the server takes, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the account has JetStream.
    ///
    /// # Errors
    /// What the broker says when it has not, or why it could not be asked.
    pub async fn check_jetstream(&self) -> Result<(), BrokerError> {
        let answer = self.jetstream.query_account().await;
        answer.map(|_| ()).map_err(|error| self.explain("$JS.API.INFO", &error))
    }

    /// Whether it may be said now that an ack was lost, and if so, of how many it was not: while the broker is away
    /// each open delivery loses one.
    pub(super) fn may_tell_of_a_lost_ack(&self) -> Option<u64> {
        self.lost_acks.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now())
    }

    /// Publishes without waiting for anybody to store it.
    ///
    /// # Errors
    /// The client's queue is full, or closed.
    pub async fn publish_plain(&self, subject: Subject, payload: Bytes) -> Result<(), BrokerError> {
        let mut publish = pin!(self.client.publish(subject, payload));
        // Nearly always there is room in the client's queue, and a time limit would be set up for nothing.
        let published = match poll_fn(|context| Poll::Ready(publish.as_mut().poll(context))).await {
            Poll::Ready(published) => Ok(published),
            Poll::Pending => timeout(REQUEST_TIMEOUT, publish).await,
        };
        match published {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    /// Publishes what somebody has to confirm, and waits for that.
    ///
    /// # Errors
    /// Nobody has confirmed it in time.
    pub(super) async fn confirm(&self, subject: &Subject, word: &'static [u8]) -> Result<(), BrokerError> {
        let request = self.client.request(subject.clone(), Bytes::from_static(word));
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    /// [`Self::publish_plain`] with headers.
    ///
    /// # Errors
    /// The client's queue is full, or closed.
    pub async fn publish(&self, subject: &str, headers: &Headers, payload: Bytes) -> Result<(), BrokerError> {
        let subject = Subject::from(subject);
        let publish = self.client.publish_with_headers(subject, wire::header_map(headers), payload);
        match timeout(REQUEST_TIMEOUT, publish).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    /// Whether the server takes a message with these headers and a payload of so many bytes. It closes the connection of
    /// whoever sends it a larger one.
    ///
    /// # Errors
    /// What is too large.
    pub fn takes(&self, headers: &Headers, payload_bytes: usize) -> Result<(), StoreError> {
        let header_bytes = wire::header_bytes(headers);
        if header_bytes > HEADER_BYTES_MAX {
            return Err(StoreError::TooManyHeaders { bytes: header_bytes });
        }
        let (bytes, max_payload) = (header_bytes + payload_bytes, self.max_payload());
        if bytes > max_payload { Err(StoreError::TooLarge { bytes, max_payload }) } else { Ok(()) }
    }

    /// Publishes to a stream and waits until the stream has stored it.
    ///
    /// # Errors
    /// It is not stored, or nobody knows whether it is: publishing again under the same `Nats-Msg-Id` is safe.
    pub async fn store(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<Stored, StoreError> {
        self.takes(headers, payload.len())?;
        let map = wire::header_map(headers);
        let stored =
            async { self.jetstream.publish_with_headers(subject.to_owned(), map, payload).await?.await };
        match timeout(2 * REQUEST_TIMEOUT, stored).await {
            Ok(Ok(ack)) => {
                self.note_answer();
                Ok(Stored { stream: ack.stream, sequence: ack.sequence, duplicate: ack.duplicate })
            }
            Ok(Err(error)) => Err(self.store_error(subject, &error)),
            Err(_) => Err(BrokerError::TimedOut.into()),
        }
    }

    /// Waits until everything published so far has reached the server.
    ///
    /// # Errors
    /// The connection does not stand.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        match timeout(REQUEST_TIMEOUT, self.client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    /// Asks JetStream's API; what it refuses comes back with its code.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Bytes,
    ) -> Result<Result<T, jetstream::Error>, BrokerError> {
        let began = Instant::now();
        loop {
            let answer = self.ask_once(subject, question.clone()).await?;
            match &answer {
                Err(error)
                    if error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE
                        && began.elapsed() < self.leaders_wait =>
                {
                    tracing::debug!(%error, "waiting for the cluster's leaders");
                    sleep(LEADERS_WAIT).await;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn ask_once<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Bytes,
    ) -> Result<Result<T, jetstream::Error>, BrokerError> {
        // A server that is cut off still tells of its streams what it knows.
        let proves_use = !subject.starts_with("STREAM.INFO");
        let subject = format!("$JS.API.{subject}");
        let answer = match timeout(REQUEST_TIMEOUT, self.client.request(subject.clone(), question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.explain(&subject, &error)),
            Err(_) => {
                if let Some(denied) = self.denied(&subject) {
                    return Err(denied);
                }
                self.note_silence().await;
                return Err(BrokerError::TimedOut);
            }
        };
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(answer)) => {
                if proves_use {
                    self.note_answer();
                }
                Ok(Ok(answer))
            }
            Ok(Response::Err { error }) => {
                // What a server says that is cut off from the leaders of its cluster.
                if error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE {
                    self.note_silence().await;
                }
                Ok(Err(error))
            }
            Err(error) => Err(BrokerError::Refused(format!("{subject}: unreadable answer: {error}"))),
        }
    }

    fn note_answer(&self) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = Silence::NONE;
    }

    /// Looks for another server where this one has been of no use for long and there are others.
    async fn note_silence(&self) {
        let give_up = self.silence.lock().unwrap_or_else(PoisonError::into_inner).goes_on(Instant::now());
        if !give_up || !self.is_connected() {
            return;
        }
        // What this server says of the others is of no use: cut off from them it says that there are none.
        let others = timeout(REQUEST_TIMEOUT, self.client.server_pool()).await;
        if others.is_ok_and(|pool| pool.is_ok_and(|pool| pool.len() > 1)) {
            tracing::warn!("this server's JetStream does not answer; connecting to another of the cluster");
            self.move_to_another().await;
        }
    }

    /// The client takes any server of the cluster, the present one as well: so it is told again.
    async fn move_to_another(&self) {
        let present = self.client.server_info().server_id;
        for _ in 0..MOVES_MAX {
            let moved = async {
                let reconnected = self.reconnected();
                match self.client.force_reconnect().await {
                    Ok(()) => reconnected.await,
                    Err(error) => tracing::debug!(%error, "the client does not look for another server"),
                }
            };
            let in_time = timeout(REQUEST_TIMEOUT, moved).await.is_ok();
            if in_time && self.client.server_info().server_id != present {
                return;
            }
        }
    }

    pub(super) fn denied(&self, subject: &str) -> Option<BrokerError> {
        self.denials.about(subject).map(BrokerError::Denied)
    }

    /// Reports on the permission behind a failure where the broker named one.
    pub(super) fn explain(&self, subject: &str, error: &dyn std::error::Error) -> BrokerError {
        self.denied(subject).unwrap_or_else(|| BrokerError::Refused(error.to_string()))
    }

    fn store_error(&self, subject: &str, error: &jetstream::context::PublishError) -> StoreError {
        use jetstream::context::PublishErrorKind as Kind;
        match error.kind() {
            Kind::StreamNotFound => StoreError::NoStream(subject.to_owned()),
            Kind::TimedOut => self.denied(subject).unwrap_or(BrokerError::TimedOut).into(),
            _ => BrokerError::Refused(error.to_string()).into(),
        }
    }
}
