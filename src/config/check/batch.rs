//! The `batch` table: how messages are put together, and what an answer says about each.

use std::num::NonZeroUsize;

use super::bounds::{bytes, count, duration};
use crate::{
    batch::{AnswerRule, Batching},
    cloud_event::Mode,
    config::{
        batch_value::{BatchAnswer, BatchAnswerWord, BatchFormat},
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
    },
    target::Target,
};

pub(super) fn check(raw: Section<raw::Batch>, path: &KeyPath, errors: &mut Errors) -> Option<Batching> {
    let raw = raw.take(path, errors)?;
    let max_messages = count(raw.max_messages, limits::BATCH_MESSAGES, &path.key("max_messages"), errors);
    let max_bytes = bytes(raw.max_bytes, limits::BATCH_BYTES, &path.key("max_bytes"), errors);
    let max_wait = duration(raw.max_wait, limits::BATCH_WAIT, &path.key("max_wait"), errors);
    let format = raw.r#as.take(&path.key("as"), errors).unwrap_or(BatchFormat::JsonArray);
    let answer = answer(raw.answer, &path.key("answer"), errors).unwrap_or(AnswerRule::Whole);
    let in_memory = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Some(Batching {
        max_messages: NonZeroUsize::new(in_memory(max_messages.unwrap_or(limits::BATCH_MESSAGES_DEFAULT)))?,
        max_bytes: in_memory(max_bytes.unwrap_or(limits::BATCH_BYTES_DEFAULT)),
        max_wait: max_wait.unwrap_or(limits::BATCH_WAIT_DEFAULT),
        format: format.into(),
        answer,
    })
}

/// What a target may not have beside `batch`: all that belongs to one message.
pub(super) fn exclusions(target: &Target, path: &KeyPath, errors: &mut Errors) {
    let mut exclude = |key: &str, why: &'static str| errors.add(&path.key(key), Problem::BesideBatch { why });
    if target.order.is_some() {
        exclude(
            "order",
            "a batch has messages of several keys side by side, and what fails of it comes again out of its turn",
        );
    }
    if target.reply.is_some() {
        exclude("reply", "an answer to many messages is no reply to one of them");
    }
    let Some(shape) = &target.shape else { return };
    if shape.path.is_some() {
        exclude("url", "a batch goes to one place, and this is made for each message");
    }
    if !shape.headers.is_empty() {
        exclude("headers", "a batch has one set of headers, and these are made for each message");
    }
    if shape.format.as_ref().is_some_and(|format| format.mode == Mode::Binary) {
        exclude(
            "format",
            "a batch has no headers for each event; \"cloudevents-structured\" has none either way",
        );
    }
}

fn answer(raw: Field<BatchAnswer>, path: &KeyPath, errors: &mut Errors) -> Option<AnswerRule> {
    match raw.take(path, errors)? {
        BatchAnswer::Word(BatchAnswerWord::Whole) => Some(AnswerRule::Whole),
        BatchAnswer::Word(BatchAnswerWord::MultiStatus) => Some(AnswerRule::MultiStatus),
        BatchAnswer::Table(table) => {
            let path = path.key("failed");
            let pointer = table.failed.require(&path, errors)?.0;
            if is_pointer(&pointer) {
                return Some(AnswerRule::Failed { pointer });
            }
            errors.add(&path, Problem::Pointer { found: pointer });
            None
        }
    }
}

/// Whether `text` is a JSON pointer (RFC 6901, 3).
fn is_pointer(text: &str) -> bool {
    let escapes_end = |rest: &str| rest.starts_with(['0', '1']);
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(escapes_end)
}
