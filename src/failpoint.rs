//! Moments in the life of a delivery at which a test can end the process, as a crash would: the fault campaign
//! (`make chaos`) proves at each of them that nothing is lost. Nothing is decided here, and without the cargo feature
//! `failpoints` nothing of it is left in the binary.

/// A moment at which much may be done and little of it is safe yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// A message has been taken from the broker.
    Fetched,
    /// The receiver's answer has been read.
    Answered,
    /// A failed delivery is about to be stored in the retry queue.
    BeforeRetryPublish,
    /// The retry queue has confirmed it.
    AfterRetryPublish,
    /// A given-up delivery is about to be stored as a dead letter.
    BeforeDeadLetterPublish,
    /// The dead-letter stream has confirmed it.
    AfterDeadLetterPublish,
    /// A settled message is about to be acked.
    BeforeAck,
    /// The ack has been given to the connection.
    AfterAck,
}

impl Failpoint {
    /// Every one, in the order in which a delivery may meet them.
    pub const ALL: [Self; 8] = [
        Self::Fetched,
        Self::Answered,
        Self::BeforeRetryPublish,
        Self::AfterRetryPublish,
        Self::BeforeDeadLetterPublish,
        Self::AfterDeadLetterPublish,
        Self::BeforeAck,
        Self::AfterAck,
    ];

    /// Its name in the environment variable `FAILPOINTS`: `before-ack=20*off->1*return` ends natshook when it comes
    /// there for the 21st time.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Answered => "answered",
            Self::BeforeRetryPublish => "before-retry-publish",
            Self::AfterRetryPublish => "after-retry-publish",
            Self::BeforeDeadLetterPublish => "before-dead-letter-publish",
            Self::AfterDeadLetterPublish => "after-dead-letter-publish",
            Self::BeforeAck => "before-ack",
            Self::AfterAck => "after-ack",
        }
    }

    /// Goes on, unless a test wants the process to end here.
    #[cfg(feature = "failpoints")]
    pub fn pass(self) {
        fail::fail_point!(self.name(), |_| std::process::abort());
    }

    /// Goes on.
    #[cfg(not(feature = "failpoints"))]
    #[inline]
    pub fn pass(self) {}
}
