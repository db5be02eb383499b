//! Secrets: written as text, or as the name of an environment variable or a file that holds them. Nothing here
//! ever prints a value.

use std::{env, fs, io, path::PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::field::Written;

/// A secret: the text itself, `{ env = "NAME" }` or `{ file = "path" }`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Secret {
    /// The secret itself. Prefer `env` or `file`.
    Literal(String),
    /// An environment variable that holds it.
    Env {
        /// The variable's name.
        env: String,
    },
    /// A file that holds it; one line break at its end is left out.
    File {
        /// The file's path, relative to the working directory.
        file: PathBuf,
    },
}

impl Written for Secret {
    const ALLOWED: &'static str = "a secret: a text, { env = \"NAME\" } or { file = \"path\" }";
    const SHOWN: bool = false;
}

/// Why a secret cannot be had. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable does not exist.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// The variable holds something else than text.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotUtf8(String),
    /// The file cannot be read.
    #[error("the secret's file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
}

impl Secret {
    /// The secret itself.
    pub(super) fn resolve(self) -> Result<SecretString, SecretError> {
        // Every copy made on the way is overwritten when it is dropped; the secret that is kept is as long as it
        // has to be from the start, so that nothing moves it.
        let text = match self {
            Self::Literal(text) => Zeroizing::new(text),
            Self::Env { env: name } => match env::var(&name) {
                Ok(text) => Zeroizing::new(text),
                Err(env::VarError::NotPresent) => return Err(SecretError::NotSet(name)),
                Err(env::VarError::NotUnicode(_)) => return Err(SecretError::NotUtf8(name)),
            },
            Self::File { file: path } => match fs::read_to_string(&path).map(Zeroizing::new) {
                Ok(text) => {
                    let line = text.strip_suffix('\n').unwrap_or(&text);
                    Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
                }
                Err(cause) => return Err(SecretError::Unreadable { path, cause }),
            },
        };
        if text.is_empty() { Err(SecretError::Empty) } else { Ok(text.as_str().into()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_file_s_last_line_break_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (written, read) in
            [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n"), ("x", "x")]
        {
            fs::write(file.path(), written).unwrap();
            let secret = Secret::File { file: file.path().into() }.resolve().unwrap();
            assert_eq!(secret.expose_secret(), read);
        }
        fs::write(file.path(), "\n").unwrap();
        assert!(matches!(Secret::File { file: file.path().into() }.resolve(), Err(SecretError::Empty)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = Secret::Env { env: "NATSHOOK_TEST_NOT_SET".into() }.resolve().unwrap_err();
        assert_eq!(missing.to_string(), "the environment variable NATSHOOK_TEST_NOT_SET is not set");
        let missing = Secret::File { file: "/nonexistent/secret".into() }.resolve().unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/secret"), "{missing}");
        assert!(matches!(Secret::Literal(String::new()).resolve(), Err(SecretError::Empty)));
    }
}
