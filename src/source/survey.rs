//! What waits in the streams, as the broker tells it: how far a consumer is behind, how old the oldest undelivered message
//! is, how many messages a stream holds under each subject. It only asks; what is told is for people.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{ErrorCode, consumer};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    broker::{Broker, BrokerError},
    streams,
};

/// How far a consumer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Messages that it has not handed out yet, or that are not acked.
    pub undelivered: u64,
    /// Those of them that it has handed out and that are not acked.
    pub unacked: u64,
    /// The stream's sequence up to which everything is acked.
    pub floor: u64,
}

/// How far `consumer` on `stream` has come; `None` when it is not there.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn lag(broker: &Broker, stream: &str, consumer: &str) -> Result<Option<Lag>, BrokerError> {
    let answer = broker.ask(&format!("CONSUMER.INFO.{stream}.{consumer}"), Bytes::new()).await?;
    let info: consumer::Info = match answer {
        Ok(info) => info,
        Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => return Ok(None),
        Err(error) => return Err(BrokerError::Refused(error.to_string())),
    };
    let unacked = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
    let undelivered = info.num_pending.saturating_add(unacked);
    Ok(Some(Lag { undelivered, unacked, floor: info.ack_floor.stream_sequence }))
}

/// When the first message after `floor` that `filter` matches was stored; `None` when there is none.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn first_stored_after(
    broker: &Broker,
    stream: &str,
    floor: u64,
    filter: &str,
) -> Result<Option<SystemTime>, BrokerError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        time: String,
    }
    let question = serde_json::json!({ "seq": floor.saturating_add(1), "next_by_subj": filter }).to_string();
    match broker.ask::<Answer>(&format!("STREAM.MSG.GET.{stream}"), question.into()).await? {
        Ok(answer) => Ok(humantime::parse_rfc3339(&answer.message.time).ok()),
        Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}

/// How long `stream` keeps a message; `None` when for ever, or when it is not there.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn max_age(broker: &Broker, stream: &str) -> Result<Option<Duration>, BrokerError> {
    let info = streams::find(broker, stream).await?;
    Ok(info.map(|info| info.config.max_age).filter(|age| !age.is_zero()))
}

/// How many messages `stream` holds under each subject that `filter` matches; none when it is not there.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn counts(
    broker: &Broker,
    stream: &str,
    filter: &str,
) -> Result<HashMap<String, u64>, BrokerError> {
    #[derive(Deserialize)]
    struct Answer {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        subjects: Option<HashMap<String, u64>>,
    }
    let question = serde_json::json!({ "subjects_filter": filter }).to_string();
    match broker.ask::<Answer>(&format!("STREAM.INFO.{stream}"), question.into()).await? {
        Ok(answer) => Ok(answer.state.subjects.unwrap_or_default()),
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(HashMap::new()),
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}
