//! Where in a target as it is written secrets stand, and which of its keys name files: told by the schema, so that a key
//! that a later version adds is known here too. What is done with them is for others.

use serde_json::Value;

use super::{error::KeyPath, schema};

/// What the names of keys end in whose texts are paths of files.
const FILE: &str = "file";

/// What stands at a place of a target.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// A secret, however it is given.
    Secret,
    /// The path of a file.
    File,
}

/// Calls `visit` with every secret and every file in `target`, and where it is.
pub fn visit_places(target: &mut Value, path: &KeyPath, visit: &mut impl FnMut(Place, &KeyPath, &mut Value)) {
    walk(target, &[schema::target()], path, visit);
}

fn walk(
    value: &mut Value,
    schemas: &[&'static Value],
    path: &KeyPath,
    visit: &mut impl FnMut(Place, &KeyPath, &mut Value),
) {
    let mut variants = Vec::new();
    schemas.iter().for_each(|schema| schema::variants(schema, &mut variants));
    // A list where there may be one is looked into; any other is a secret that is written wrong.
    let is_list = value.is_array() && variants.iter().any(|schema| schema.get("items").is_some());
    if !is_list && variants.iter().any(|schema| is_secret(schema)) {
        return visit(Place::Secret, path, value);
    }
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let path = path.key(key);
                let known: Vec<&'static Value> =
                    variants.iter().filter_map(|schema| schema.get("properties")?.get(key)).collect();
                if value.is_string() && !known.is_empty() && names_file(key) {
                    visit(Place::File, &path, value);
                    continue;
                }
                // Tables with free keys, such as headers.
                let free = variants.iter().filter_map(|schema| schema.get("additionalProperties"));
                let inner = if known.is_empty() { free.collect() } else { known };
                walk(value, &inner, &path, visit);
            }
        }
        Value::Array(list) => {
            let items: Vec<&'static Value> =
                variants.iter().filter_map(|schema| schema.get("items")).collect();
            for (index, value) in list.iter_mut().enumerate() {
                walk(value, &items, &path.index(index), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_secret(schema: &Value) -> bool {
    schema.get("$ref").and_then(Value::as_str).is_some_and(|path| path.ends_with("/Secret"))
}

fn names_file(key: &str) -> bool {
    key == FILE || key.ends_with("_file")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// A value for `schema` in which every key is set, and a text stands for each secret.
    fn filled(schema: &'static Value) -> Value {
        let mut variants = Vec::new();
        schema::variants(schema, &mut variants);
        if variants.iter().any(|schema| is_secret(schema)) {
            return json!("hunter2");
        }
        let table = variants.iter().find_map(|schema| schema.get("properties")?.as_object());
        if let Some(properties) = table {
            return properties.iter().map(|(key, schema)| (key.clone(), filled(schema))).collect();
        }
        if let Some(items) = variants.iter().find_map(|schema| schema.get("items")) {
            return json!([filled(items)]);
        }
        match variants.iter().find_map(|schema| schema.get("additionalProperties").filter(|s| s.is_object()))
        {
            Some(free) => json!({ "x-name": filled(free) }),
            None => json!("text"),
        }
    }

    /// How often the schema below `schema` has a key that is a secret.
    fn secrets_in(schema: &'static Value) -> usize {
        let mut variants = Vec::new();
        schema::variants(schema, &mut variants);
        if variants.iter().any(|schema| is_secret(schema)) {
            return 1;
        }
        let below = variants.iter().flat_map(|schema| {
            let tables =
                schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|p| p.values());
            let others = [schema.get("items"), schema.get("additionalProperties").filter(|s| s.is_object())];
            tables.chain(others.into_iter().flatten()).collect::<Vec<_>>()
        });
        below.map(secrets_in).sum()
    }

    #[test]
    fn every_secret_that_the_schema_knows_is_found() {
        let mut target = filled(schema::target());
        let mut found = Vec::new();
        visit_places(&mut target, &KeyPath::default(), &mut |place, path, value| {
            if place == Place::Secret {
                found.push(path.keys().to_owned());
                *value = json!({ "sealed": true });
            }
        });
        for key in ["auth.bearer", "auth.basic.password", "auth.header.value", "signing.secrets[0]"] {
            assert!(found.iter().any(|path| path == key), "{key} in {found:?}");
        }
        assert_eq!(found.len(), secrets_in(schema::target()), "{found:?}");
        assert!(!target.to_string().contains("hunter2"), "{target}");
    }

    #[test]
    fn a_header_called_file_is_no_file() {
        let mut target =
            json!({ "headers": { "file": "x" }, "auth": { "bearer": { "file": "/etc/passwd" } } });
        let mut found = Vec::new();
        visit_places(&mut target, &KeyPath::default(), &mut |place, path, _| {
            found.push((place, path.keys().to_owned()))
        });
        assert_eq!(found, [(Place::Secret, "auth.bearer".to_owned())]);
    }
}
