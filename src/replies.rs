//! Where answers go: back to NATS, before the message that they answer is acked. What is told of them is for `reply`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    config::{InstanceName, SourceKind},
    envelope,
    message::Delivery,
    outcome::Answer,
    source::{Broker, BrokerError, StoreError, has_stream},
    subject::Pattern,
    target::Target,
};

/// For how long it counts whether a stream holds a subject. One that is made meanwhile holds answers all the same, only
/// unconfirmed.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Of how many subjects that is kept.
const KNOWN_MAX: usize = 1000;

/// Publishes the answers of one target.
#[derive(Debug)]
pub struct Replies {
    broker: Arc<Broker>,
    name: InstanceName,
    source: SourceKind,
    /// Whether a stream holds a subject, and when that was asked.
    known: Mutex<HashMap<String, (bool, Instant)>>,
}

/// Why an answer was not published.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// It may be later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be, ever.
    #[error("{subject:?} is no subject for answers: {why}")]
    Place {
        /// The subject on which the publisher waits.
        subject: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl From<BrokerError> for ReplyError {
    fn from(error: BrokerError) -> Self {
        Self::Store(error.into())
    }
}

impl Replies {
    /// Over `broker`, for the instance `name`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, name: InstanceName, source: SourceKind) -> Self {
        Self { broker, name, source, known: Mutex::default() }
    }

    /// Resolves when the connection to the broker has been made again.
    pub async fn reconnected(&self) {
        self.broker.reconnected().await;
    }

    /// Publishes the answer that settles `delivery`, if `target` tells of it and somebody is to be told. A stream that
    /// holds the subject has confirmed it after this; without one whoever listens gets it.
    ///
    /// # Errors
    /// It is not published, or nobody knows; trying again is safe.
    pub async fn publish(&self, delivery: &Delivery, target: &Target) -> Result<(), ReplyError> {
        let (Some(answer), Some(reply)) = (&delivery.answer, &target.reply) else { return Ok(()) };
        let Some(subject) = reply.place(&delivery.message) else { return Ok(()) };
        if let Some(why) = self.refuses(&subject, target) {
            return Err(ReplyError::Place { subject, why });
        }
        match self.publish_to(&subject, delivery, target, answer, reply.max_body_bytes).await {
            // The server takes less than the config allows; an answer without its body is better than none.
            Err(ReplyError::Store(StoreError::TooLarge { .. })) => {
                self.publish_to(&subject, delivery, target, answer, 0).await
            }
            published => published,
        }
    }

    async fn publish_to(
        &self,
        subject: &str,
        delivery: &Delivery,
        target: &Target,
        answer: &Answer,
        body_max: usize,
    ) -> Result<(), ReplyError> {
        let body = answer.kept.as_ref().map(|kept| kept.body.clone()).unwrap_or_default();
        let cut = (body.len() > body_max).then_some(body_max);
        let body = body.slice(..cut.unwrap_or(body.len()));
        let chosen = target.reply.as_ref().map_or(&[][..], |reply| &reply.headers);
        let headers = envelope::answer_headers(delivery, target.name.as_str(), answer, chosen, cut);
        self.broker.takes(&headers, body.len())?;
        if !self.is_held(subject).await? {
            return Ok(self.broker.publish(subject, &headers, body).await?);
        }
        match self.broker.store(subject, &headers, body).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // The stream may be another one by now, or none.
                self.known().remove(subject);
                Err(error.into())
            }
        }
    }

    /// Whether a stream holds `subject`.
    async fn is_held(&self, subject: &str) -> Result<bool, BrokerError> {
        if self.source == SourceKind::Core {
            return Ok(false);
        }
        let known = self.known().get(subject).copied();
        if let Some((held, _)) = known.filter(|(_, asked)| asked.elapsed() < KNOWN_FOR) {
            return Ok(held);
        }
        let Ok(pattern) = Pattern::new(subject) else { return Ok(false) };
        let held = has_stream(&self.broker, &self.name, &pattern).await?;
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(subject.to_owned(), (held, Instant::now()));
        Ok(held)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (bool, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no answer goes to `subject`. A publisher chooses where it waits: it must not make natshook, which may do more
    /// than the publisher, speak to the server or to itself, nor make a delivery that causes the next one.
    fn refuses(&self, subject: &str, target: &Target) -> Option<&'static str> {
        let own = subject.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.starts_with('.'));
        match Pattern::new(subject) {
            Err(_) => Some("it is not a subject"),
            Ok(pattern) if !pattern.is_literal() => Some("it has wildcards"),
            Ok(_) if subject.starts_with('$') => Some("it is the server's"),
            Ok(_) if own => Some("it is natshook's own"),
            Ok(_) if target.subjects.iter().any(|pattern| pattern.matches(subject)) => {
                Some("the target receives it, so each delivery would cause the next one")
            }
            Ok(_) => None,
        }
    }
}
