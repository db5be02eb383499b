//! The JSON Schema of the config, and what follows from it: which keys are unknown. The schema is made from `raw`,
//! so that what is read and what is known cannot differ.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{
    error::{Errors, KeyPath, Problem},
    raw::Root,
};

/// The least likeness (Jaro-Winkler, 0 to 1) at which a known key is suggested for an unknown one. Below it
/// suggestions surprise more than they help.
const LIKENESS_MIN: f64 = 0.8;

/// A range in words, where JSON Schema has no keyword for it.
pub(super) const RANGE: &str = "x-range";

/// The JSON Schema (2020-12) of the config file. Many editors show nothing but descriptions, so those name default and
/// range as well.
#[must_use]
pub fn schema() -> Value {
    let mut schema = bare();
    describe(&mut schema);
    schema
}

/// The schema as the structs of `raw` say it.
pub(super) fn bare() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Root>().into();
    join_lines(&mut schema);
    schema
}

/// The lines of a comment are those of its source file, and mean nothing.
fn join_lines(schema: &mut Value) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    children(schema).for_each(join_lines);
}

fn children(schema: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match schema {
        Value::Object(map) => Box::new(map.values_mut()),
        Value::Array(list) => Box::new(list.iter_mut()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Box::new(std::iter::empty()),
    }
}

fn describe(schema: &mut Value) {
    children(schema).for_each(describe);
    let Value::Object(map) = schema else { return };
    let range = range(map).map(|range| format!(" Allowed: {range}."));
    let default = map.get("default").map(|value| format!(" Default: {}.", toml(value)));
    map.remove(RANGE);
    if let Some(Value::String(text)) = map.get_mut("description") {
        text.extend([range, default].into_iter().flatten());
    }
}

/// What a number, a duration or a size may be, in words.
pub(super) fn range(schema: &Map<String, Value>) -> Option<String> {
    match schema.get(RANGE) {
        Some(words) => words.as_str().map(str::to_owned),
        None => Some(format!("{} to {}", number(schema.get("minimum")?), number(schema.get("maximum")?))),
    }
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

/// A value as it stands in a TOML file.
pub(super) fn toml(value: &Value) -> String {
    let list = |entries: Vec<String>, separator: &str| entries.join(separator);
    match value {
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let entries = table.iter().map(|(key, value)| format!("{key} = {}", toml(value)));
            format!("{{ {} }}", list(entries.collect(), ", "))
        }
        Value::Array(entries) => format!("[{}]", list(entries.iter().map(toml).collect(), ", ")),
        Value::Number(_) => number(value),
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

/// Adds every key of `written` that the schema does not have to `errors`.
pub(super) fn find_unknown_keys(written: &Value, errors: &mut Errors) {
    let root = &*SCHEMA;
    Walk { root, errors }.visit(written, root, &KeyPath::default());
}

/// The same for a target that stands alone at `path`.
pub(super) fn find_unknown_keys_of_target(written: &Value, path: &KeyPath, errors: &mut Errors) {
    Walk { root: &SCHEMA, errors }.visit(written, target(), path);
}

/// Made once: a thousand targets that register are each held against it.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(bare);

/// The schema of a target.
pub(super) fn target() -> &'static Value {
    SCHEMA.pointer("/properties/targets/items").unwrap_or(&Value::Null)
}

/// What a schema stands for in the end: itself, what it refers to, or its alternatives.
pub(super) fn variants(schema: &'static Value, found: &mut Vec<&'static Value>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        found.extend([schema]);
        if let Some(target) = SCHEMA.pointer(reference.trim_start_matches('#')) {
            variants(target, found);
        }
        return;
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(alternatives) => alternatives.iter().for_each(|schema| variants(schema, found)),
        None => found.push(schema),
    }
}

struct Walk<'a> {
    root: &'a Value,
    errors: &'a mut Errors,
}

impl Walk<'_> {
    fn visit(&mut self, written: &Value, schema: &Value, path: &KeyPath) {
        match written {
            Value::Object(table) => self.visit_table(table, schema, path),
            Value::Array(list) => {
                let entries: Vec<Value> =
                    self.variants(schema).into_iter().filter_map(|s| s.get("items").cloned()).collect();
                for (index, entry) in list.iter().enumerate() {
                    entries.iter().for_each(|schema| self.visit(entry, schema, &path.index(index)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn visit_table(&mut self, table: &Map<String, Value>, schema: &Value, path: &KeyPath) {
        let variants = self.variants(schema);
        let known: Map<String, Value> = variants
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object())
            .flat_map(|properties| properties.iter().map(|(key, schema)| (key.clone(), schema.clone())))
            .collect();
        if known.is_empty() {
            // A table with free keys, such as headers, or a table where none may be, which the check reports.
            return;
        }
        let name = table.get("name").and_then(Value::as_str).filter(|_| is_target(path.keys()));
        let path = name.map_or_else(|| path.clone(), |name| path.clone().of_target(name));
        for (key, value) in table {
            match known.get(key) {
                Some(schema) => self.visit(value, schema, &path.key(key)),
                None => {
                    let known = known.keys().cloned().collect();
                    self.errors.add(&path.key(key), unknown(key, known));
                }
            }
        }
    }

    /// What a schema stands for: itself, what it refers to, or its alternatives.
    fn variants(&self, schema: &Value) -> Vec<Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.root.pointer(reference.trim_start_matches('#'));
            return target.map(|target| self.variants(target)).unwrap_or_default();
        }
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(alternatives) => alternatives.iter().flat_map(|schema| self.variants(schema)).collect(),
            None => vec![schema.clone()],
        }
    }
}

/// Whether `keys` lead to a target: `targets[0]`, `connections[1].targets[0]`.
fn is_target(keys: &str) -> bool {
    keys.rsplit('.').next().is_some_and(|last| last.starts_with("targets["))
}

fn unknown(key: &str, known: Vec<String>) -> Problem {
    let likeness = |other: &String| strsim::jaro_winkler(key, other);
    let nearest = known
        .iter()
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other.clone());
    Problem::UnknownKey { nearest, known }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use std::{collections::BTreeSet, path::Path};

    const ANNOTATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/natshook.toml");

    fn tree(path: &str) -> Value {
        let text = std::fs::read_to_string(path).unwrap();
        let file = config::File::from_str(&text, config::FileFormat::Toml);
        config::Config::builder().add_source(file).build().unwrap().try_deserialize().unwrap()
    }

    #[test]
    fn the_annotated_config_is_right_by_the_check_and_by_the_schema() {
        let config = Config::load(Path::new(ANNOTATED)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.connections[0].targets[0].retry.schedule.attempts(), 12);
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&tree(ANNOTATED)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn the_schema_refuses_what_the_check_refuses() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let right =
            serde_json::json!({"targets": [{"name": "a", "subjects": ["x"], "url": "https://a.example"}]});
        assert!(validator.is_valid(&right));
        for (pointer, key, value) in [
            ("", "targetz", serde_json::json!(1)),
            ("/targets/0", "timout", serde_json::json!("1s")),
            ("/targets/0", "timeout", serde_json::json!(1)),
            ("/targets/0", "retry", serde_json::json!({"delay": []})),
            ("/targets/0", "auth", serde_json::json!({"bearer": "a", "header": {"name": "a", "value": "b"}})),
            ("/targets/0", "auth", serde_json::json!({"bearer": {"evn": "a"}})),
        ] {
            let mut wrong = right.clone();
            wrong.pointer_mut(pointer).unwrap()[key] = value;
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    }

    /// Every key of every table that the schema has.
    fn keys(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                map.values().for_each(|value| keys(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn the_annotated_config_shows_every_key() {
        let text = std::fs::read_to_string(ANNOTATED).unwrap();
        let mut known = BTreeSet::new();
        keys(&schema(), &mut known);
        assert!(known.len() > 50, "{known:?}");
        let shown = |key: &str| {
            text.lines().any(|line| {
                let line = line.trim_start_matches('#');
                let table = line.trim_matches(['[', ']']);
                line.starts_with(&format!("{key} ="))
                    || line.contains(&format!("{{ {key} = "))
                    || line.contains(&format!(", {key} = "))
                    || table.split('.').any(|part| part == key)
            })
        };
        let missing: Vec<&String> = known.iter().filter(|key| !shown(key)).collect();
        assert!(missing.is_empty(), "not in config/natshook.toml: {missing:?}");
    }
}
