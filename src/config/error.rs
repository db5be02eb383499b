//! What can be wrong with a config, and where. Every text says what was found and what is allowed; none holds a
//! secret. Errors are made in `load` and `check`, and printed by `cli`.

use std::{fmt, io, path::PathBuf, time::Duration};

use crate::{egress, signature, subject::PatternError};

use super::secret::SecretError;

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(
        "{}: cannot be read: {cause}; name the config file with --config PATH or NATSHOOK_CONFIG (default config/natshook.toml)",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file's name says nothing about its format.
    #[error("{}: unknown format; name it .toml, .yaml, .yml or .json", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The text is not of its format. The message holds line and column and never the line itself.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where the text comes from.
        origin: String,
        /// What is wrong, and where.
        message: String,
    },
    /// The text can be read but not used: every error, unknown keys first.
    #[error("{}", lines(origin, errors))]
    Invalid {
        /// Where the text comes from.
        origin: String,
        /// All of them, at least one.
        errors: Vec<ConfigError>,
    },
}

fn lines(origin: &str, errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{origin}: {error}")).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong with a key.
#[derive(Debug, thiserror::Error)]
#[error("{path}{}: {problem}", .variable.as_ref().map(|v| format!(" (from {v})")).unwrap_or_default())]
pub struct ConfigError {
    /// The key.
    pub path: KeyPath,
    /// The environment variable that says it, where it is not the file.
    pub variable: Option<String>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A key's place, printed as `targets[2].retry.delays[1] (target "billing")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath {
    keys: String,
    target: Option<String>,
}

impl KeyPath {
    /// The place of `key` in the table that is here.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let bare =
            key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) && !key.is_empty();
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        let keys = if self.keys.is_empty() { key } else { format!("{}.{key}", self.keys) };
        Self { keys, target: self.target.clone() }
    }

    /// The place of an entry in the list that is here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self { keys: format!("{}[{index}]", self.keys), target: self.target.clone() }
    }

    /// The same place, known to belong to a target.
    #[must_use]
    pub fn of_target(mut self, name: &str) -> Self {
        self.target = Some(name.to_owned());
        self
    }

    /// The keys alone.
    #[must_use]
    pub fn keys(&self) -> &str {
        &self.keys
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keys)?;
        match &self.target {
            Some(name) => write!(f, " (target {name:?})"),
            None => Ok(()),
        }
    }
}

/// All errors so far. Checks add to it and go on.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<ConfigError>);

impl Errors {
    pub(super) fn add(&mut self, path: &KeyPath, problem: Problem) {
        self.0.push(ConfigError { path: path.clone(), variable: None, problem });
    }

    /// The value of `result`, or `None` and one error more.
    pub(super) fn keep<T, E>(&mut self, path: &KeyPath, result: Result<T, E>) -> Option<T>
    where
        Problem: From<E>,
    {
        result.map_err(|error| self.add(path, error.into())).ok()
    }

    pub(super) fn into_list(self) -> Vec<ConfigError> {
        self.0
    }
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A key that has to be there.
    #[error("is missing; expected {allowed}")]
    Missing {
        /// What is allowed.
        allowed: &'static str,
    },
    /// A value of the wrong kind.
    #[error("found {found}, expected {allowed}")]
    Unexpected {
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A key that no table of this kind has.
    #[error("unknown key; {}", suggestion(.nearest.as_deref(), .known))]
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All that are known there.
        known: Vec<String>,
    },
    /// An environment variable that is not UTF-8.
    #[error("the environment variable {variable} is not valid UTF-8")]
    NotUtf8 {
        /// The variable.
        variable: String,
    },
    /// An environment variable that names no place.
    #[error(
        "the environment variable {variable} names no key of the config; write for example NATSHOOK__NATS__SERVERS"
    )]
    NoPlace {
        /// The variable.
        variable: String,
    },
    /// A duration outside its bounds.
    #[error("found {}, expected {} to {}", human(.found), human(.least), human(.most))]
    DurationRange {
        /// What was found.
        found: Duration,
        /// The least.
        least: Duration,
        /// The most.
        most: Duration,
    },
    /// A number outside its bounds.
    #[error("found {found}, expected {least} to {most}")]
    NumberRange {
        /// What was found.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A number with a fraction outside its bounds.
    #[error("found {found}, expected {least} to {most}")]
    ShareRange {
        /// What was found.
        found: f64,
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// A list with too many entries.
    #[error("found {found} entries, expected at most {most}")]
    TooMany {
        /// How many there are.
        found: usize,
        /// The most.
        most: usize,
    },
    /// A list that is empty.
    #[error("is empty, expected at least one entry")]
    Empty,
    /// Keys that exclude each other.
    #[error("found {}, expected only one of them", .found.join(" and "))]
    Exclusive {
        /// Those that are there.
        found: Vec<&'static str>,
    },
    /// A table in which one of several keys has to be.
    #[error("has none of {}; expected exactly one", .allowed.join(", "))]
    NoneOf {
        /// Those that are possible.
        allowed: &'static [&'static str],
    },
    /// A key that makes no sense without another.
    #[error("needs {other} beside it")]
    Needs {
        /// The other.
        other: &'static str,
    },
    /// A name that does not fit into subjects and consumer names.
    #[error("found {found:?}, expected letters, digits, \"_\" and \"-\", at most 64 of them")]
    Name {
        /// What was found.
        found: String,
    },
    /// Two targets of one name.
    #[error("found {found:?}, which is the name of targets[{first}] already; expected a name of its own")]
    DuplicateName {
        /// The name.
        found: String,
        /// The index of the first one.
        first: usize,
    },
    /// Not a subject.
    #[error("{found:?} {cause}")]
    Subject {
        /// What was found.
        found: String,
        /// Which rule it breaks.
        cause: PatternError,
    },
    /// A subject with wildcards where none may be.
    #[error("found {found:?}, expected a subject without wildcards")]
    Wildcard {
        /// What was found.
        found: String,
    },
    /// A subject that natshook itself publishes to.
    #[error(
        "found {found:?}, which natshook itself publishes to: a delivery would cause the next one; expected a subject that does not reach {own:?}"
    )]
    Loop {
        /// What was found.
        found: String,
        /// Where natshook publishes.
        own: String,
    },
    /// A stream's name that the server does not take.
    #[error(
        "found {found:?}, expected a name of at most 255 bytes, without white space and without . * > / \\"
    )]
    StreamName {
        /// What was found.
        found: String,
    },
    /// The name of one of natshook's own streams.
    #[error("found {found:?}, which is natshook's own stream; expected another name")]
    OwnStream {
        /// What was found.
        found: String,
    },
    /// Not a URL.
    #[error("found {found:?}, expected {allowed} ({cause})")]
    Url {
        /// What was found, without user info and query.
        found: String,
        /// What is allowed.
        allowed: &'static str,
        /// What the parser says.
        cause: url::ParseError,
    },
    /// A URL of another kind.
    #[error("found {found:?}, expected {allowed}")]
    UrlKind {
        /// What was found, without user info and query.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// User info in a URL.
    #[error(
        "has a user or a password in the URL, where it is easily printed; expected auth = {{ basic = {{ user = …, password = … }} }}"
    )]
    UserInfo,
    /// A fragment, which is never sent.
    #[error("has a fragment (#…), which is never sent; expected a URL without one")]
    Fragment,
    /// The egress guard does not allow it.
    #[error(transparent)]
    Egress(#[from] egress::Refusal),
    /// Not an HTTP method that carries a body.
    #[error("found {found:?}, expected POST, PUT, PATCH or another method with a body, in capitals")]
    Method {
        /// What was found.
        found: String,
    },
    /// Not a header's name.
    #[error("{found:?} is not a header name; expected letters, digits and \"-\"")]
    HeaderName {
        /// What was found.
        found: String,
    },
    /// A header that natshook or the connection sets.
    #[error("the header {found:?} is reserved: {}", reserved_reason(found))]
    ReservedHeader {
        /// The header.
        found: String,
    },
    /// A value that no header can carry. Never shown, as it may be secret.
    #[error("has a character that no header can carry; expected visible ASCII")]
    HeaderValue,
    /// A user name that basic authentication cannot carry.
    #[error("has a colon or a control character, which no user of basic authentication can have")]
    BasicUser,
    /// A secret that cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A secret that is no signing key.
    #[error("the secret {0}")]
    SigningKey(#[from] signature::KeyError),
    /// Not an nkey seed.
    #[error("the secret is not an nkey seed; expected one of a user, which begins with \"SU\"")]
    NkeySeed,
    /// A file that cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Not an address or a range.
    #[error("found {found:?}, expected an address or a range such as \"10.0.0.0/8\" or \"fd00::/8\"")]
    Range {
        /// What was found.
        found: String,
    },
    /// Not an address to listen on.
    #[error("found {found:?}, expected an address and a port such as \"127.0.0.1:8822\"")]
    Listen {
        /// What was found.
        found: String,
    },
    /// A status in both lists.
    #[error("found {status} in transient and in permanent, expected it in one of them")]
    BothOutcomes {
        /// The status.
        status: u16,
    },
    /// An exponential schedule whose first wait is longer than its longest.
    #[error("found {}, which is longer than max = {}; expected initial to be at most max", human(.initial), human(.max))]
    InitialOverMax {
        /// The first wait.
        initial: Duration,
        /// The longest.
        max: Duration,
    },
    /// A start position without a stream.
    #[error(
        "cannot be set with source = \"core\": core NATS keeps no messages, so there is only what comes from now on"
    )]
    StartInCore,
}

fn human(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string()
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}

fn reserved_reason(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "authorization" | "proxy-authorization" => "credentials belong in auth",
        "webhook-id" | "webhook-timestamp" | "webhook-signature" | "natshook-subject"
        | "natshook-attempt" => "natshook sets it itself",
        _ => "it belongs to the HTTP connection",
    }
}
