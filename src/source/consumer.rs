//! The durable pull consumers: what a consumer must be, and how it is made, updated or taken as it is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{self, AckPolicy, DeliverPolicy, pull},
};

use bytes::Bytes;

use super::broker::{Broker, BrokerError};
use crate::target::Start;

/// How long the broker waits for an ack before it hands a message to somebody else. natshook reports progress
/// more often than that, so only a crash or a cut lets it pass.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(20);

/// nats-server answers so when a stream has as many consumers as it may have.
const TOO_MANY_CONSUMERS: ErrorCode = ErrorCode::MAXIMUM_CONSUMERS_LIMIT;

/// What a durable consumer must be.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// The stream it is on.
    pub stream: Arc<str>,
    /// Its durable name.
    pub name: String,
    /// What it delivers; no two overlap.
    pub filters: Vec<String>,
    /// The most messages handed out and not acked, over all replicas; -1 for no limit.
    pub max_ack_pending: i64,
}

/// Where a consumer that does not exist yet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// As the target's config says, for a consumer that was never there.
    Start(Start),
    /// Where natshook knows that its work begins: after what a consumer that is gone had settled, or at the first
    /// message of a stream that was just made.
    At {
        /// The first sequence that may not have been settled.
        sequence: u64,
    },
    /// When the target was registered: whoever did so may have published before there was a consumer.
    Since {
        /// By the broker's clock.
        time: SystemTime,
    },
}

impl ConsumerSpec {
    fn config(&self, deliver_policy: DeliverPolicy) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            description: Some("made by natshook".to_owned()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            filter_subjects: self.filters.clone(),
            max_ack_pending: self.max_ack_pending,
            ..Default::default()
        }
    }

    /// Makes the consumer at `position`, or brings one that exists into line.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub(super) async fn ensure(
        &self,
        broker: &Broker,
        position: Position,
    ) -> Result<consumer::Info, BrokerError> {
        match self.find(broker).await? {
            Some(existing) => self.adopt(broker, existing, position).await,
            None => {
                let info = self.put(broker, self.config(deliver_policy(position))).await?;
                tracing::info!(stream = %self.stream, consumer = self.name, ?position, "consumer made");
                Ok(info)
            }
        }
    }

    /// The consumer as it is, if it is there.
    pub(super) async fn find(&self, broker: &Broker) -> Result<Option<consumer::Info>, BrokerError> {
        let subject = format!("CONSUMER.INFO.{}.{}", self.stream, self.name);
        match broker.ask(&subject, Bytes::new()).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(None),
            Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(BrokerError::NoStream(self.stream.to_string()))
            }
            Err(error) => Err(BrokerError::Refused(error.to_string())),
        }
    }

    /// What can be updated is updated; what cannot is named.
    async fn adopt(
        &self,
        broker: &Broker,
        existing: consumer::Info,
        position: Position,
    ) -> Result<consumer::Info, BrokerError> {
        let was = &existing.config;
        if let Position::Start(start) = position
            && !matches!(start, Start::New)
            && was.deliver_policy != deliver_policy(position)
        {
            tracing::warn!(
                consumer = self.name,
                has = ?was.deliver_policy,
                "the target's `start` is not applied: it holds for a new consumer only, and this one exists"
            );
        }
        let wanted = self.config(was.deliver_policy);
        let mut filters = was.filter_subjects.clone();
        if !was.filter_subject.is_empty() {
            filters.push(was.filter_subject.clone());
        }
        let same = filters == wanted.filter_subjects
            && was.ack_wait == wanted.ack_wait
            && was.max_ack_pending == wanted.max_ack_pending
            && was.max_deliver == wanted.max_deliver;
        if same {
            return Ok(existing);
        }
        tracing::info!(consumer = self.name, filters = ?self.filters, "consumer updated");
        self.put(broker, wanted).await
    }

    async fn put(&self, broker: &Broker, config: pull::Config) -> Result<consumer::Info, BrokerError> {
        let made = broker.jetstream.create_consumer_on_stream(config, self.stream.to_string()).await;
        match made {
            Ok(consumer) => Ok(consumer.cached_info().clone()),
            Err(error) => {
                let too_many = matches!(
                    error.kind(),
                    async_nats::jetstream::stream::ConsumerErrorKind::JetStream(e)
                        if e.error_code() == TOO_MANY_CONSUMERS
                );
                if too_many {
                    let text = format!(
                        "{error}: stream {} has as many consumers as it may have, and each target needs one; raise \
                         max_consumers of the stream or the account, or jetstream.limits.default_max_consumers of the \
                         server (1,000 since 2.15), or use several streams",
                        self.stream
                    );
                    return Err(BrokerError::Refused(text));
                }
                let subject = format!("$JS.API.CONSUMER.CREATE.{}.{}", self.stream, self.name);
                Err(broker.explain(&subject, &error))
            }
        }
    }
}

/// Removes the durable consumer `name` of `stream`, and with it how far it has come; whether it was there.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn remove_consumer(broker: &Broker, stream: &str, name: &str) -> Result<bool, BrokerError> {
    #[derive(serde::Deserialize)]
    struct Removed {}
    match broker.ask::<Removed>(&format!("CONSUMER.DELETE.{stream}.{name}"), Bytes::new()).await? {
        Ok(Removed {}) => Ok(true),
        Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(false),
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(false),
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}

fn deliver_policy(position: Position) -> DeliverPolicy {
    match position {
        Position::Start(Start::New) => DeliverPolicy::New,
        Position::Start(Start::All) => DeliverPolicy::All,
        Position::Start(Start::Sequence(start_sequence)) | Position::At { sequence: start_sequence } => {
            DeliverPolicy::ByStartSequence { start_sequence }
        }
        Position::Start(Start::Time(time)) | Position::Since { time } => {
            DeliverPolicy::ByStartTime { start_time: offset(time) }
        }
    }
}

fn offset(time: SystemTime) -> time::OffsetDateTime {
    time.into()
}
