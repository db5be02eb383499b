//! Templates: text with places for parts of a message, such as `eu-{{ subject[1] }}`. A place names one value and computes
//! nothing, so that rendering takes no longer than the message is long. What the text is for, and how values are
//! escaped there, is the business of whoever renders it.

use std::{cell::OnceCell, fmt};

use serde_json::Value;

use super::{json_error, misread::Misread, template_read};
use crate::message::Message;

/// A text with places for parts of a message. Printed without the text around them, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(pub(super) Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Place(Place),
}

/// One `{{ … }}`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: Source,
    /// What stands there when the message has no such part.
    pub(super) default: Option<String>,
    /// How it is written, without the default.
    pub(super) written: String,
}

/// The part of a message that a place names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Subject,
    /// A token of the subject, from 0.
    Token(usize),
    Header(String),
    Payload(Vec<Step>),
}

/// A step into a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    Index(usize),
}

impl Template {
    /// Whether `text` has places at all.
    #[must_use]
    pub fn has_places(text: &str) -> bool {
        text.contains(template_read::OPEN)
    }

    /// Reads `text`.
    ///
    /// # Errors
    /// A place is not closed, or names what a message does not have.
    pub fn new(text: &str) -> Result<Self, Misread> {
        template_read::read(text).map(Self)
    }

    /// The texts around the places.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Place(_) => None,
        })
    }

    /// The text for a message, with its values as they are.
    ///
    /// # Errors
    /// The message has no such part, and there is no default; which, in one line without anything from the message.
    pub fn render(&self, parts: &Parts<'_>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Place(place) => text.push_str(&place.value(parts)?),
            }
        }
        Ok(text)
    }
}

impl Place {
    pub(super) fn value(&self, parts: &Parts<'_>) -> Result<String, String> {
        match parts.find(&self.source) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => self.default.clone().ok_or_else(|| {
                format!(
                    "{} is missing; to do without it write {} | default(\"…\")",
                    self.written, self.written
                )
            }),
            Err(problem) => Err(format!("{}: {problem}", self.written)),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Place(place) => Some(place.written.as_str()),
        });
        f.write_str("Template")?;
        f.debug_list().entries(places).finish()
    }
}

/// The parts of a message; its payload is read when the first place asks for it.
#[derive(Debug)]
pub struct Parts<'a> {
    message: &'a Message,
    payload: OnceCell<Result<Value, String>>,
}

impl<'a> Parts<'a> {
    /// The parts of `message`. Nothing is read yet.
    #[must_use]
    pub fn new(message: &'a Message) -> Self {
        Self { message, payload: OnceCell::new() }
    }

    /// The value as text; `None` if the message has none, or null.
    fn find(&self, source: &Source) -> Result<Option<String>, String> {
        match source {
            Source::Subject => Ok(Some(self.message.subject.clone())),
            Source::Token(index) => Ok(self.message.subject.split('.').nth(*index).map(str::to_owned)),
            Source::Header(name) => Ok(self.message.headers.get(name).map(str::to_owned)),
            Source::Payload(steps) => {
                let read = || {
                    serde_json::from_slice(&self.message.payload)
                        .map_err(|error| format!("the payload is not JSON: {}", json_error(&error)))
                };
                let mut value = self.payload.get_or_init(read).as_ref().map_err(Clone::clone)?;
                for step in steps {
                    let inner = match step {
                        Step::Field(name) => value.get(name),
                        Step::Index(index) => value.get(index),
                    };
                    let Some(inner) = inner else { return Ok(None) };
                    value = inner;
                }
                as_text(value)
            }
        }
    }
}

fn as_text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(bool) => Ok(Some(bool.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) => Err("is a list, and not a text, a number, true or false".to_owned()),
        Value::Object(_) => Err("is an object, and not a text, a number, true or false".to_owned()),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
