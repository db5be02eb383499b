//! How the keys of a target that choose among a few things are written. What is chosen is judged in `check`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    field::Written,
    raw::{ExpectedRequest, HandshakeTable, OrderTable},
    value::{NotAllowed, word_or_table},
};
use crate::shape;

/// What is delivered one after the other: a word, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(inline, !try_from, untagged, extend("examples" = ["target", "subject", { "token": 2 }, { "header": "Key" }]))]
pub(super) enum Order {
    Word(OrderWord),
    Table(OrderTable),
}

/// An order that needs no more than a word.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum OrderWord {
    /// Everything side by side.
    None,
    /// All of the target's messages one after the other.
    Target,
    /// Those of one subject.
    Subject,
}

impl Written for Order {
    const ALLOWED: &'static str = "\"none\", \"target\", \"subject\", { token = 2 } or { header = \"Key\" }";
}

impl TryFrom<Value> for Order {
    type Error = NotAllowed;

    fn try_from(written: Value) -> Result<Self, NotAllowed> {
        word_or_table(written, Self::Word, Self::Table)
    }
}

/// Whether a receiver is asked: yes, no, or a table that says by whom.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(inline, !try_from, untagged, extend("examples" = [true, { "origin": "events.example.com" }]))]
pub(super) enum Handshake {
    Flag(bool),
    Table(HandshakeTable),
}

impl Written for Handshake {
    const ALLOWED: &'static str = "true, false, or a table such as { origin = \"events.example.com\" }";
}

impl TryFrom<Value> for Handshake {
    type Error = NotAllowed;

    fn try_from(written: Value) -> Result<Self, NotAllowed> {
        let read = match written {
            Value::Bool(flag) => Some(Self::Flag(flag)),
            table @ Value::Object(_) => serde_json::from_value(table).ok().map(Self::Table),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        };
        read.ok_or(NotAllowed)
    }
}

/// As what messages are sent.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum Format {
    Raw,
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
    #[serde(rename = "cloudevents-structured")]
    CloudEventsStructured,
}

impl Written for Format {
    const ALLOWED: &'static str = "\"raw\", \"cloudevents-binary\" or \"cloudevents-structured\"";
}

/// Which answers are published.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum ReplyOn {
    Delivered,
    Answered,
}

impl Written for ReplyOn {
    const ALLOWED: &'static str = "\"delivered\" or \"answered\"";
}

/// What is done with a message that the filter cannot judge.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum OnFilterError {
    /// It becomes a dead letter (filter_error).
    DeadLetter,
    /// It is delivered as if the filter were true.
    Deliver,
    /// It is left out as if the filter were false.
    Skip,
}

impl Written for OnFilterError {
    const ALLOWED: &'static str = "\"dead_letter\", \"deliver\" or \"skip\"";
}

impl From<OnFilterError> for shape::OnFilterError {
    fn from(written: OnFilterError) -> Self {
        match written {
            OnFilterError::DeadLetter => Self::DeadLetter,
            OnFilterError::Deliver => Self::Deliver,
            OnFilterError::Skip => Self::Skip,
        }
    }
}

/// A payload or a body: a text as it is, anything else as JSON.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline, title = "text or JSON")]
pub(super) struct Content(pub(super) Value);

impl Written for Content {
    const ALLOWED: &'static str = "a text, or a value that is written as JSON";
}

/// What a test expects: a word, or a request.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(inline, !try_from, untagged)]
pub(super) enum Expectation {
    Word(ExpectedEnd),
    Request(ExpectedRequest),
}

/// What becomes of a message that is not sent.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum ExpectedEnd {
    /// The filter keeps it from the target.
    Skip,
    /// It becomes a dead letter, for the filter.
    FilterError,
    /// It becomes a dead letter, for the transform or a template.
    TransformError,
}

impl Written for Expectation {
    const ALLOWED: &'static str =
        "\"skip\", \"filter_error\", \"transform_error\", or a table of path, headers and body";
}

impl TryFrom<Value> for Expectation {
    type Error = NotAllowed;

    fn try_from(written: Value) -> Result<Self, NotAllowed> {
        word_or_table(written, Self::Word, Self::Request)
    }
}

/// How a client proves itself to a token endpoint (RFC 6749, 2.3.1).
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum ClientAuth {
    /// By HTTP basic authentication.
    Basic,
    /// By parameters of the request.
    Body,
}

impl Written for ClientAuth {
    const ALLOWED: &'static str = "\"basic\" or \"body\"";
}

/// An algorithm of HTTP Message Signatures, by its registered name (RFC 9421, 6.2.2).
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum SignatureAlgorithm {
    /// EdDSA with Curve25519.
    Ed25519,
    /// HMAC with SHA-256.
    HmacSha256,
    /// ECDSA with P-256 and SHA-256.
    EcdsaP256Sha256,
    /// ECDSA with P-384 and SHA-384.
    EcdsaP384Sha384,
    /// RSASSA-PSS with SHA-512.
    RsaPssSha512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "rsa-v1_5-sha256")]
    RsaV15Sha256,
}

impl Written for SignatureAlgorithm {
    const ALLOWED: &'static str = "\"ed25519\", \"hmac-sha256\", \"ecdsa-p256-sha256\", \"ecdsa-p384-sha384\", \
                                   \"rsa-pss-sha512\" or \"rsa-v1_5-sha256\"";
}
