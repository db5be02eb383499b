//! How a received request looks: lines for people, or a JSON object. Strangers may have sent it, so nothing of it reaches
//! the terminal that could steer it.

use std::{collections::HashSet, fmt::Write, time::SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};

use crate::cli::{
    REDACTED,
    paint::{Paint, body, clock, harmless},
};

/// How requests are printed.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Form {
    /// For people.
    Lines(Paint),
    /// One JSON object a line.
    Json,
}

/// What became of a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// There is none.
    None,
    /// It is right.
    Verified,
    /// It is not.
    Wrong,
    /// No target of the config has the path and a secret.
    Unknown,
}

impl Signature {
    fn words(self) -> &'static str {
        match self {
            Self::None => "not signed",
            Self::Verified => "signature verified",
            Self::Wrong => "signature NOT verified",
            Self::Unknown => "signature not verified: no target has this path and a secret",
        }
    }

    /// For programs.
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Verified => "verified",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
        }
    }
}

/// A request and its answer.
pub(super) struct Received<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) payload: &'a [u8],
    pub(super) status: StatusCode,
    pub(super) signature: Signature,
    /// Headers whose values are not shown.
    pub(super) secret: &'a HashSet<HeaderName>,
}

impl Received<'_> {
    pub(super) fn shown(&self, form: Form) -> String {
        match form {
            Form::Lines(paint) => self.lines(paint),
            Form::Json => format!("{}\n", self.json()),
        }
    }

    fn lines(&self, paint: Paint) -> String {
        let code = self.status.as_u16().to_string();
        let code = if self.status.is_success() { paint.good(&code) } else { paint.bad(&code) };
        let signature = match self.signature {
            Signature::None => self.signature.words().to_owned(),
            Signature::Verified => paint.good(self.signature.words()),
            Signature::Wrong | Signature::Unknown => paint.bad(self.signature.words()),
        };
        let mut text = format!(
            "\n{} {} answered {code}, {signature}\n",
            paint.dim(&clock()),
            // A query may hold a secret as well.
            paint.bold(&format!("{} {}", self.method, harmless(self.uri.path()))),
        );
        for (name, value) in self.headers {
            let value = harmless(&self.value(name, value));
            let _ = writeln!(text, "    {}", paint.dim(&format!("{name}: {value}")));
        }
        text.push_str(&body(self.payload));
        text
    }

    fn json(&self) -> Value {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), self.value(name, value).into()))
            .collect();
        json!({
            "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            "method": self.method.as_str(),
            "path": self.uri.path(),
            "status": self.status.as_u16(),
            "signature": self.signature.word(),
            "headers": headers,
            // Not text: null, and its size says that there was one.
            "body": std::str::from_utf8(self.payload).ok(),
            "body_bytes": self.payload.len(),
        })
    }

    fn value(&self, name: &HeaderName, value: &HeaderValue) -> String {
        if self.secret.contains(name) {
            return REDACTED.to_owned();
        }
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_targets_prove_themselves_with_is_not_shown() {
        let secret = HashSet::from(["authorization", "x-key"].map(HeaderName::from_static));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer hunter2".parse().unwrap());
        headers.insert("x-key", "hunter2".parse().unwrap());
        headers.insert("x-source", "shown".parse().unwrap());
        let received = Received {
            method: &Method::POST,
            uri: &Uri::from_static("/works?token=hunter2"),
            headers: &headers,
            payload: b"{}",
            status: StatusCode::OK,
            signature: Signature::None,
            secret: &secret,
        };
        for form in [Form::Lines(Paint::for_stdout()), Form::Json] {
            let text = received.shown(form);
            assert!(text.contains("/works") && text.contains("shown") && !text.contains("hunter2"), "{text}");
        }
    }
}
