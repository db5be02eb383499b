//! What can be wrong with a config, and where. Every text says what was found and what is allowed; none holds a
//! secret. Errors are made in `load` and `check`, and printed by `cli`.

mod problem;

use std::{fmt, io, path::PathBuf};

pub use problem::Problem;

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

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(super) fn into_list(self) -> Vec<ConfigError> {
        self.0
    }
}
