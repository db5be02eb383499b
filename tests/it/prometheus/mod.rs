//! Metrics, alerts and the dashboard, as Prometheus sees them: `list` holds code and docs together, `files` checks
//! what is in deploy/, and `live` lets a real Prometheus watch a real natshook through every fault that has an alert.

mod files;
mod list;
mod live;
mod server;

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::tools::tool;

/// A rule of alerts.yml, as far as tests look at it.
#[derive(Debug)]
struct Alert {
    name: String,
    expr: String,
    /// How long the expression must hold; none when it fires at once.
    hold: Option<String>,
    severity: String,
    runbook: String,
}

/// A file of the repository.
fn repository(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> serde_json::Value {
    let source = config::File::from_str(text, config::FileFormat::Yaml);
    config::Config::builder().add_source(source).build().unwrap().try_deserialize().unwrap()
}

/// The alerts in the text of a rules file.
fn alerts(text: &str) -> Vec<Alert> {
    let rules = yaml(text);
    let rules =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    rules
        .map(|rule| Alert {
            name: text(&rule["alert"]),
            expr: text(&rule["expr"]),
            hold: rule["for"].as_str().map(str::to_owned),
            severity: text(&rule["labels"]["severity"]),
            runbook: text(&rule["annotations"]["runbook_url"]),
        })
        .collect()
}

/// Runs `promtool ARGS` with `input`: whether it was content, and what it said. `None` where there is no promtool.
fn promtool(args: &[&str], input: &str) -> Option<(bool, String)> {
    let mut child = Command::new(tool("promtool")?)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Some((done.status.success(), said))
}

/// The names of natshook's metrics and of its process in a query.
fn metrics_in(query: &str) -> Vec<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("natshook_") || word.starts_with("process_")).collect()
}
