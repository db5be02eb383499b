//! natshook's own two streams: the retry queue and the dead letters. They are made when they are missing, also while
//! natshook runs, and a message is stored in them once as far as ids can tell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;

use super::{
    broker::{Broker, BrokerError, HEADER_BYTES_MAX, StoreError},
    streams::{self, MADE_BY},
};
use crate::{
    config::{InstanceName, Storage},
    failure_log::Sparing,
    message::Headers,
};

/// How long natshook's own streams know the ids of what was published to them.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Which of natshook's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// Deliveries that wait for their next attempt.
    RetryQueue,
    /// Deliveries that wait there for their turn: in the same stream, under subjects that no consumer takes.
    Parked,
    /// Messages that natshook gave up on.
    DeadLetters,
}

/// One of natshook's own streams.
#[derive(Clone, Debug)]
pub struct OwnStream {
    broker: Arc<Broker>,
    role: StreamRole,
    name: InstanceName,
    storage: Storage,
    /// Each delivery that is to be stored sees that the stream is gone.
    gone: Arc<Mutex<Sparing>>,
}

impl OwnStream {
    /// The stream of `name` for `role`, with the limits of `storage`. Nothing is made yet.
    #[must_use]
    pub fn new(broker: Arc<Broker>, role: StreamRole, name: InstanceName, storage: Storage) -> Self {
        Self { broker, role, name, storage, gone: Arc::default() }
    }

    /// The same stream for deliveries that wait for their turn; this one is the retry queue.
    #[must_use]
    pub fn parked(&self) -> Self {
        Self { role: StreamRole::Parked, ..self.clone() }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> String {
        match self.role {
            StreamRole::RetryQueue | StreamRole::Parked => self.name.retry_stream(),
            StreamRole::DeadLetters => self.name.dead_letter_stream(),
        }
    }

    /// Whether the stream takes so many bytes of headers with so many of payload.
    #[must_use]
    pub fn takes(&self, headers: usize, payload: usize) -> bool {
        headers <= HEADER_BYTES_MAX && headers + payload <= self.broker.max_payload()
    }

    /// Resolves when the connection to the broker has been made again.
    pub async fn reconnected(&self) {
        self.broker.reconnected().await;
    }

    fn subject(&self, target: &str) -> String {
        match self.role {
            StreamRole::RetryQueue => self.name.retry_subject(target),
            StreamRole::Parked => self.name.ordered_subject(target),
            StreamRole::DeadLetters => self.name.dead_letter_subject(target),
        }
    }

    /// Makes the stream, or brings the limits of one that exists into line.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn ensure(&self) -> Result<(), BrokerError> {
        let wanted = self.config();
        let Some(info) = streams::find(&self.broker, &wanted.name).await? else {
            let name = wanted.name.clone();
            streams::create(&self.broker, wanted).await?;
            tracing::info!(stream = name, "stream made");
            return Ok(());
        };
        let has = &info.config;
        let subjects = self.with_kept(wanted.subjects, &has.subjects);
        let same = has.max_age == wanted.max_age
            && has.max_bytes == wanted.max_bytes
            && has.num_replicas == wanted.num_replicas
            && has.subjects == subjects;
        if same {
            return Ok(());
        }
        let config = stream::Config {
            max_age: wanted.max_age,
            max_bytes: wanted.max_bytes,
            num_replicas: wanted.num_replicas,
            duplicate_window: wanted.duplicate_window,
            subjects,
            ..info.config
        };
        tracing::info!(stream = config.name, "stream updated");
        streams::update(&self.broker, config).await
    }

    /// What is parked stays where it is, whatever the config says of order at the moment.
    fn with_kept(&self, mut wanted: Vec<String>, has: &[String]) -> Vec<String> {
        let parked = self.name.ordered_subject("*");
        if self.role == StreamRole::RetryQueue && has.contains(&parked) {
            wanted.push(parked);
        }
        wanted
    }

    /// Full streams refuse what is published, and natshook then keeps what it has: with the other policy they
    /// would drop the oldest without a word.
    fn config(&self) -> stream::Config {
        let waiting = "natshook: deliveries that wait for their next attempt";
        let (retention, description) = match self.role {
            StreamRole::RetryQueue | StreamRole::Parked => (RetentionPolicy::WorkQueue, waiting),
            StreamRole::DeadLetters => {
                (RetentionPolicy::Limits, "natshook: messages that were given up, with the reason")
            }
        };
        let subjects = match self.role {
            // Only ordered targets need the other, and whoever has none need not allow the stream's update.
            StreamRole::RetryQueue => vec![self.name.retry_subject("*")],
            StreamRole::Parked => vec![self.name.retry_subject("*"), self.name.ordered_subject("*")],
            StreamRole::DeadLetters => vec![self.name.dead_letter_subject("*")],
        };
        let max_age = self.storage.max_age.unwrap_or_default();
        let window = if max_age.is_zero() { DUPLICATE_WINDOW } else { DUPLICATE_WINDOW.min(max_age) };
        stream::Config {
            name: self.name(),
            description: Some(description.to_owned()),
            subjects,
            retention,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_age,
            max_bytes: self.storage.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            num_replicas: self.storage.replicas,
            duplicate_window: window,
            allow_direct: true,
            metadata: [(MADE_BY.to_owned(), self.name.as_str().to_owned())].into(),
            ..Default::default()
        }
    }

    /// Stores a message under `target` and waits until the stream has confirmed it, or that it held a message of this
    /// id already. Makes the stream again if it is gone, and not if nobody answers for it at the moment: so it looks
    /// while a cluster elects the stream's leader. Returns the message's sequence.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn store(&self, target: &str, headers: Headers, payload: Bytes) -> Result<u64, StoreError> {
        let subject = self.subject(target);
        let stored = match self.broker.store(&subject, &headers, payload.clone()).await {
            Err(StoreError::NoStream(_)) => {
                if streams::find(&self.broker, &self.name()).await?.is_none() {
                    self.tell_that_it_is_gone();
                }
                // The first that is parked, or an older natshook that started since has taken the subject away.
                self.ensure().await?;
                self.broker.store(&subject, &headers, payload).await
            }
            stored => stored,
        };
        stored.map(|stored| stored.sequence)
    }

    fn tell_that_it_is_gone(&self) {
        let unsaid = self.gone.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now());
        if let Some(unsaid) = unsaid {
            tracing::error!(stream = self.name(), unsaid, "natshook's own stream is gone; making it again");
        }
    }
}
