//! The tests of targets, valid by construction: a message, and what the target makes of it. Nothing of them is used while
//! natshook runs.

use bytes::Bytes;
use http::HeaderName;
use serde_json::Value;

use crate::{disposition::Reason, message::Headers, target::TargetName};

/// A test of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTest {
    /// The target.
    pub target: TargetName,
    /// What the test is about.
    pub name: String,
    /// The message's subject, if the test names one.
    pub subject: Option<String>,
    /// The message's headers.
    pub headers: Headers,
    /// The message's payload.
    pub payload: Bytes,
    /// What becomes of it.
    pub expected: Expected,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// The filter keeps it from the target.
    Skip,
    /// It is a dead letter for this reason.
    Refused(Reason),
    /// A request is sent.
    Request(ExpectedRequest),
}

/// A request, as far as a test names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedRequest {
    /// Path and query.
    pub path: Option<String>,
    /// Some of the headers.
    pub headers: Vec<(HeaderName, String)>,
    /// The body.
    pub body: Option<ExpectedBody>,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpectedBody {
    /// Exactly this text.
    Text(String),
    /// This JSON value, however it is written.
    Json(Value),
}
