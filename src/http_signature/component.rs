//! What of a request can be signed: what is derived from its line (RFC 9421, 2.2), and its headers (2.1). Pure.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, Method, Uri};

/// Headers that the connection sets after a request is signed, or that are the signature.
const NOT_SIGNED: [(&str, &str); 10] = [
    ("host", "the connection sets it; expected \"@authority\""),
    ("content-length", "the connection sets it; expected \"content-digest\""),
    ("connection", "the connection sets it"),
    ("transfer-encoding", "the connection sets it"),
    ("te", "the connection sets it"),
    ("trailer", "the connection sets it"),
    ("traceparent", "it is set after signing, and proxies change it"),
    ("tracestate", "it is set after signing, and proxies change it"),
    ("signature", "a signature cannot sign itself"),
    ("signature-input", "it is signed already"),
];

/// Why something cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// Nothing of a request has this name.
    #[error(
        "expected \"@method\", \"@target-uri\", \"@authority\", \"@scheme\", \"@request-target\", \"@path\", \"@query\" or \
         a header's name in lower case"
    )]
    Unknown,
    /// A header that is not there yet, or changes.
    #[error("which cannot be signed: {0}")]
    NotSigned(&'static str),
}

/// One thing that is signed. Shown by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// The method.
    Method,
    /// The whole URI.
    TargetUri,
    /// Host and port.
    Authority,
    /// `https` or `http`.
    Scheme,
    /// Path and query, as they stand in the request's first line.
    RequestTarget,
    /// The path.
    Path,
    /// The query with its question mark.
    Query,
    /// A header.
    Header(HeaderName),
}

impl Component {
    /// The one of this name.
    ///
    /// # Errors
    /// There is none, or it cannot be signed.
    pub fn new(name: &str) -> Result<Self, ComponentError> {
        Ok(match name {
            "@method" => Self::Method,
            "@target-uri" => Self::TargetUri,
            "@authority" => Self::Authority,
            "@scheme" => Self::Scheme,
            "@request-target" => Self::RequestTarget,
            "@path" => Self::Path,
            "@query" => Self::Query,
            _ => {
                if let Some((_, why)) = NOT_SIGNED.iter().find(|(header, _)| *header == name) {
                    return Err(ComponentError::NotSigned(why));
                }
                // Upper case would be another name to the receiver (RFC 9421, 2.1).
                let header = HeaderName::try_from(name).ok().filter(|header| header.as_str() == name);
                Self::Header(header.ok_or(ComponentError::Unknown)?)
            }
        })
    }

    /// Whether it is the header `name`.
    #[must_use]
    pub fn names(&self, name: &HeaderName) -> bool {
        matches!(self, Self::Header(header) if header == name)
    }

    /// Its value in a request; `None` for a header that the request does not have.
    pub(super) fn value<'a>(
        &self,
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
    ) -> Option<Cow<'a, str>> {
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Some(match self {
            Self::Method => method.as_str().into(),
            Self::TargetUri => uri.to_string().into(),
            Self::Authority => authority(uri).into(),
            Self::Scheme => uri.scheme_str().unwrap_or_default().into(),
            Self::RequestTarget => uri.path_and_query().map_or(path, |whole| whole.as_str()).into(),
            Self::Path => path.into(),
            Self::Query => format!("?{}", uri.query().unwrap_or_default()).into(),
            Self::Header(name) => return header(headers, name).map(Into::into),
        })
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::Authority => "@authority",
            Self::Scheme => "@scheme",
            Self::RequestTarget => "@request-target",
            Self::Path => "@path",
            Self::Query => "@query",
            Self::Header(name) => name.as_str(),
        })
    }
}

/// In lower case, without the scheme's own port (RFC 9421, 2.2.3).
fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match (uri.port_u16(), uri.scheme_str()) {
        (None, _) | (Some(443), Some("https")) | (Some(80), Some("http")) => host,
        (Some(port), _) => format!("{host}:{port}"),
    }
}

/// All values of a header in their order, as one (RFC 9421, 2.1).
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Option<Vec<&str>> =
        headers.get_all(name).iter().map(|value| value.to_str().ok().map(str::trim)).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join(", "))
}
