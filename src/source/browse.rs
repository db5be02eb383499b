//! Reading a stream by sequence, without a consumer: for what people ask, and for replays. It asks the broker's JSON
//! interface, which any bytes pass: headers that would end the client's connection do no harm here. A work queue can
//! be read so as well, which takes no second consumer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use async_nats::jetstream::ErrorCode;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::{
    broker::{Broker, BrokerError},
    rescue::RawAnswer,
};
use crate::message::{Message, Origin};

/// The most messages that are asked for at a time.
pub const AHEAD_MAX: usize = 64;
/// How many are asked for first, while nobody knows how large they are.
const AHEAD_FIRST: usize = 8;
/// About how many bytes of payloads may be under way at a time.
const BYTES_AHEAD_MAX: usize = 4 * 1024 * 1024;

/// A stream that is read by sequence. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StreamReader {
    broker: Arc<Broker>,
    stream: Arc<str>,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first sequence that it holds.
    pub first: u64,
    /// The last sequence that it has given; 0 for one that never held anything.
    pub last: u64,
    /// How many messages it holds.
    pub messages: u64,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
    subjects: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Info {
    state: State,
}

impl StreamReader {
    /// Reads `stream`. Nothing is asked yet.
    #[must_use]
    pub fn new(broker: Arc<Broker>, stream: impl Into<Arc<str>>) -> Self {
        Self { broker, stream: stream.into() }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The message at `sequence`, if the stream holds it.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn get(&self, sequence: u64) -> Result<Option<Message>, BrokerError> {
        self.ask_for(json!({ "seq": sequence })).await
    }

    /// The first message of a subject that `filter` matches at `from` or later.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn next(&self, filter: &str, from: u64) -> Result<Option<Message>, BrokerError> {
        // A sequence of 0 would mean that none is given.
        self.ask_for(json!({ "seq": from.max(1), "next_by_subj": filter })).await
    }

    async fn ask_for(&self, question: serde_json::Value) -> Result<Option<Message>, BrokerError> {
        let subject = format!("STREAM.MSG.GET.{}", self.stream);
        match self.broker.ask::<RawAnswer>(&subject, question.to_string().into()).await? {
            Ok(answer) => Ok(Some(answer.message.into_message(&self.stream))),
            Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn refused(&self, error: &async_nats::jetstream::Error) -> BrokerError {
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND {
            return BrokerError::NoStream(self.stream.to_string());
        }
        BrokerError::Refused(error.to_string())
    }

    /// The first sequence at or after which everything that `filter` matches was stored at `time` or later. Asks about
    /// as often as the stream's length has binary digits.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn first_since(&self, filter: &str, time: SystemTime) -> Result<u64, BrokerError> {
        let extent = self.extent().await?;
        let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next(filter, middle).await? {
                Some(message) if message.published < time => low = sequence(&message).saturating_add(1),
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// How much the stream holds.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn extent(&self) -> Result<Extent, BrokerError> {
        let State { messages, first_seq, last_seq, .. } = self.state(json!({})).await?;
        Ok(Extent { first: first_seq, last: last_seq, messages })
    }

    /// How many messages the stream holds of each subject that `filter` matches.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn subjects(&self, filter: &str) -> Result<BTreeMap<String, u64>, BrokerError> {
        Ok(self.state(json!({ "subjects_filter": filter })).await?.subjects.unwrap_or_default())
    }

    async fn state(&self, question: serde_json::Value) -> Result<State, BrokerError> {
        let subject = format!("STREAM.INFO.{}", self.stream);
        match self.broker.ask::<Info>(&subject, question.to_string().into()).await? {
            Ok(info) => Ok(info.state),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Removes the message at `sequence`; `false` if it was not there.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer; trying again is safe.
    pub async fn remove(&self, sequence: u64) -> Result<bool, BrokerError> {
        #[derive(Deserialize)]
        struct Removed {}
        let subject = format!("STREAM.MSG.DELETE.{}", self.stream);
        // Overwriting the bytes on the disk would cost the server more than all the rest.
        let question = json!({ "seq": sequence, "no_erase": true }).to_string();
        match self.broker.ask::<Removed>(&subject, question.into()).await? {
            Ok(Removed {}) => Ok(true),
            // What it answers for a message that is not there depends on where that is missing, and on its version.
            Err(_) if self.get(sequence).await?.is_none() => Ok(false),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Removes everything that `filter` matches up to the sequence `last`; says how many messages that were.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer; trying again is safe.
    pub async fn purge(&self, filter: &str, last: u64) -> Result<u64, BrokerError> {
        #[derive(Deserialize)]
        struct Purged {
            purged: u64,
        }
        let subject = format!("STREAM.PURGE.{}", self.stream);
        // The server purges what comes before the sequence.
        let question = json!({ "filter": filter, "seq": last.saturating_add(1) }).to_string();
        match self.broker.ask::<Purged>(&subject, question.into()).await? {
            Ok(Purged { purged }) => Ok(purged),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Everything that `filter` matches, from the sequence `from` on, in order. At most `ahead` messages are asked for
    /// at a time, from 1 to [`AHEAD_MAX`].
    #[must_use]
    pub fn walk(&self, filter: String, from: u64, ahead: usize) -> Walk {
        let ahead = ahead.clamp(1, AHEAD_MAX);
        Walk {
            reader: self.clone(),
            filter,
            from: from.max(1),
            ready: VecDeque::new(),
            width: ahead.min(AHEAD_FIRST),
            ahead,
            at_end: false,
        }
    }
}

fn sequence(message: &Message) -> u64 {
    match &message.origin {
        Origin::Stored { sequence, .. } => *sequence,
        Origin::Passing { .. } => 0,
    }
}

/// A way through a stream, in its order. What is stored behind it while it goes is found as well.
#[derive(Debug)]
pub struct Walk {
    reader: StreamReader,
    filter: String,
    from: u64,
    ready: VecDeque<Message>,
    width: usize,
    ahead: usize,
    at_end: bool,
}

impl Walk {
    /// The next message; `None` at the stream's end. Whoever asks again after that sees what was stored meanwhile.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer. The walk can go on after that.
    pub async fn next(&mut self) -> Result<Option<Message>, BrokerError> {
        if self.ready.is_empty() && !std::mem::take(&mut self.at_end) {
            self.fetch().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Asks for the first message at each of the next `width` sequences. Where the stream has gaps some answers are the
    /// same, and fewer are asked for the next time.
    ///
    /// The answer to one that was there is final: what is stored later comes behind everything. The answer that there
    /// is none is not, so what later questions of the same batch found is not used: something may have been stored
    /// between the two.
    async fn fetch(&mut self) -> Result<(), BrokerError> {
        let width = u64::try_from(self.width).unwrap_or(1);
        let starts = (0..width).map(|step| self.from.saturating_add(step));
        let answers = join_all(starts.map(|from| self.reader.next(&self.filter, from))).await;
        let mut largest = 1;
        for answer in answers {
            let Some(message) = answer? else {
                self.at_end = !self.ready.is_empty();
                break;
            };
            largest = largest.max(message.payload.len());
            if sequence(&message) >= self.from {
                self.from = sequence(&message).saturating_add(1);
                self.ready.push_back(message);
            }
        }
        let found = self.ready.len();
        let wanted = if found * 2 < self.width { self.width / 2 } else { self.width * 2 };
        self.width = wanted.min(BYTES_AHEAD_MAX / largest).clamp(1, self.ahead);
        Ok(())
    }
}
