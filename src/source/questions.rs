//! Questions among natshooks and those who look at them, over plain NATS: one asks on a subject, every replica that
//! listens there answers, or one of a group. What is asked and answered is the business of `connector` and `cli`.

use std::{sync::Arc, time::Duration};

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::broker::{Broker, BrokerError, REQUEST_TIMEOUT};

/// The most answers to one question that are read.
const ANSWERS_MAX: usize = 1_000;
/// Once somebody has answered, the others are expected within this time.
const OTHERS_WITHIN: Duration = Duration::from_millis(300);

/// How often it is looked whether the broker's permissions forbid a question.
const DENIAL_SHOWS_WITHIN: Duration = Duration::from_millis(500);

/// Who of those that listen on a subject gets a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    All,
    /// One of them.
    Any,
}

/// Questions on a subject.
#[derive(Debug)]
pub struct Questions {
    broker: Arc<Broker>,
    subscriber: Subscriber,
}

/// A question that wants an answer.
#[derive(Debug)]
pub struct Question {
    /// What was asked.
    pub payload: Bytes,
    broker: Arc<Broker>,
    reply: Subject,
}

impl Questions {
    /// Listens on `subject`.
    ///
    /// # Errors
    /// The client does not take the subscription.
    pub async fn new(broker: Arc<Broker>, subject: String, audience: Audience) -> Result<Self, BrokerError> {
        let client = &broker.client;
        let subscribed = match audience {
            Audience::All => timeout(REQUEST_TIMEOUT, client.subscribe(subject)).await,
            Audience::Any => {
                timeout(REQUEST_TIMEOUT, client.queue_subscribe(subject, "natshook".to_owned())).await
            }
        };
        match subscribed {
            Ok(Ok(subscriber)) => Ok(Self { broker, subscriber }),
            Ok(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    /// The next question; `None` when the connection was closed for good.
    pub async fn next(&mut self) -> Option<Question> {
        loop {
            let message = self.subscriber.next().await?;
            if let Some(reply) = message.reply {
                return Some(Question { payload: message.payload, broker: Arc::clone(&self.broker), reply });
            }
        }
    }
}

impl Question {
    /// Answers. An answer that gets lost is asked for again by whoever misses it.
    pub async fn answer(self, payload: Bytes) {
        if let Err(error) = self.broker.publish_plain(self.reply, payload).await {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

/// Asks `question` on `subject`, and returns what is answered: of [`Audience::Any`] the first answer, of
/// [`Audience::All`] all of them. The first one may take `wait`.
///
/// # Errors
/// The broker cannot be asked. That nobody answers is no error.
pub async fn ask(
    broker: &Broker,
    subject: String,
    question: Bytes,
    audience: Audience,
    wait: Duration,
) -> Result<Vec<Bytes>, BrokerError> {
    let inbox = broker.client.new_inbox();
    let subscribed = timeout(REQUEST_TIMEOUT, broker.client.subscribe(inbox.clone())).await;
    let mut answers = match subscribed {
        Ok(Ok(subscriber)) => subscriber,
        Ok(Err(error)) => return Err(BrokerError::Refused(error.to_string())),
        Err(_) => return Err(BrokerError::TimedOut),
    };
    let publish = broker.client.publish_with_reply(subject.clone(), inbox, question);
    let asked = timeout(REQUEST_TIMEOUT, publish).await;
    match asked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(BrokerError::Refused(error.to_string())),
        Err(_) => return Err(BrokerError::TimedOut),
    }
    let mut deadline = Instant::now() + wait;
    let mut heard = Vec::new();
    loop {
        let look = deadline.min(Instant::now() + DENIAL_SHOWS_WITHIN);
        let message = match timeout_at(look, answers.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            // A refusal by permissions comes apart from the question.
            Err(_) => match broker.denied(&subject) {
                Some(denied) => return Err(denied),
                None if Instant::now() < deadline => continue,
                None => break,
            },
        };
        // The server says so at once when nobody listens.
        if message.status.is_some() {
            break;
        }
        heard.push(message.payload);
        deadline = deadline.min(Instant::now() + OTHERS_WITHIN);
        if audience == Audience::Any || heard.len() == ANSWERS_MAX {
            break;
        }
    }
    Ok(heard)
}
