//! The source for brokers without JetStream: plain subscriptions in a queue group, so that replicas share the
//! work. What is lost while natshook is away stays lost.

use std::{sync::Arc, time::SystemTime};

use async_nats::Subscriber;
use futures_util::{StreamExt, stream::SelectAll};
use tokio::time::timeout;

use super::{
    broker::{Broker, BrokerError, REQUEST_TIMEOUT},
    receipt::{Incoming, Receipt},
    wire,
};
use crate::{
    config::InstanceName,
    message::Delivery,
    subject::{Pattern, disjoint},
};

/// Messages of one target, by core NATS.
#[derive(Debug)]
pub struct Subscription {
    broker: Arc<Broker>,
    subscribers: SelectAll<Subscriber>,
    wanted: Vec<Pattern>,
    own_prefix: String,
}

impl Subscription {
    /// Subscribes to `wanted` in the queue group of `target`.
    ///
    /// # Errors
    /// The client does not take the subscription.
    pub async fn new(
        broker: Arc<Broker>,
        name: &InstanceName,
        target: &str,
        wanted: Vec<Pattern>,
    ) -> Result<Self, BrokerError> {
        let mut subscribers = SelectAll::new();
        for pattern in disjoint(&wanted) {
            let subscribe = broker.client.queue_subscribe(pattern.as_str().to_owned(), name.consumer(target));
            match timeout(REQUEST_TIMEOUT, subscribe).await {
                Ok(Ok(subscriber)) => subscribers.push(subscriber),
                Ok(Err(error)) => return Err(BrokerError::Refused(error.to_string())),
                Err(_) => return Err(BrokerError::TimedOut),
            }
        }
        broker.flush().await?;
        Ok(Self { broker, subscribers, wanted, own_prefix: format!("{}.dead-letter.", name.as_str()) })
    }

    /// Takes nothing new; what the client has received already still comes.
    pub async fn close(&mut self) {
        for subscriber in self.subscribers.iter_mut() {
            if let Err(error) = subscriber.drain().await {
                tracing::debug!(%error, "cannot end a subscription");
            }
        }
    }

    /// The next message that is the target's; `None` when the connection was closed for good.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let message = self.subscribers.next().await?;
            // A target of `>` must not be sent what natshook itself and the broker's replies say.
            let own = message.subject.starts_with(&self.own_prefix) || message.subject.starts_with("_INBOX.");
            if own || !self.wanted.iter().any(|pattern| pattern.matches(&message.subject)) {
                continue;
            }
            let id =
                format!("core-{}", self.broker.client.new_inbox().rsplit('.').next().unwrap_or_default());
            let message = wire::passing_message(message, id, SystemTime::now());
            return Some(Incoming {
                delivery: Delivery::fresh(message),
                receipt: Receipt::Core,
                handed_out: 1,
            });
        }
    }
}
