//! Answers that say of each member of a batch what became of it. Who sent the answer may be wrong or hostile: what is not
//! said clearly counts as not said at all. What a status means is for `outcome`. Pure.

use bytes::Bytes;
use serde_json::Value;

use crate::{envelope::RESPONSE_BYTES_MAX, outcome::Answer};

/// The most characters that an error shows of what an answer names.
const SHOWN_CHARS_MAX: usize = 64;
/// By which keys an entry of an answer names a message by its id.
const ID_KEYS: [&str; 2] = ["id", "itemIdentifier"];
/// By which key it names one by its place in the batch, from 0.
const INDEX_KEY: &str = "index";
const STATUS_KEY: &str = "status";

/// What an answer to a batch says about its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerRule {
    /// Its status holds for all of them.
    Whole,
    /// A 207 has a status for each of them.
    MultiStatus,
    /// A 2xx lists those that failed.
    Failed {
        /// Where its body has the list: a JSON pointer (RFC 6901).
        pointer: String,
    },
}

/// What an answer says about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// It has a status of its own.
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of what the answer says about it.
        said: Bytes,
    },
    /// It failed, and nothing tells how.
    Failed {
        /// The beginning of what the answer says about it.
        said: Bytes,
    },
    /// It is not among those that failed.
    NotListed,
}

/// An answer that does not say of each member what became of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableAnswer {
    /// Not JSON, or more than is read of an answer.
    #[error("it is not JSON within the 64 KiB that are read ({0})")]
    NotJson(String),
    /// Nothing where the list should be.
    #[error("it has no list at {0:?}")]
    NoList(String),
    /// Something else than a list or a table.
    #[error("it is neither a list nor a table of statuses")]
    NoStatuses,
    /// An entry that names no message, or none of this batch.
    #[error("{0} names no message of this batch")]
    Stranger(String),
    /// An entry without a status from 200 to 599, or of a failed message with one below 300.
    #[error("{0} has no status that fits")]
    NoStatus(String),
    /// A message that is named twice.
    #[error("the message at index {0} is named twice")]
    Twice(usize),
    /// Messages without a status.
    #[error("{0} messages have no status")]
    Missing(usize),
}

/// What `answer` says about each of the members, whose ids are `ids`; `None` where its status holds for all.
///
/// # Errors
/// It should say that and does not.
pub fn read(rule: &AnswerRule, answer: &Answer, ids: &[&str]) -> Result<Option<Vec<Item>>, UnreadableAnswer> {
    let body: &[u8] = answer.kept.as_ref().map_or(&[], |kept| &kept.body);
    match (rule, answer.status) {
        (AnswerRule::MultiStatus, 207) => statuses(&parse(body)?, ids).map(Some),
        // Neither has a body (RFC 9110, 15.3.5 and 15.3.6): nothing failed.
        (AnswerRule::Failed { .. }, 204 | 205) => Ok(None),
        (AnswerRule::Failed { pointer }, 200..=299) => failed(&parse(body)?, pointer, ids).map(Some),
        (AnswerRule::Whole | AnswerRule::MultiStatus | AnswerRule::Failed { .. }, _) => Ok(None),
    }
}

fn parse(body: &[u8]) -> Result<Value, UnreadableAnswer> {
    serde_json::from_slice(body).map_err(|error| UnreadableAnswer::NotJson(error.to_string()))
}

/// Every member's status. A list has one entry each: all of them name their messages, or none does and they stand in the
/// order of the batch. A table has the messages' ids, or their indexes, as its keys.
fn statuses(answer: &Value, ids: &[&str]) -> Result<Vec<Item>, UnreadableAnswer> {
    let mut items = Items::new(ids);
    match answer {
        Value::Array(entries) => {
            let named = entries.iter().any(names_a_message);
            for (index, entry) in entries.iter().enumerate() {
                let index = if named { items.named(entry)? } else { items.at(index, entry)? };
                items.put(index, with_status(entry)?)?;
            }
        }
        Value::Object(entries) => {
            for (name, entry) in entries {
                let by_id = items.by_id(name);
                let index = by_id.or_else(|| name.parse().ok().filter(|index| *index < ids.len()));
                let index =
                    index.ok_or_else(|| UnreadableAnswer::Stranger(shown(&Value::from(name.as_str()))))?;
                items.put(index, with_status(entry)?)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(UnreadableAnswer::NoStatuses);
        }
    }
    items.all()
}

/// Those that the list at `pointer` names; the others are not listed.
fn failed(answer: &Value, pointer: &str, ids: &[&str]) -> Result<Vec<Item>, UnreadableAnswer> {
    let no_list = || UnreadableAnswer::NoList(pointer.to_owned());
    let entries = match answer.pointer(pointer).ok_or_else(no_list)? {
        Value::Array(entries) => entries.as_slice(),
        Value::Null => &[],
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return Err(no_list()),
    };
    let mut items = Items::new(ids);
    for entry in entries {
        let index = items.named(entry)?;
        items.put(index, as_failed(entry)?)?;
    }
    Ok(items.others_not_listed())
}

/// Whether an entry is a table that says which message it is about.
fn names_a_message(entry: &Value) -> bool {
    ID_KEYS.iter().chain([&INDEX_KEY]).any(|key| entry.get(key).is_some())
}

/// An entry's status: itself, or what stands under `status`.
fn status(entry: &Value) -> Option<&Value> {
    if entry.is_number() { Some(entry) } else { entry.get(STATUS_KEY) }
}

fn number(status: &Value) -> Option<u16> {
    status
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..=599).contains(status))
}

fn with_status(entry: &Value) -> Result<Item, UnreadableAnswer> {
    let status = status(entry).and_then(number).ok_or_else(|| UnreadableAnswer::NoStatus(shown(entry)))?;
    Ok(Item::Status { status, said: said(entry) })
}

/// A failed message may have a status, and then one of a failure.
fn as_failed(entry: &Value) -> Result<Item, UnreadableAnswer> {
    match entry.get(STATUS_KEY) {
        None | Some(Value::Null) => Ok(Item::Failed { said: said(entry) }),
        Some(status) => match number(status) {
            Some(status @ 300..) => Ok(Item::Status { status, said: said(entry) }),
            Some(_) | None => Err(UnreadableAnswer::NoStatus(shown(entry))),
        },
    }
}

fn said(entry: &Value) -> Bytes {
    let mut text = entry.to_string();
    text.truncate(text.floor_char_boundary(RESPONSE_BYTES_MAX));
    text.into()
}

fn shown(entry: &Value) -> String {
    let text = entry.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What has been said so far, by the members' places.
struct Items<'a> {
    ids: &'a [&'a str],
    said: Vec<Option<Item>>,
}

impl<'a> Items<'a> {
    fn new(ids: &'a [&'a str]) -> Self {
        Self { ids, said: vec![None; ids.len()] }
    }

    fn by_id(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    fn at(&self, index: usize, entry: &Value) -> Result<usize, UnreadableAnswer> {
        if index < self.ids.len() { Ok(index) } else { Err(UnreadableAnswer::Stranger(shown(entry))) }
    }

    /// Which message an entry names: a number is an index, a text an id, a table has one of both.
    fn named(&self, entry: &Value) -> Result<usize, UnreadableAnswer> {
        let by_index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
        let index = match entry {
            Value::Number(_) => by_index(entry),
            Value::String(id) => self.by_id(id),
            Value::Object(table) => match ID_KEYS.iter().find_map(|key| table.get(*key)) {
                Some(id) => id.as_str().and_then(|id| self.by_id(id)),
                None => table.get(INDEX_KEY).and_then(by_index),
            },
            Value::Null | Value::Bool(_) | Value::Array(_) => None,
        };
        self.at(index.unwrap_or(usize::MAX), entry)
    }

    fn put(&mut self, index: usize, item: Item) -> Result<(), UnreadableAnswer> {
        match self.said.get_mut(index) {
            Some(said @ None) => *said = Some(item),
            Some(Some(_)) | None => return Err(UnreadableAnswer::Twice(index)),
        }
        Ok(())
    }

    fn all(self) -> Result<Vec<Item>, UnreadableAnswer> {
        let missing = self.said.iter().filter(|said| said.is_none()).count();
        if missing == 0 { Ok(self.others_not_listed()) } else { Err(UnreadableAnswer::Missing(missing)) }
    }

    fn others_not_listed(self) -> Vec<Item> {
        self.said.into_iter().map(|said| said.unwrap_or(Item::NotListed)).collect()
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
