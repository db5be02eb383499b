//! What a target asks its receiver and what it tells of its answers, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    field::Field,
    limits::*,
    value::{OneOrMore, Size, Text},
    words::ReplyOn,
};

/// Whether the receiver is asked, and by whom.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(in crate::config) struct HandshakeTable {
    /// The DNS name of the system that sends (WebHook-Request-Origin), the same for all its machines. Default: the
    /// instance's name.
    #[schemars(extend("examples" = ["events.example.com"]))]
    pub(in crate::config) origin: Field<Text>,
}

/// What is published of the receiver's answers. With source = "core" an answer goes to whoever waits for it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Reply {
    /// Where answers are published: a subject, with {{ subject }} for the message's own. With source = "core" a message
    /// that carries a reply subject is answered there instead, and this may be left out.
    #[schemars(extend("examples" = ["answers.{{ subject }}"]))]
    pub(in crate::config) subject: Field<Text>,
    /// Headers of the answer that are published with it, beside its Content-Type.
    #[schemars(extend("default" = [], "examples" = [["X-Id"]]))]
    pub(in crate::config) headers: Field<OneOrMore<Text>>,
    /// The most bytes of an answer's body that are published; of a longer one only the beginning is.
    #[schemars(extend("default" = size(REPLY_BODY_DEFAULT), "x-range" = format!("0 to {}", size(*REPLY_BODY.end()))))]
    pub(in crate::config) max_body_bytes: Field<Size>,
    /// Which answers are published: "delivered" (those that mean success), or "answered" (also the last one of a delivery
    /// that is given up).
    #[schemars(extend("default" = REPLY_ON))]
    pub(in crate::config) on: Field<ReplyOn>,
}
