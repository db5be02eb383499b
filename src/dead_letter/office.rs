//! The reading side of the dead-letter stream: pages of it, one letter, what it holds for whom, and removing. How a
//! letter goes back to its target is the business of `replay`.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use crate::{
    config::InstanceName,
    disposition::Reason,
    envelope::{DeadLetter, LetterMark, read_letter},
    source::{AHEAD_MAX, Broker, BrokerError, StoreError, StreamReader, Walk},
    target::TargetName,
};

/// Which dead letters are meant. Without any condition: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this target. The broker selects.
    pub target: Option<TargetName>,
    /// Those given up for this reason.
    pub reason: Option<Reason>,
    /// Those stored at this time or later. The broker's order makes a search of it.
    pub since: Option<SystemTime>,
    /// Those stored before this time.
    pub before: Option<SystemTime>,
}

impl Selection {
    /// Whether `letter`, which is of the right target, is one of them.
    #[must_use]
    pub fn holds(&self, letter: &DeadLetter) -> bool {
        self.reason.is_none_or(|reason| letter.reason == reason.as_str())
            && self.since.is_none_or(|since| letter.stored >= since)
            && self.before.is_none_or(|before| letter.stored < before)
    }

    /// Whether the broker alone can tell which they are.
    fn is_of_target_only(&self) -> bool {
        self.reason.is_none() && self.since.is_none() && self.before.is_none()
    }
}

/// Why something asked of the dead letters was not done.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    /// The dead-letter stream is not there.
    #[error("there is no stream {0}: natshook makes it when it starts, and nothing was given up before that")]
    NoStream(String),
    /// The retry queue is not there, or does not take a message.
    #[error("the retry queue cannot be used: {0}")]
    RetryQueue(StoreError),
    /// Anything else that the broker says.
    #[error(transparent)]
    Broker(BrokerError),
}

impl From<BrokerError> for OfficeError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::NoStream(stream) => Self::NoStream(stream),
            other => Self::Broker(other),
        }
    }
}

/// Some dead letters, in the order in which they were stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The letters; fewer than were asked for, or none, where letters of other reasons had to be passed over.
    pub letters: Vec<DeadLetter>,
    /// After which id the next page begins; none after the last page.
    pub next: Option<u64>,
}

/// The most letters that are read for one page.
const READ_MAX: u64 = 5_000;

/// Where dead letters are looked up, sent again and thrown away. Works from any machine that reaches the broker, while
/// natshook runs and while it does not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetterOffice {
    pub(super) broker: Arc<Broker>,
    pub(super) name: InstanceName,
    pub(super) letters: StreamReader,
}

impl DeadLetterOffice {
    /// The dead letters of the instance `name`. Nothing is asked yet.
    #[must_use]
    pub fn new(broker: Arc<Broker>, name: InstanceName) -> Self {
        let letters = StreamReader::new(Arc::clone(&broker), name.dead_letter_stream());
        Self { broker, name, letters }
    }

    /// How many dead letters there are of each target that has some, whatever the config says.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn targets(&self) -> Result<BTreeMap<String, u64>, OfficeError> {
        let subjects = self.letters.subjects(&self.name.dead_letter_subject("*")).await?;
        let token = |subject: String| subject.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(subjects.into_iter().map(|(subject, count)| (token(subject), count)).collect())
    }

    /// At most `limit` letters of `selection` with ids after `after`. Reads some thousands at most, however few are of
    /// the `reason` asked for.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn page(&self, selection: &Selection, after: u64, limit: usize) -> Result<Page, OfficeError> {
        let mut letters = Vec::new();
        let mut round = self.round(selection, after, AHEAD_MAX.min(limit)).await?;
        while letters.len() < limit && round.read < READ_MAX {
            match round.step().await? {
                Step::Letter(letter) => letters.push(*letter),
                Step::Other => {}
                Step::End => return Ok(Page { letters, next: None }),
            }
        }
        Ok(Page { letters, next: Some(round.last) })
    }

    /// The letter `id`, if it is there.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn get(&self, id: u64) -> Result<Option<DeadLetter>, OfficeError> {
        Ok(self.letters.get(id).await?.map(read_letter))
    }

    /// Removes the letter `id`; `false` if it was not there.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer; trying again is safe.
    pub async fn remove(&self, id: u64) -> Result<bool, OfficeError> {
        Ok(self.letters.remove(id).await?)
    }

    /// Removes the letter of `mark`, if the stream still holds that one and not another under its id.
    ///
    /// # Errors
    /// The broker refuses or does not answer; trying again is safe. No stream is no error: the letter is gone with it.
    pub async fn remove_marked(&self, mark: LetterMark) -> Result<(), BrokerError> {
        match self.letters.get(mark.id).await {
            Ok(Some(message)) if message.published == mark.stored => {
                self.letters.remove(mark.id).await.map(drop)
            }
            Ok(_) | Err(BrokerError::NoStream(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the letters of `selection` up to the id `last`, and says how many those were. `progress` is told the
    /// count from time to time.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer; trying again is safe.
    pub async fn purge(
        &self,
        selection: &Selection,
        last: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, OfficeError> {
        if selection.is_of_target_only() {
            return Ok(self.letters.purge(&self.filter(selection), last).await?);
        }
        let mut round = self.round(selection, 0, AHEAD_MAX).await?;
        let mut purged = 0;
        while let Some(letter) = round.next().await?.filter(|letter| letter.id <= last) {
            purged += u64::from(self.letters.remove(letter.id).await?);
            progress(purged);
        }
        Ok(purged)
    }

    /// The id of the last letter that was ever stored.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn last(&self) -> Result<u64, OfficeError> {
        Ok(self.letters.extent().await?.last)
    }

    /// The way through the letters of `selection` with ids after `after`, asking for at most `ahead` of them at a time.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer.
    pub async fn round(&self, selection: &Selection, after: u64, ahead: usize) -> Result<Round, OfficeError> {
        let filter = self.filter(selection);
        let mut from = after.saturating_add(1);
        if let Some(since) = selection.since {
            from = from.max(self.letters.first_since(&filter, since).await?);
        }
        let walk = self.letters.walk(filter, from, ahead);
        Ok(Round { walk, selection: selection.clone(), read: 0, last: after })
    }

    fn filter(&self, selection: &Selection) -> String {
        self.name.dead_letter_subject(selection.target.as_ref().map_or("*", TargetName::as_str))
    }
}

/// A way through the letters of a selection, in the order in which they were stored.
#[derive(Debug)]
pub struct Round {
    walk: Walk,
    selection: Selection,
    /// How many were read, and the id of the last of them.
    read: u64,
    last: u64,
}

enum Step {
    Letter(Box<DeadLetter>),
    /// One that is not of the selection.
    Other,
    End,
}

impl Round {
    /// The next letter; `None` at the end. Whoever asks again after that sees what was stored meanwhile.
    ///
    /// # Errors
    /// The stream is not there, or the broker refuses or does not answer. It can go on after that.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, OfficeError> {
        loop {
            match self.step().await? {
                Step::Letter(letter) => return Ok(Some(*letter)),
                Step::Other => {}
                Step::End => return Ok(None),
            }
        }
    }

    async fn step(&mut self) -> Result<Step, OfficeError> {
        let Some(message) = self.walk.next().await? else { return Ok(Step::End) };
        let letter = read_letter(message);
        self.read += 1;
        self.last = letter.id;
        // They come in the order of their times.
        if self.selection.before.is_some_and(|before| letter.stored >= before) {
            return Ok(Step::End);
        }
        Ok(if self.selection.holds(&letter) { Step::Letter(Box::new(letter)) } else { Step::Other })
    }
}
