//! As what kind of event messages are sent, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{field::Field, value::Text};

/// What messages that are no CloudEvents become.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct CloudEvents {
    /// The source of the events: a URI reference, as a template. Default: /natshook/ and the stream.
    #[schemars(extend("examples" = ["https://shop.example/orders"]))]
    pub(in crate::config) source: Field<Text>,
    /// The type of the events, as a template. Default: the message's subject.
    #[serde(rename = "type")]
    #[schemars(extend("examples" = ["com.example.{{ subject }}"]))]
    pub(in crate::config) kind: Field<Text>,
}
