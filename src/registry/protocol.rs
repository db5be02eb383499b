//! What is asked of the registry and answered, as JSON. Plain data; docs/registration.md tells the same to people.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ConfigError;

/// What can be asked: the last tokens of the subjects, each with what it does.
pub const VERBS: [(&str, &str); 7] = [
    ("put", "registers a target, or changes one that has registered"),
    ("get", "shows a target that has registered"),
    ("list", "lists the targets that have registered"),
    ("delete", "removes a target that has registered"),
    ("pause", "sends a target nothing until it is resumed"),
    ("resume", "lets a paused target go on"),
    ("test", "sends one test request to a target"),
];

/// Register `target`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// The target, as it would stand in the config.
    pub target: Value,
    /// The revision that it replaces, 0 for none; any, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// It is registered.
#[derive(Debug, Serialize, Deserialize)]
pub struct PutAnswer {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// Whether anything was stored: false when the same target had registered already.
    pub changed: bool,
}

/// A target by its name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// Remove a target.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// Its name.
    pub name: String,
    /// The revision that is removed; any, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Whether its consumers stay, so that a target that registers again under this name goes on where it was.
    #[serde(default)]
    pub keep_position: bool,
}

/// It is removed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Its name.
    pub name: String,
}

/// It is paused, or not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Paused {
    /// Its name.
    pub name: String,
    /// Whether it is.
    pub paused: bool,
}

/// What becomes of a target that has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is delivered to.
    Active,
    /// The config has a target of its name, which is used instead.
    Overridden,
    /// It cannot be used, for the errors beside this.
    Invalid,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Overridden, Self::Invalid];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Overridden => "overridden",
            Self::Invalid => "invalid",
        }
    }
}

/// A target that has registered. Its secrets are left out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// What becomes of it.
    pub state: State,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Wrong>,
    /// The target; `{ "sealed": true }` stands for each secret.
    pub target: Value,
}

/// List targets.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuestion {
    /// Those whose names come after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Targets in the order of their names, as many as fit into one message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListAnswer {
    /// The targets.
    pub targets: Vec<Listed>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// A target in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// What becomes of it.
    pub state: State,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Wrong>,
    /// What it receives, as it was written.
    pub subjects: Value,
    /// Where, without what may be secret in it.
    pub url: String,
}

/// One thing that is wrong with a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// The key, as in `retry.delays[1]`; empty where it is the target as a whole.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub error: String,
}

impl From<ConfigError> for Wrong {
    fn from(error: ConfigError) -> Self {
        Self { key: error.path.keys().to_owned(), error: error.problem.to_string() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() { f.write_str(&self.error) } else { write!(f, "{}: {}", self.key, self.error) }
    }
}

/// Why something was not done. Its code stands in the header `Nats-Service-Error-Code`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// As in HTTP: 400 for what is wrong in the request, 404 for a target that is not there, 409 for one that somebody else
    /// has changed or that is the config's own, 413 for one that is too large, 503 for a broker that does not do its part.
    pub code: u16,
    /// In words.
    pub error: String,
    /// Everything that is wrong with the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Wrong>,
}
