//! From a file and the environment to a tree of values. The only place that knows the config crate, formats and
//! environment variables; what the values mean is the business of `raw` and `check`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat, Source};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    check,
    checked::{Admin, Config},
    connection::Reach,
    error::{ConfigError, Errors, KeyPath, LoadError, Problem},
};

/// What the names of environment variables that override keys begin with.
pub(super) const PREFIX: &str = "NATSHOOK";
/// What stands for a dot in the name of such a variable.
pub(super) const SEPARATOR: &str = "__";

/// The highest index of a list that a variable can name. Without a bound, one variable could make a list of any
/// size.
const INDEX_MAX: usize = 9_999;

impl Config {
    /// Reads the file at `path` (TOML, YAML or JSON, by its ending), overrides its keys by `NATSHOOK__…`
    /// environment variables, reads the secrets that it names, and checks all of it.
    ///
    /// # Errors
    /// The file cannot be read or parsed; or every error in what it says.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let (text, format) = read(path)?;
        let origin = path.display().to_string();
        let mut config = build(&text, format, &origin, std::env::vars_os(), checked_with_files)?;
        config.reload.files.insert(0, path.to_owned());
        Ok(config)
    }

    /// The same for a TOML text, which errors call `origin`.
    ///
    /// # Errors
    /// The text cannot be parsed; or every error in what it says.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, LoadError> {
        build(text, FileFormat::Toml, origin, std::env::vars_os(), checked_with_files)
    }
}

impl Reach {
    /// Reads only the parts of the config at `path` that tell how to reach the accounts: one for each connection.
    ///
    /// # Errors
    /// The file cannot be read or parsed; or every error in those parts.
    pub fn load(path: &Path) -> Result<Vec<Self>, LoadError> {
        let (text, format) = read(path)?;
        let origin = path.display().to_string();
        build(&text, format, &origin, std::env::vars_os(), check::check_reaches)
    }
}

impl Admin {
    /// Reads only where the listener is, from the config at `path`.
    ///
    /// # Errors
    /// The file cannot be read or parsed; or what it says of that is no address.
    pub fn load_listen(path: &Path) -> Result<SocketAddr, LoadError> {
        let (text, format) = read(path)?;
        let origin = path.display().to_string();
        build(&text, format, &origin, std::env::vars_os(), check::check_admin_listen)
    }
}

fn read(path: &Path) -> Result<(Zeroizing<String>, FileFormat), LoadError> {
    let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
    let format = format_of(path).ok_or_else(|| LoadError::UnknownFormat { path: path.to_owned() })?;
    Ok((fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)?, format))
}

fn checked_with_files(tree: Value, errors: Errors) -> Result<Config, Vec<ConfigError>> {
    let mut files = Vec::new();
    files_in(&tree, &mut files);
    let mut config = check::check(tree, errors)?;
    config.reload.files = files;
    Ok(config)
}

fn format_of(path: &Path) -> Option<FileFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "toml" => Some(FileFormat::Toml),
        "yaml" | "yml" => Some(FileFormat::Yaml),
        "json" => Some(FileFormat::Json),
        _ => None,
    }
}

fn build<T>(
    text: &str,
    format: FileFormat,
    origin: &str,
    variables: impl Iterator<Item = (OsString, OsString)>,
    check: impl FnOnce(Value, Errors) -> Result<T, Vec<ConfigError>>,
) -> Result<T, LoadError> {
    let mut errors = Errors::default();
    let variables = overrides(variables, &mut errors);
    let tree = merge(text, format, &variables).map_err(|error| LoadError::Syntax {
        origin: origin.to_owned(),
        message: without_excerpt(&error.to_string()),
    })?;
    check(tree, errors).map_err(|mut errors| {
        for error in &mut errors {
            error.variable = origin_of(error.path.keys(), &variables);
        }
        LoadError::Invalid { origin: origin.to_owned(), errors }
    })
}

/// The target that `text` is, as it stands: the keys of one in TOML or YAML, or its JSON, by `ending` (`toml`, …).
///
/// # Errors
/// The text is not of that format.
pub fn read_target(text: &str, ending: &str, origin: &str) -> Result<Value, LoadError> {
    let format = format_of(&Path::new("target").with_extension(ending))
        .ok_or_else(|| LoadError::UnknownFormat { path: origin.into() })?;
    merge(text, format, &BTreeMap::new()).map_err(|error| LoadError::Syntax {
        origin: origin.to_owned(),
        message: without_excerpt(&error.to_string()),
    })
}

/// The files that a config names, wherever it does: a secret as `{ file = "path" }`, and the keys that end so.
fn files_in(tree: &Value, files: &mut Vec<PathBuf>) {
    match tree {
        Value::Object(table) => {
            for (key, value) in table {
                match value {
                    Value::String(path) if key == "file" || key.ends_with("_file") => files.push(path.into()),
                    value => files_in(value, files),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| files_in(value, files)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The variable that says what is at `keys`, or a table around it.
fn origin_of(keys: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let says = |variable: &&String| {
        let rest = key_of(&variable[PREFIX.len() + SEPARATOR.len()..])
            .and_then(|key| keys.strip_prefix(key.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    variables.keys().find(says).cloned()
}

/// The environment's overrides by their variables; those that cannot be used are errors.
fn overrides(
    variables: impl Iterator<Item = (OsString, OsString)>,
    errors: &mut Errors,
) -> BTreeMap<String, String> {
    let prefix = format!("{PREFIX}{SEPARATOR}");
    let mut overrides = BTreeMap::new();
    for (variable, value) in variables {
        let Some(variable) = variable.to_str().filter(|v| v.to_ascii_uppercase().starts_with(&prefix)) else {
            continue;
        };
        let place = KeyPath::default().key(variable);
        let variable = variable.to_owned();
        match value.into_string() {
            Err(_) => errors.add(&place, Problem::NotUtf8 { variable }),
            Ok(_) if key_of(&variable[prefix.len()..]).is_none() => {
                errors.add(&place, Problem::NoPlace { variable })
            }
            Ok(value) => {
                overrides.insert(variable, value);
            }
        }
    }
    overrides
}

/// The path, as the config crate writes it, of `NATS__SERVERS` (`nats.servers`) or `TARGETS__0__URL`
/// (`targets[0].url`).
pub(super) fn key_of(name: &str) -> Option<String> {
    let mut path = String::new();
    for part in name.to_lowercase().split(SEPARATOR) {
        let is_key =
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        match part.parse::<usize>() {
            Ok(index) if !path.is_empty() && index <= INDEX_MAX => path.push_str(&format!("[{index}]")),
            Err(_) if is_key => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(part);
            }
            _ => return None,
        }
    }
    Some(path)
}

fn merge(
    text: &str,
    format: FileFormat,
    variables: &BTreeMap<String, String>,
) -> Result<Value, config::ConfigError> {
    let environment = Environment::with_prefix(PREFIX)
        .separator(SEPARATOR)
        .source(Some(variables.iter().map(|(k, v)| (k.clone(), v.clone())).collect()));
    let mut builder = config::Config::builder().add_source(File::from_str(text, format));
    // `Environment` names an entry of a list `targets.0`, which the builder would take for a key.
    for (dotted, value) in environment.collect()? {
        let key = key_of(&dotted.replace('.', SEPARATOR)).unwrap_or(dotted);
        builder = match json_in(&value) {
            Some(json) => builder.set_override(key, json)?,
            None => builder.set_override(key, value)?,
        };
    }
    builder.build()?.try_deserialize()
}

/// The list or table that a variable holds as JSON.
fn json_in(value: &config::Value) -> Option<config::Value> {
    let text = value.clone().into_string().ok()?;
    if !text.trim_start().starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str(&text).ok()
}

/// An error's text without the lines of the file that it quotes: they may hold secrets.
fn without_excerpt(text: &str) -> String {
    let quoted = |line: &&str| {
        let rest = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        rest.starts_with('|')
    };
    text.lines().filter(|line| !quoted(line)).map(str::trim).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
