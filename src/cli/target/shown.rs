//! How targets that have registered are shown on a terminal. Pure: what is known goes in, text comes out.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

use crate::{
    cli::paint::harmless,
    registry::{Listed, PutAnswer},
};

/// What became of a target that was put.
pub(super) fn put(put: &PutAnswer) -> String {
    let PutAnswer { name, revision, changed } = put;
    if *changed {
        format!("{name}: registered, revision {revision}\n")
    } else {
        format!("{name}: registered already as it is, revision {revision}\n")
    }
}

/// A JSON object for each target, a line each.
pub(super) fn lines(targets: &[Listed]) -> String {
    targets.iter().map(|target| serde_json::to_string(target).unwrap_or_default() + "\n").collect()
}

/// A table, and below it what is wrong with targets that cannot be used.
pub(super) fn table(targets: &[Listed]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["TARGET", "REVISION", "STATE", "SUBJECTS", "URL"]);
    for target in targets {
        table.add_row([
            harmless(&target.name),
            target.revision.to_string(),
            target.state.as_str().to_owned(),
            harmless(&subjects(&target.subjects)),
            harmless(&target.url),
        ]);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for target in targets {
        for wrong in &target.errors {
            let _ = writeln!(text, "{}: {}", harmless(&target.name), harmless(&wrong.to_string()));
        }
    }
    text
}

fn subjects(subjects: &Value) -> String {
    let list = subjects.as_array().into_iter().flatten().filter_map(Value::as_str);
    list.collect::<Vec<_>>().join(", ")
}
