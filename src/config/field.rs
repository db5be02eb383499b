//! How a value is held between the file and its check: absent, good, or bad with what was found. Reading never
//! fails, so one error cannot hide another. What makes a good value valid is decided in `check`, never here.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::error::{Errors, KeyPath, Problem};

/// The most characters of a found text that an error shows.
const SHOWN_CHARS_MAX: usize = 80;

/// A type that a key can have.
pub(super) trait Written: DeserializeOwned {
    /// What is allowed, as the end of "expected …".
    const ALLOWED: &'static str;
    /// Whether an error may show what was found; false where it could be a secret.
    const SHOWN: bool = true;
}

/// The value of a key.
#[derive(Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Good(T),
    Bad {
        found: String,
    },
}

/// The table under a key.
#[derive(Default)]
pub(super) enum Section<T> {
    #[default]
    Absent,
    Good(T),
    Bad {
        found: String,
    },
}

impl<T> Field<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T> Section<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Written> Field<T> {
    /// The value; `None` when the key is absent, or bad and now among the errors.
    pub(super) fn take(self, path: &KeyPath, errors: &mut Errors) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Good(value) => Some(value),
            Self::Bad { found } => {
                errors.add(path, Problem::Unexpected { found, allowed: T::ALLOWED });
                None
            }
        }
    }

    /// The same for a key that has to be there.
    pub(super) fn require(self, path: &KeyPath, errors: &mut Errors) -> Option<T> {
        if matches!(self, Self::Absent) {
            errors.add(path, Problem::Missing { allowed: T::ALLOWED });
        }
        self.take(path, errors)
    }
}

impl<T: Default> Section<T> {
    /// The table; an absent one, or a bad one that is now among the errors, counts as empty.
    pub(super) fn open(self, path: &KeyPath, errors: &mut Errors) -> T {
        match self {
            Self::Absent => T::default(),
            Self::Good(table) => table,
            Self::Bad { found } => {
                errors.add(path, Problem::Unexpected { found, allowed: "a table" });
                T::default()
            }
        }
    }

    /// The table, if there is one.
    pub(super) fn take(self, path: &KeyPath, errors: &mut Errors) -> Option<T> {
        match self {
            Self::Absent => None,
            table => Some(table.open(path, errors)),
        }
    }
}

impl<'de, T: Written> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        // Environment variables are text: where text is not allowed, `64` and `true` in it are what they look like.
        let read = T::deserialize(&value).ok().or_else(|| serde_json::from_str(value.as_str()?).ok());
        Ok(match read {
            Some(value) => Self::Good(value),
            None => Self::Bad { found: if T::SHOWN { show(&value) } else { kind(&value).to_owned() } },
        })
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        // A derived struct would take a list as well, and read it as its fields in order.
        let read = if value.is_object() { T::deserialize(&value).ok() } else { None };
        Ok(read.map_or_else(|| Self::Bad { found: kind(&value).to_owned() }, Self::Good))
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            format!("{:?}…", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

impl Written for bool {
    const ALLOWED: &'static str = "true or false";
}

impl Written for u64 {
    const ALLOWED: &'static str = "a whole number";
}

impl Written for f64 {
    const ALLOWED: &'static str = "a number";
}

impl<T: Written> Written for Vec<Field<T>> {
    const ALLOWED: &'static str = "a list";
    const SHOWN: bool = T::SHOWN;
}

impl<T: DeserializeOwned> Written for Vec<Section<T>> {
    const ALLOWED: &'static str = "a list of tables";
    const SHOWN: bool = false;
}

impl<T: Written> Written for BTreeMap<String, Field<T>> {
    const ALLOWED: &'static str = "a table";
    const SHOWN: bool = false;
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for Section<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}
