//! Which messages are delivered one after the other, and what may be attempted at a moment: `lines` holds the messages
//! of each key in the order of their stream. Pure: what is done about it is the business of `connector::ordered`.

mod lines;
#[cfg(test)]
mod tests;

use std::{num::NonZeroUsize, sync::Arc};

use http::HeaderName;

pub use lines::{Arrival, Lines, Loaded, Parked, Place, Start};

use crate::message::Message;

/// What messages have in common that are delivered one after the other.
pub type Key = Arc<str>;

/// By what a target's messages are told apart: those of one key are delivered one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of the target's messages have one key.
    Target,
    /// The subject.
    Subject,
    /// So many tokens into the subject, from 1. Shorter subjects have the empty key.
    Token(NonZeroUsize),
    /// The first value of a header of the message. Messages without it have the empty key.
    Header(HeaderName),
}

impl Order {
    /// The key of `message`.
    #[must_use]
    pub fn key(&self, message: &Message) -> Key {
        let key = match self {
            Self::Target => "",
            Self::Subject => &message.subject,
            Self::Token(number) => message.subject.split('.').nth(number.get() - 1).unwrap_or_default(),
            Self::Header(name) => message.headers.get(name.as_str()).unwrap_or_default(),
        };
        Key::from(key)
    }
}
