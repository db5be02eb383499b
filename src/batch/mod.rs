//! Batches: several deliveries of a target that go out in one request. Here is when a batch is full, what its body is,
//! and what an answer says about each of its members. Pure but for `batcher`, by which a delivery joins. Who sends a
//! batch is `connector::batches`; what becomes of each member is for `delivery`.

mod answer;
mod batcher;
mod body;
mod forming;
mod judgement;
mod request;

use std::{num::NonZeroUsize, time::Duration};

pub use answer::{AnswerRule, Item, UnreadableAnswer, read};
pub use batcher::{Batcher, Member, MemberEnd, batcher};
pub use body::{Format, NotJson};
pub use forming::{Forming, halves};
pub use judgement::{Judged, Judgement, judge};
pub use request::{Entry, request, single};

/// How a target's deliveries are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most messages in one request.
    pub max_messages: NonZeroUsize,
    /// The most bytes of one request's body; a message that is larger goes alone.
    pub max_bytes: usize,
    /// How long the first message of a batch waits for others.
    pub max_wait: Duration,
    /// What the body looks like.
    pub format: Format,
    /// What an answer says about each message.
    pub answer: AnswerRule,
}
