//! What the schema shows as default and as range is what the check does.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::config::{
    Config,
    check::check,
    error::Errors,
    schema::{bare, range},
};

#[test]
fn durations_are_shown_as_one_would_write_them() {
    for text in ["0s", "10ms", "1500ms", "5s", "60s", "90s", "2m", "1h", "24h", "25h", "4d", "3650d"] {
        assert_eq!(humantime::parse_duration(text).map(span).as_deref(), Ok(text));
    }
}

/// A key that is no table, with its place as a JSON pointer.
struct Key {
    pointer: String,
    schema: Map<String, Value>,
}

/// Every key of the config but for the targets'.
fn keys() -> Vec<Key> {
    let root = bare();
    let mut keys = Vec::new();
    collect(&root, &root, "", &mut keys);
    assert!(keys.len() > 50, "{}", keys.len());
    keys
}

fn collect(root: &Value, schema: &Value, pointer: &str, keys: &mut Vec<Key>) {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let table = reference.map_or(schema, |path| root.pointer(path.trim_start_matches('#')).unwrap());
    match table.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (key, inner) in properties.iter().filter(|(key, _)| *key != "targets") {
                collect(root, inner, &format!("{pointer}/{key}"), keys);
            }
        }
        None => {
            keys.push(Key { pointer: pointer.to_owned(), schema: schema.as_object().unwrap().clone() });
        }
    }
}

/// The smallest config, and in it the `values` at their pointers.
fn with<'a>(values: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut tree = json!({ "targets": [{ "name": "t", "subjects": ["s"], "url": "https://a.example/" }] });
    for (pointer, value) in values {
        let mut here = &mut tree;
        for key in pointer.split('/').skip(1) {
            here = here.as_object_mut().unwrap().entry(key).or_insert_with(|| json!({}));
        }
        *here = value;
    }
    tree
}

fn checked(tree: Value) -> Result<Config, Vec<String>> {
    check(tree, Errors::default()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// What has to stand beside keys of tables that make no sense without it.
fn required() -> Vec<(&'static str, Value)> {
    vec![
        ("/defaults/auth/oauth2/token_url", json!("https://id.example/token")),
        ("/defaults/auth/oauth2/client_id", json!("natshook")),
        ("/defaults/auth/oauth2/client_secret", json!("secret")),
        ("/defaults/signing/message_signatures/algorithm", json!("hmac-sha256")),
        ("/defaults/signing/message_signatures/key", json!("A".repeat(44))),
        ("/defaults/signing/message_signatures/key_id", json!("k")),
    ]
}

#[test]
fn a_config_that_says_every_default_is_one_that_says_nothing() {
    let keys = keys();
    // A growing schedule is another one than the default, a prefix that is written is passed on as written, and tables
    // that turn something on by being there have defaults for whoever writes them.
    let skipped = ["/defaults/retry/factor", "/nats/inbox_prefix", "/defaults/batch/", "/defaults/reply/"];
    let defaults = keys.iter().filter(|key| !skipped.iter().any(|skipped| key.pointer.starts_with(skipped)));
    let defaults: Vec<(&str, Value)> =
        defaults.filter_map(|key| Some((key.pointer.as_str(), key.schema.get("default")?.clone()))).collect();
    assert!(defaults.len() > 25, "{defaults:?}");
    let said = checked(with(required().into_iter().chain(defaults.clone()))).unwrap();
    let silent = checked(with(required())).unwrap();
    assert_eq!(format!("{said:?}"), format!("{silent:?}"));

    // Of those that the defaults above could hide: outcomes and headers that are said are an empty table either way.
    let jitter = ("/defaults/retry/jitter", json!(0.3));
    let other = checked(with(required().into_iter().chain([jitter]))).unwrap();
    assert_ne!(format!("{other:?}"), format!("{silent:?}"));
}

/// The least and the most that a key may be, and a value below and above, as they are written.
fn ends(words: &str, schema: &Map<String, Value>) -> ([Value; 2], Vec<Value>) {
    let (least, most) = words.split_once(" to ").unwrap();
    if schema.get("title") == Some(&json!("duration")) {
        let parse = |text: &str| humantime::parse_duration(text).unwrap();
        let written = |span: Duration| json!(format!("{}ms", span.as_millis()));
        let below = parse(least).checked_sub(Duration::from_millis(1)).map(written);
        let above = written(parse(most) + Duration::from_millis(1));
        return ([json!(least), json!(most)], below.into_iter().chain([above]).collect());
    }
    if most.ends_with("MiB") {
        let bytes = most.trim_end_matches("MiB").parse::<u64>().unwrap() << 20;
        let least: u64 = least.parse().unwrap();
        let below = least.checked_sub(1).map(|bytes| json!(bytes));
        return ([json!(least), json!(most)], below.into_iter().chain([json!(bytes + 1)]).collect());
    }
    let [least, most] = [least, most].map(|text| text.parse::<f64>().unwrap());
    if schema.get("type") == Some(&json!("number")) {
        return ([json!(least), json!(most)], vec![json!(least - 0.5), json!(most + 0.5)]);
    }
    let [least, most] = [least as u64, most as u64];
    ([json!(least), json!(most)], vec![json!(least - 1), json!(most + 1)])
}

#[test]
fn every_range_that_is_shown_is_the_one_that_is_checked() {
    let mut seen = 0;
    for key in keys() {
        let Some(words) = range(&key.schema) else { continue };
        seen += 1;
        let place = key.pointer.trim_start_matches('/').replace('/', ".");
        let growing = [("initial", json!("1ms")), ("max", json!("30d")), ("attempts", json!(1))];
        let is_growing =
            ["initial", "factor", "max", "attempts"].iter().any(|k| place == format!("defaults.retry.{k}"));
        let wanted = |value: &Value| {
            let growing = growing.iter().filter(|_| is_growing);
            let mut needed: Vec<(String, Value)> =
                growing.map(|(key, value)| (format!("/defaults/retry/{key}"), value.clone())).collect();
            if place.starts_with("defaults.reply.") {
                needed.push(("/defaults/reply/subject".to_owned(), json!("answers")));
            }
            let around = needed.iter().map(|(pointer, value)| (pointer.as_str(), value.clone()));
            let around = required().into_iter().chain(around);
            checked(with(around.chain([(key.pointer.as_str(), value.clone())])))
        };
        let (inside, outside) = ends(&words, &key.schema);
        for value in inside {
            let errors = wanted(&value).err().unwrap_or_default();
            assert!(errors.is_empty(), "{place} = {value}: {errors:?}");
        }
        for value in outside {
            let errors = wanted(&value).err().unwrap_or_default();
            assert!(errors.iter().any(|error| error.contains(&place)), "{place} = {value}: {errors:?}");
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn every_example_is_one_of_its_key() {
    let validator = jsonschema::validator_for(&crate::config::schema()).unwrap();
    for key in keys() {
        for example in key.schema.get("examples").and_then(Value::as_array).into_iter().flatten() {
            let tree = with([(key.pointer.as_str(), example.clone())]);
            let errors: Vec<String> = validator
                .iter_errors(&tree)
                .filter(|error| !error.to_string().contains("required property"))
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{} = {example}: {errors:?}", key.pointer);
        }
    }
}
