//! Looking on at what is published, without taking part: for people, never for deliveries.

use std::time::SystemTime;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{
    broker::{Broker, BrokerError, REQUEST_TIMEOUT},
    wire,
};
use crate::message::Message;

/// Messages as they are published.
#[derive(Debug)]
pub struct Watch(Subscriber);

impl Watch {
    /// Looks on at `subject`, which may have wildcards, from now on.
    ///
    /// # Errors
    /// The client does not take the subscription, or the server cannot be reached.
    pub async fn new(broker: &Broker, subject: String) -> Result<Self, BrokerError> {
        let subscriber = match timeout(REQUEST_TIMEOUT, broker.client.subscribe(subject)).await {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(error)) => return Err(BrokerError::Refused(error.to_string())),
            Err(_) => return Err(BrokerError::TimedOut),
        };
        broker.flush().await?;
        Ok(Self(subscriber))
    }

    /// The next message; `None` when the connection was closed for good.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.0.next().await?;
        Some(wire::passing_message(message, String::new(), SystemTime::now()))
    }
}
