//! What docs/ promises exists: the tests that SECURITY.md names, and an explanation of every ERROR line.

use std::{fs, path::Path};

use super::{
    OPERATIONS, SECURITY,
    blocks::{Block, blocks},
    repository,
};

#[test]
fn every_test_that_proves_a_promise_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<&str> = SECURITY.split('`').filter(|text| text.contains("::")).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = format!("{}.rs", module.replace("::", "/"));
        let places = ["tests/it", "src"].map(|folder| fs::read_to_string(root.join(folder).join(&file)));
        let found = places.into_iter().flatten().any(|text| text.contains(&format!("fn {test}(")));
        assert!(found, "SECURITY.md names a test {name} that does not exist");
    }
}

#[test]
fn every_alert_s_entry_in_the_runbook_has_commands() {
    let (_, alerts) = OPERATIONS.split_once("\n## Alerts\n").unwrap();
    let (alerts, _) = alerts.split_once("\n## ").unwrap();
    let entries: Vec<&str> = alerts.split("\n### ").skip(1).collect();
    assert_eq!(entries.len(), repository("deploy/prometheus/alerts.yml").matches("- alert: ").count());
    for entry in entries {
        let name = entry.lines().next().unwrap();
        assert!(blocks(name, entry).iter().any(Block::has_commands), "{name}: what is to be typed?");
        assert!(entry.to_lowercase().contains("*do"), "{name}: what is to be done?");
    }
}

#[test]
fn every_error_line_is_explained() {
    let mut found = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("src/cli") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for text in error_texts(&fs::read_to_string(&path).unwrap()) {
                found += 1;
                assert!(
                    OPERATIONS.contains(&format!("`{text}`")),
                    "docs/operations.md does not explain the ERROR {text:?} of {}",
                    path.display()
                );
            }
        }
    }
    assert!(found > 15, "only {found} ERROR lines found in src/");
}

/// The message of each `tracing::error!(…)`: the last text in it.
fn error_texts(source: &str) -> Vec<String> {
    source.split("tracing::error!(").skip(1).filter_map(last_text).collect()
}

fn last_text(call: &str) -> Option<String> {
    let (mut depth, mut last, mut text) = (1, None, None::<String>);
    for character in call.chars() {
        match (&mut text, character) {
            (Some(_), '"') => last = text.take(),
            (Some(text), other) => text.push(other),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    last
}
