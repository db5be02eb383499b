//! The `batch` table as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    batch_value::{BatchAnswer, BatchFormat},
    field::Field,
    limits::*,
    value::{Size, Span, Text},
};

/// Several messages in one request. It goes when it is full by number or by size, or when its first message has waited
/// long enough.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Batch {
    /// The most messages in one request.
    #[schemars(extend("default" = BATCH_MESSAGES_DEFAULT, "minimum" = BATCH_MESSAGES.start(), "maximum" = BATCH_MESSAGES.end()))]
    pub(in crate::config) max_messages: Field<u64>,
    /// The most bytes of one request's body. A message that is larger goes alone.
    #[schemars(extend("default" = size(BATCH_BYTES_DEFAULT), "x-range" = format!("1024 to {}", size(*BATCH_BYTES.end()))))]
    pub(in crate::config) max_bytes: Field<Size>,
    /// How long the first message of a batch waits for others.
    #[schemars(extend("default" = span(BATCH_WAIT_DEFAULT), "x-range" = span_range(&BATCH_WAIT)))]
    pub(in crate::config) max_wait: Field<Span>,
    /// What the body is: "json-array" (one JSON array of the messages), "ndjson" (a message a line), or
    /// "cloudevents-batch" (one JSON array of CloudEvents in structured mode).
    #[schemars(extend("default" = BATCH_FORMAT))]
    pub(in crate::config) r#as: Field<BatchFormat>,
    /// What an answer says about each message: "whole" (its status holds for all), "multi-status" (a 207 has a status for
    /// each), or { failed = "/pointer" } (a 2xx lists those that failed, at this JSON pointer).
    #[schemars(extend("default" = BATCH_ANSWER))]
    pub(in crate::config) answer: Field<BatchAnswer>,
}

/// Where an answer lists the messages that failed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(in crate::config) struct BatchFailedList {
    /// A JSON pointer (RFC 6901) to the list, such as "/failed"; an empty text for the whole body.
    #[schemars(extend("examples" = ["/failed"]))]
    pub(in crate::config) failed: Field<Text>,
}
