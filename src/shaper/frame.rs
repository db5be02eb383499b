//! What natshook and its workers say to each other, and how: frames with their length before them. Both sides are the same
//! program, so that nothing here has to stay as it is.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{message::Message, shape::Failed};

/// The most bytes of a frame: twice the largest payload, for what escapes add.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// How long the length before a frame is, in bytes.
pub(super) const LENGTH_BYTES: usize = 4;

/// What a worker is for; its first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// The filter, if it asks for one.
    pub(super) filter: Option<String>,
    /// The transform, if there is one.
    pub(super) transform: Option<String>,
    /// The longest body that the transform may make.
    pub(super) max_payload_bytes: usize,
}

/// What a worker is asked of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Filter,
    Transform,
}

/// A question; the payload follows in a frame of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) stage: Stage,
    pub(super) subject: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Question {
    pub(super) fn of(stage: Stage, message: &Message) -> Self {
        Self { stage, subject: message.subject.clone(), headers: message.headers.0.clone() }
    }
}

/// What a worker answers when nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is up.
    Ready,
    /// The filter wants the message.
    Wanted,
    /// It does not.
    Unwanted,
    /// The transform made this.
    Body(Bytes),
}

impl Answer {
    /// The body; none where the answer is another.
    pub(super) fn into_body(self) -> Bytes {
        match self {
            Self::Body(body) => body,
            Self::Ready | Self::Wanted | Self::Unwanted => Bytes::new(),
        }
    }
}

const READY: u8 = b'r';
const WANTED: u8 = b'w';
const UNWANTED: u8 = b'u';
const BODY: u8 = b'b';
const FAILED: u8 = b'f';

/// An answer as a frame's content: a letter for its kind, and what belongs to it.
pub(super) fn answer_bytes(answer: &Result<Answer, Failed>) -> Vec<u8> {
    match answer {
        Ok(Answer::Ready) => vec![READY],
        Ok(Answer::Wanted) => vec![WANTED],
        Ok(Answer::Unwanted) => vec![UNWANTED],
        Ok(Answer::Body(body)) => [&[BODY], &body[..]].concat(),
        Err(Failed { error, detail }) => {
            [&[FAILED], serde_json::json!([error, detail]).to_string().as_bytes()].concat()
        }
    }
}

/// Reads back what [`answer_bytes`] wrote; `None` for anything else.
pub(super) fn read_answer(mut bytes: Bytes) -> Option<Result<Answer, Failed>> {
    if bytes.is_empty() {
        return None;
    }
    let rest = bytes.split_off(1);
    match bytes[0] {
        READY => Some(Ok(Answer::Ready)),
        WANTED => Some(Ok(Answer::Wanted)),
        UNWANTED => Some(Ok(Answer::Unwanted)),
        BODY => Some(Ok(Answer::Body(rest))),
        FAILED => {
            let (error, detail) = serde_json::from_slice(&rest).ok()?;
            Some(Err(Failed { error, detail }))
        }
        _ => None,
    }
}

/// The length that stands before a frame of `bytes`.
///
/// # Errors
/// It is longer than any frame.
pub(super) fn length(bytes: &[u8]) -> io::Result<[u8; LENGTH_BYTES]> {
    match u32::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= FRAME_BYTES_MAX => Ok(length.to_be_bytes()),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// How long the frame is that follows.
///
/// # Errors
/// It is longer than any frame.
pub(super) fn read_length(bytes: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    if length <= FRAME_BYTES_MAX { Ok(length) } else { Err(io::ErrorKind::FileTooLarge.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_back() {
        let failed = Failed { error: "no".to_owned(), detail: Some("no \"x\"".to_owned()) };
        for answer in [
            Ok(Answer::Ready),
            Ok(Answer::Wanted),
            Ok(Answer::Unwanted),
            Ok(Answer::Body(Bytes::from_static(b"\x00{}"))),
            Ok(Answer::Body(Bytes::new())),
            Err(failed),
        ] {
            assert_eq!(read_answer(answer_bytes(&answer).into()), Some(answer));
        }
        for nonsense in ["", "x", "f", "fno"] {
            assert_eq!(read_answer(nonsense.into()), None);
        }
    }

    #[test]
    fn a_length_is_read_back_and_has_a_bound() {
        assert_eq!(length(b"abc").and_then(read_length).ok(), Some(3));
        assert!(read_length(u32::MAX.to_be_bytes()).is_err());
    }
}
