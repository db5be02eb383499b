//! Replays of history: what a target's source streams still hold is sent to that one target again, through the retry
//! queue and under the same `webhook-id`s. Nothing here touches the target's consumer, or the streams it reads.

use std::{ops::RangeInclusive, sync::Arc, time::SystemTime};

use futures_util::{StreamExt, stream::FuturesOrdered};

use crate::{
    config::InstanceName,
    dead_letter::Pace,
    envelope::{ReplayOf, replayed_headers},
    message::{Delivery, Message, Origin},
    source::{
        AHEAD_MAX, Broker, BrokerError, StoreError, StreamReader, TargetStream, Walk, find_source_streams,
    },
    subject::Pattern,
    target::Target,
};

/// The most messages that are on their way at a time.
const IN_FLIGHT_MAX: usize = 64;

/// Which part of a stream is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// What was stored at this time or later.
    Since(SystemTime),
    /// What stands at these sequences.
    Sequences(RangeInclusive<u64>),
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on the retry queue, due now.
    Stored,
    /// It was put there within the last two minutes already, and is not stored again.
    Duplicate,
    /// The retry queue cannot hold it: what the server says.
    TooLarge(String),
}

/// Why a replay did not go on.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The retry queue is not there, or does not take a message.
    #[error("cannot put a message on the retry queue: {0}")]
    RetryQueue(StoreError),
    /// Anything else that the broker says.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The history of one target.
#[derive(Clone, Debug)]
pub struct History {
    broker: Arc<Broker>,
    name: InstanceName,
    target: Target,
    /// Those of the target's messages that are meant, if not all.
    subject: Option<Pattern>,
}

/// A part of one stream that is about to be replayed.
#[derive(Clone, Debug)]
pub struct Chapter {
    reader: StreamReader,
    filters: Vec<String>,
    /// The first sequence that may be meant.
    pub first: u64,
    /// The last one, or the last that the stream holds now: what comes later is no history.
    pub last: u64,
}

impl Chapter {
    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.reader.stream()
    }
}

impl History {
    /// The history of `target`, or the part of it that `subject` matches. Nothing is asked yet.
    #[must_use]
    pub fn new(broker: Arc<Broker>, name: InstanceName, target: Target, subject: Option<Pattern>) -> Self {
        Self { broker, name, target, subject }
    }

    /// The streams that hold the target's subjects.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn streams(&self) -> Result<Vec<TargetStream>, BrokerError> {
        find_source_streams(&self.broker, &self.name, &self.target.subjects).await
    }

    /// Looks up which sequences of `stream` belong to `span`.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn chapter(&self, stream: &TargetStream, span: &Span) -> Result<Chapter, BrokerError> {
        let reader = StreamReader::new(Arc::clone(&self.broker), Arc::clone(&stream.stream));
        let filters = match &self.subject {
            // The broker selects where it can.
            Some(subject) if stream.filters.iter().any(|filter| filter.contains(subject)) => {
                vec![subject.to_string()]
            }
            Some(_) | None => stream.filters.iter().map(ToString::to_string).collect(),
        };
        let extent = reader.extent().await?;
        let (first, last) = match span {
            Span::Since(time) => (reader.first_since(">", *time).await?, extent.last),
            Span::Sequences(range) => (*range.start(), *range.end()),
        };
        Ok(Chapter { reader, filters, first: first.max(extent.first), last: last.min(extent.last) })
    }

    /// Counts what a replay of `chapter` would send.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn count(&self, chapter: &Chapter) -> Result<u64, HistoryError> {
        let mut reading = Reading::new(chapter, AHEAD_MAX);
        let mut count = 0;
        while self.next(&mut reading, chapter).await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// Puts what `chapter` holds on the retry queue. `told` is called for each message in the stream's order, with its
    /// sequence: everything up to there is done.
    ///
    /// # Errors
    /// A stream is not there, or the broker refuses or does not answer. Replaying from the sequence after the last that
    /// was told goes on where this ended; what was sent beyond it is not stored twice within two minutes.
    pub async fn replay(
        &self,
        chapter: &Chapter,
        pace: &Pace,
        mut told: impl FnMut(u64, &Fate),
    ) -> Result<(), HistoryError> {
        let mut turns = pace.turns();
        let mut reading = Reading::new(chapter, pace.ahead());
        let (mut open, mut at_end) = (FuturesOrdered::new(), false);
        loop {
            tokio::select! {
                biased;
                Some((sequence, fate)) = open.next() => told(sequence, &fate?),
                () = turns.next(), if !at_end && open.len() < IN_FLIGHT_MAX => {
                    match self.next(&mut reading, chapter).await? {
                        Some(message) => open.push_back(async { (sequence(&message), self.put(message).await) }),
                        None => at_end = true,
                    }
                }
                else => return Ok(()),
            }
        }
    }

    async fn put(&self, message: Message) -> Result<Fate, HistoryError> {
        let now = SystemTime::now();
        let target = self.target.name.as_str();
        let delivery = Delivery { replayed: Some(now), ..Delivery::fresh(message) };
        let headers = replayed_headers(&delivery, target, ReplayOf::History, now);
        let subject = self.name.retry_subject(target);
        match self.broker.store(&subject, &headers, delivery.message.payload).await {
            Ok(stored) if stored.duplicate => Ok(Fate::Duplicate),
            Ok(_) => Ok(Fate::Stored),
            Err(error @ (StoreError::TooLarge { .. } | StoreError::TooManyHeaders { .. })) => {
                Ok(Fate::TooLarge(error.to_string()))
            }
            Err(error) => Err(HistoryError::RetryQueue(error)),
        }
    }

    /// The next message of the target in `chapter`. The filters of a stream may match more than the target asked for.
    async fn next(&self, reading: &mut Reading, chapter: &Chapter) -> Result<Option<Message>, BrokerError> {
        while let Some(message) = reading.next().await? {
            if sequence(&message) > chapter.last {
                return Ok(None);
            }
            let wanted = self.target.subjects.iter().any(|pattern| pattern.matches(&message.subject));
            if wanted && self.subject.as_ref().is_none_or(|pattern| pattern.matches(&message.subject)) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

fn sequence(message: &Message) -> u64 {
    match &message.origin {
        Origin::Stored { sequence, .. } => *sequence,
        Origin::Passing { .. } => 0,
    }
}

/// One way through a stream for each filter, put together in the stream's order; and the message that each has come to.
struct Reading {
    ways: Vec<(Walk, Message)>,
    begun: Vec<Walk>,
}

impl Reading {
    fn new(chapter: &Chapter, ahead: usize) -> Self {
        let each = ahead / chapter.filters.len().max(1);
        let walk = |filter: &String| chapter.reader.walk(filter.clone(), chapter.first, each);
        Self { ways: Vec::new(), begun: chapter.filters.iter().map(walk).collect() }
    }

    async fn next(&mut self) -> Result<Option<Message>, BrokerError> {
        // A way that has come to its end is not asked again.
        while let Some(walk) = self.begun.last_mut() {
            let head = walk.next().await?;
            self.ways.extend(self.begun.pop().zip(head));
        }
        let first = (0..self.ways.len()).min_by_key(|index| sequence(&self.ways[*index].1));
        let Some((walk, message)) = first.map(|index| self.ways.swap_remove(index)) else { return Ok(None) };
        self.begun.push(walk);
        Ok(Some(message))
    }
}
