//! What the log says of the deliveries that failed: a line for each, or a sum of many. Successes are not mentioned.
//! Decides nothing but how much is written.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    dead_letter::Omitted,
    disposition::Disposition,
    failure_log::{Failure, FailureLog, Fate, Noted, Range, Sparing, Summary, WINDOW},
    message::{Delivery, Message, Origin},
    replies::ReplyError,
    shaper::ShapeError,
    source::{BrokerError, StoreError},
    target::TargetName,
};

/// What is said of one target's failures.
#[derive(Debug)]
pub struct Journal {
    target: TargetName,
    failed: Spoken,
    unstored: Spoken,
    unreplied: Mutex<Sparing>,
    unshaped: Mutex<Sparing>,
    incomplete: Incomplete,
}

impl Journal {
    /// Nothing has been said of `target` yet.
    #[must_use]
    pub fn new(target: &TargetName) -> Self {
        Self {
            target: target.clone(),
            failed: Spoken::default(),
            unstored: Spoken::default(),
            unreplied: Mutex::default(),
            unshaped: Mutex::default(),
            incomplete: Incomplete::default(),
        }
    }

    /// It cannot be told what is sent of `message`, which is tried again in `retry_in`.
    pub fn not_shaped(&self, message: &Message, error: &ShapeError, retry_in: Duration) {
        if let Some(more) = lock(&self.unshaped).line(Instant::now()) {
            tracing::error!(
                target = %self.target, subject = message.subject, %error, more,
                retry_in = %humantime::format_duration(retry_in),
                "cannot run filter or transform; messages stay unacked until it can be done"
            );
        }
    }

    /// A delivery failed, and `disposition` has been done.
    pub fn failed(&self, delivery: &Delivery, disposition: Disposition) {
        let Some(fate) = fate(disposition) else { return };
        let failed = delivery.failed.as_ref();
        let error = delivery.last_error().unwrap_or_default();
        let noted = self.failed.note(fate, error, &delivery.message);
        self.say_more_failed(noted.before);
        if !noted.in_full {
            return;
        }
        let (target, message) = (&self.target, &delivery.message);
        let (stream, sequence) = place(message).unzip();
        let (id, attempt) = (message.webhook_id(), delivery.attempts());
        let (stream, status) = (stream.map(|stream| &**stream), failed.and_then(|failed| failed.last_status));
        match disposition {
            Disposition::Ack | Disposition::Skip => {}
            Disposition::Retry { at } => tracing::info!(
                %target, subject = message.subject, stream, sequence, id, attempt, status, error,
                next_attempt = %humantime::format_rfc3339_seconds(at), "attempt failed"
            ),
            Disposition::DeadLetter(reason) => tracing::warn!(
                %target, subject = message.subject, stream, sequence, id, attempt, status, error,
                reason = reason.as_str(), "given up: stored as a dead letter"
            ),
        }
    }

    /// What should be done about a failed delivery cannot be, and is tried again in `retry_in`.
    pub fn not_stored(
        &self,
        delivery: &Delivery,
        disposition: Disposition,
        place: &str,
        error: &StoreError,
        retry_in: Duration,
    ) {
        let Some(fate) = fate(disposition) else { return };
        let noted = self.unstored.note(fate, &error.to_string(), &delivery.message);
        self.say_more_unstored(noted.before);
        if noted.in_full {
            tracing::error!(
                target = %self.target, subject = delivery.message.subject, %error, ?disposition,
                stream = place, retry_in = %humantime::format_duration(retry_in),
                "cannot store what was not delivered; it stays unacked until it can be stored"
            );
        }
    }

    /// The answer to `message` cannot be published; it is tried again in `retry_in`, or never.
    pub fn not_replied(&self, message: &Message, error: &ReplyError, retry_in: Option<Duration>) {
        let Some(unsaid) = lock(&self.unreplied).line(Instant::now()) else { return };
        let (target, subject, id) = (&self.target, &message.subject, message.webhook_id());
        match retry_in {
            Some(wait) => tracing::error!(
                %target, subject, id, %error, unsaid, retry_in = %humantime::format_duration(wait),
                "cannot publish an answer; its message stays unacked until it can be published"
            ),
            None => tracing::warn!(%target, subject, id, %error, unsaid, "an answer goes nowhere"),
        }
    }

    /// A dead letter of `message` is stored, and lacks what was `omitted`.
    pub fn incomplete(&self, message: &Message, omitted: Omitted) {
        self.incomplete.note(message, self.target.as_str(), omitted);
    }

    /// Writes the sums that are due. To be called every few seconds.
    pub fn sum_up(&self) {
        self.say_more_failed(self.failed.due());
        self.say_more_unstored(self.unstored.due());
        Incomplete::say_more(self.incomplete.0.due());
    }

    /// Writes the sums of what has not been said, when nothing more is to come.
    pub fn close(&self) {
        self.say_more_failed(self.failed.close());
        self.say_more_unstored(self.unstored.close());
        Incomplete::say_more(self.incomplete.0.close());
    }

    fn say_more_failed(&self, summary: Option<Summary>) {
        let Some(Summary { waiting, given_up, error, range }) = summary else { return };
        let (stream, first_sequence, last_sequence) = ends(range.as_ref());
        tracing::warn!(
            target = %self.target, retried = waiting, dead_lettered = given_up, error, stream, first_sequence,
            last_sequence, within = %humantime::format_duration(WINDOW), "more failures, summed up"
        );
    }

    fn say_more_unstored(&self, summary: Option<Summary>) {
        let Some(Summary { waiting, given_up, error, .. }) = summary else { return };
        tracing::error!(
            target = %self.target, retries = waiting, dead_letters = given_up, error,
            within = %humantime::format_duration(WINDOW), "cannot store what was not delivered, summed up"
        );
    }
}

/// What is said of messages in the retry queue that belong to no target.
#[derive(Debug, Default)]
pub struct QueueJournal {
    strange: Spoken,
    unknown: Spoken,
    unstored: Spoken,
    incomplete: Incomplete,
    not_renewed: Mutex<Sparing>,
    stuck: Mutex<Sparing>,
}

impl QueueJournal {
    /// A message is not natshook's.
    pub fn strange(&self, message: &Message, error: &str) {
        let noted = self.strange.note(Fate::GivenUp, error, message);
        Self::say_more_strange(noted.before);
        if noted.in_full {
            tracing::error!(
                subject = message.subject,
                error,
                "a message in the retry queue is not natshook's; set aside as a dead letter"
            );
        }
    }

    /// A delivery goes to a target that the config does not have.
    pub fn unknown(&self, message: &Message, target: &str) {
        let noted = self.unknown.note(Fate::Waits, target, message);
        Self::say_more_unknown(noted.before);
        if noted.in_full {
            tracing::warn!(target, "a delivery waits for a target that the config does not have");
        }
    }

    /// What is given up cannot be stored.
    pub fn not_stored(&self, message: &Message, target: &str, error: &StoreError) {
        let noted = self.unstored.note(Fate::GivenUp, &error.to_string(), message);
        Self::say_more_unstored(noted.before);
        if noted.in_full {
            tracing::error!(target, %error, "cannot store a dead letter; it is tried again");
        }
    }

    /// A dead letter of `message` is stored, and lacks what was `omitted`.
    pub fn incomplete(&self, message: &Message, target: &str, omitted: Omitted) {
        self.incomplete.note(message, target, omitted);
    }

    /// A delivery that has been handed out often cannot be stored anew.
    pub fn not_renewed(&self, error: &StoreError) {
        if let Some(unsaid) = lock(&self.not_renewed).line(Instant::now()) {
            tracing::warn!(%error, unsaid, "cannot renew a waiting delivery; it goes back as it is");
        }
    }

    /// A replayed delivery waits for the dead letter that it was.
    pub fn stuck(&self, target: &str, error: &BrokerError) {
        if let Some(unsaid) = lock(&self.stuck).line(Instant::now()) {
            tracing::warn!(
                target, %error, unsaid,
                "a replayed delivery waits: the dead letter that it was cannot be removed"
            );
        }
    }

    /// Writes the sums that are due. To be called every few seconds.
    pub fn sum_up(&self) {
        Self::say_more_strange(self.strange.due());
        Self::say_more_unknown(self.unknown.due());
        Self::say_more_unstored(self.unstored.due());
        Incomplete::say_more(self.incomplete.0.due());
    }

    /// Writes the sums of what has not been said, when nothing more is to come.
    pub fn close(&self) {
        Self::say_more_strange(self.strange.close());
        Self::say_more_unknown(self.unknown.close());
        Self::say_more_unstored(self.unstored.close());
        Incomplete::say_more(self.incomplete.0.close());
    }

    fn say_more_strange(summary: Option<Summary>) {
        let Some(Summary { given_up, error, .. }) = summary else { return };
        tracing::error!(count = given_up, error, "messages in the retry queue are not natshook's, summed up");
    }

    fn say_more_unknown(summary: Option<Summary>) {
        let Some(Summary { waiting, error: target, .. }) = summary else { return };
        tracing::warn!(
            count = waiting,
            target,
            "deliveries wait for targets that the config does not have, summed up"
        );
    }

    fn say_more_unstored(summary: Option<Summary>) {
        let Some(Summary { given_up, error, .. }) = summary else { return };
        tracing::error!(count = given_up, error, "cannot store dead letters, summed up");
    }
}

/// What is said of dead letters that lack something.
#[derive(Debug, Default)]
struct Incomplete(Spoken);

impl Incomplete {
    fn note(&self, message: &Message, target: &str, omitted: Omitted) {
        if let Some(bytes) = omitted.headers
            && self.may_say(message, "headers")
        {
            tracing::error!(
                target,
                bytes,
                "a dead letter is stored without the message's headers: a stream takes 64 KiB of them"
            );
        }
        if let Some(too_large) = omitted.body
            && self.may_say(message, "body")
        {
            tracing::error!(
                target,
                bytes = too_large.bytes,
                max_payload = too_large.max_payload,
                "a dead letter is stored without its body: the server's max_payload is too small for it"
            );
        }
    }

    fn may_say(&self, message: &Message, lacks: &str) -> bool {
        let noted = self.0.note(Fate::GivenUp, lacks, message);
        Self::say_more(noted.before);
        noted.in_full
    }

    fn say_more(summary: Option<Summary>) {
        let Some(Summary { given_up, error: mostly, .. }) = summary else { return };
        tracing::error!(
            count = given_up,
            mostly,
            "dead letters are stored without headers or body, summed up"
        );
    }
}

/// A failure log that several deliveries share.
#[derive(Debug, Default)]
struct Spoken(Mutex<FailureLog>);

impl Spoken {
    fn note(&self, fate: Fate, error: &str, message: &Message) -> Noted {
        self.log().note(&Failure { fate, error, place: place(message) }, Instant::now())
    }

    fn due(&self) -> Option<Summary> {
        self.log().due(Instant::now())
    }

    fn close(&self) -> Option<Summary> {
        self.log().close()
    }

    fn log(&self) -> MutexGuard<'_, FailureLog> {
        lock(&self.0)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fate(disposition: Disposition) -> Option<Fate> {
    match disposition {
        Disposition::Ack | Disposition::Skip => None,
        Disposition::Retry { .. } => Some(Fate::Waits),
        Disposition::DeadLetter(_) => Some(Fate::GivenUp),
    }
}

fn place(message: &Message) -> Option<(&Arc<str>, u64)> {
    match &message.origin {
        Origin::Stored { stream, sequence } => Some((stream, *sequence)),
        Origin::Passing { .. } => None,
    }
}

fn ends(range: Option<&Range>) -> (Option<&str>, Option<u64>, Option<u64>) {
    match range {
        None => (None, None, None),
        Some(range) => (Some(&range.stream), Some(range.first), Some(range.last)),
    }
}
