//! How the values of a `batch` table are written. Bounds are the business of `check`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    field::Written,
    raw::BatchFailedList,
    value::{NotAllowed, word_or_table},
};
use crate::batch::Format;

/// What a batch's body is.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum BatchFormat {
    /// One JSON array of the messages.
    JsonArray,
    /// A message a line.
    Ndjson,
    /// One JSON array of CloudEvents.
    #[serde(rename = "cloudevents-batch")]
    CloudEvents,
}

impl Written for BatchFormat {
    const ALLOWED: &'static str = "\"json-array\", \"ndjson\" or \"cloudevents-batch\"";
}

impl From<BatchFormat> for Format {
    fn from(written: BatchFormat) -> Self {
        match written {
            BatchFormat::JsonArray => Self::JsonArray,
            BatchFormat::Ndjson => Self::Ndjson,
            BatchFormat::CloudEvents => Self::CloudEvents,
        }
    }
}

/// What an answer to a batch says about each message: a word, or where the failed ones are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(inline, !try_from, untagged, extend("examples" = ["whole", "multi-status", { "failed": "/failed" }]))]
pub(super) enum BatchAnswer {
    Word(BatchAnswerWord),
    Table(BatchFailedList),
}

/// What an answer to a batch says about each message.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum BatchAnswerWord {
    /// Its status holds for all.
    Whole,
    /// A 207 has a status for each.
    MultiStatus,
}

impl Written for BatchAnswer {
    const ALLOWED: &'static str = "\"whole\", \"multi-status\", or a table such as { failed = \"/failed\" }";
}

impl TryFrom<Value> for BatchAnswer {
    type Error = NotAllowed;

    fn try_from(written: Value) -> Result<Self, NotAllowed> {
        word_or_table(written, Self::Word, Self::Table)
    }
}
