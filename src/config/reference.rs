//! The reference of the config for people, docs/configuration.md, written from the schema: a table for each table of the
//! config. What a key is, its default and its range are all said elsewhere; here is only how they are laid out.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{
    load::{PREFIX, SEPARATOR},
    schema::{bare, range, toml},
};

/// What stands above the tables.
const HEAD: &str = include_str!("reference.md");

/// The keys of a target; the rest of them are `defaults`' too.
const TARGET: &str = "targets";
const DEFAULTS: &str = "defaults";
/// Accounts, whose tables are the same as those above all.
const CONNECTIONS: &str = "connections";
/// The tables of a target that come in a list.
const TESTS: &str = "tests";

/// Every key of the config, as Markdown.
#[must_use]
pub fn reference() -> String {
    let root = bare();
    let mut tables = Vec::new();
    collect(&root, &root, &[], &mut tables);
    // The keys that stand outside of any table come first, then the tables in the order of the file.
    let mut page = HEAD.to_owned();
    for table in tables {
        page.push_str(&table.markdown(&root));
    }
    page
}

/// A table of the config: where it is, and its schema.
struct Table<'a> {
    path: Vec<&'a str>,
    about: &'a str,
    properties: &'a Map<String, Value>,
    required: Vec<&'a str>,
}

/// Adds the table that `schema` is, and the tables in it.
fn collect<'a>(root: &'a Value, schema: &'a Value, path: &[&'a str], tables: &mut Vec<Table<'a>>) {
    let table = resolve(root, schema);
    let Some(properties) = table.get("properties").and_then(Value::as_object) else { return };
    let about = schema.get("description").or(table.get("description")).and_then(Value::as_str);
    let required = table.get("required").and_then(Value::as_array).into_iter().flatten();
    let required = required.filter_map(Value::as_str).collect();
    tables.push(Table { path: path.to_vec(), about: about.unwrap_or_default(), properties, required });
    for (key, inner) in properties {
        let path = [path, &[key.as_str()]].concat();
        // What a target and the defaults have in common is told once, at the defaults; what a connection has, at the root.
        let told_elsewhere =
            path.len() == 2 && (path[0] == CONNECTIONS || path[0] == TARGET && is_default(root, key));
        if !told_elsewhere {
            collect(root, table_in(inner), &path, tables);
        }
    }
}

/// Whether the defaults have `key`.
fn is_default(root: &Value, key: &str) -> bool {
    let defaults = root.get("properties").and_then(|properties| properties.get(DEFAULTS));
    let defaults = defaults.and_then(|schema| resolve(root, schema).get("properties"));
    defaults.is_some_and(|properties| properties.get(key).is_some())
}

/// The table that a key holds: itself, the entries of a list of tables, or the alternative that is one.
fn table_in(schema: &Value) -> &Value {
    let alternatives = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let table = alternatives.into_iter().find(|schema| schema.get("properties").is_some());
    table.or(schema.get("items")).unwrap_or(schema)
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    reference.and_then(|path| root.pointer(path.trim_start_matches('#'))).unwrap_or(schema)
}

impl Table<'_> {
    fn markdown(&self, root: &Value) -> String {
        let heading = match self.path.as_slice() {
            [] => "Outside of any table".to_owned(),
            [TARGET | CONNECTIONS] | [TARGET, TESTS] => format!("`[[{}]]`", self.path.join(".")),
            path => format!("`[{}]`", path.join(".")),
        };
        let about = match self.path.as_slice() {
            [] => String::new(),
            [TARGET] => format!(
                "{} Beside these keys, every key of [`[{DEFAULTS}]`](#{DEFAULTS}) and of the tables in it: what a target says \
                 itself holds for it (`NATSHOOK__TARGETS__0__TIMEOUT`, …).\n\n",
                self.about
            ),
            [CONNECTIONS] => format!(
                "{} Beside these keys, its own tables of the names above: `[connections.nats]`, `[[connections.targets]]` \
                 (`NATSHOOK__CONNECTIONS__0__NATS__SERVERS`, …).\n\n",
                self.about
            ),
            _ => format!("{}\n\n", text(self.about)),
        };
        let mut lines = format!(
            "\n## {heading}\n\n{about}| key, variable | type | default | what it is |\n|---|---|---|---|\n"
        );
        for (key, schema) in self.properties {
            let shared = self.path == [TARGET] && !self.required.contains(&key.as_str());
            if !shared && !is_table(root, schema) {
                let _ = writeln!(lines, "{}", self.row(key, schema));
            }
        }
        lines
    }

    fn row(&self, key: &str, schema: &Value) -> String {
        let path = [&self.path, [key].as_slice()].concat();
        let kind = kind(schema);
        let range = schema.as_object().and_then(range).map(|range| format!(", {range}")).unwrap_or_default();
        let default = match schema.get("default") {
            Some(value) => format!("`{}`", toml(value)),
            None if self.required.contains(&key) => "required".to_owned(),
            None => "none".to_owned(),
        };
        let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        let example = example(schema).map(|value| format!(" `{key} = {}`", toml(value))).unwrap_or_default();
        let cells = [format!("{kind}{range}"), default, format!("{}{example}", text(about))];
        format!(
            "| `{key}`<br>`{}` | {} |",
            variable(&path),
            cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
        )
    }
}

/// What a description is in Markdown, which takes `<NAME>` for markup.
fn text(description: &str) -> String {
    description.replace('<', "&lt;")
}

/// Whether the key holds a table with keys of its own and nothing else, which is told apart.
fn is_table(root: &Value, schema: &Value) -> bool {
    resolve(root, table_in(schema)).get("properties").is_some() && schema.get("anyOf").is_none()
}

/// An example that says more than the default.
fn example(schema: &Value) -> Option<&Value> {
    let examples = schema.get("examples").and_then(Value::as_array)?;
    let default = schema.get("default");
    examples.iter().find(|example| Some(*example) != default && (default.is_none() || !example.is_string()))
}

/// The variable that overrides the key at `path`; of a target, those of the first one.
fn variable(path: &[&str]) -> String {
    let parts = path.iter().map(|key| match *key {
        list @ (TARGET | CONNECTIONS | TESTS) => format!("{list}{SEPARATOR}0").to_uppercase(),
        key => key.to_uppercase(),
    });
    [PREFIX.to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join(SEPARATOR)
}

/// The type of a key, in words.
fn kind(schema: &Value) -> String {
    if schema.get("$ref").and_then(Value::as_str).is_some_and(|path| path.ends_with("/Secret")) {
        return "secret".to_owned();
    }
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return title.to_owned();
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
        return alternatives.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema.get("oneOf").and_then(Value::as_array) {
        let words = words.iter().filter_map(|word| word.get("const")).map(|word| format!("`{}`", toml(word)));
        return words.collect::<Vec<_>>().join(" or ");
    }
    let of = |key: &str| schema.get(key).filter(|value| value.is_object()).map(kind);
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("array") => format!("list of {}s", of("items").unwrap_or_default()),
        Some("object") => {
            of("additionalProperties").map_or("table".to_owned(), |of| format!("table of {of}s"))
        }
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::load::key_of;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

    #[test]
    fn the_page_is_what_the_schema_says() {
        let page = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            page == reference(),
            "docs/configuration.md is not current: cargo run -- schema --markdown > docs/configuration.md"
        );
    }

    #[test]
    fn every_variable_leads_to_its_key() {
        let page = reference();
        let mut tables = page.split("\n## ").skip(1).collect::<Vec<_>>();
        tables.retain(|table| table.contains("| key, variable |"));
        assert!(tables.len() > 15, "{}", tables.len());
        for table in tables {
            let name = table.lines().next().unwrap().trim_matches(['`', '[', ']']);
            for row in table.lines().filter(|line| line.starts_with("| `")) {
                let ticked: Vec<&str> = row.split('`').collect();
                let (key, variable) = (ticked[1], ticked[3].strip_prefix("NATSHOOK__").unwrap());
                let path = match name {
                    "Outside of any table" => key.to_owned(),
                    CONNECTIONS => format!("{CONNECTIONS}[0].{key}"),
                    table => {
                        format!("{table}.{key}").replace("targets", "targets[0]").replace("tests", "tests[0]")
                    }
                };
                assert_eq!(key_of(variable), Some(path), "{row}");
            }
        }
    }
}
