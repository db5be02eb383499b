//! What deploy/ holds is what Prometheus and Grafana can read, and speaks of metrics that exist.

use std::collections::BTreeSet;

use natshook::metrics::FAMILIES;
use serde_json::Value;

use super::{Alert, alerts, metrics_in, promtool, repository, yaml};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/natshook.json";

/// Panics with what promtool says unless it is content.
fn content_with(args: &[&str]) {
    if let Some((content, said)) = promtool(args, "") {
        assert!(content, "promtool {args:?}: {said}");
    }
}

#[test]
fn prometheus_takes_the_alerts_and_the_scrape_config() {
    content_with(&["check", "rules", ALERTS]);
    content_with(&["check", "config", "deploy/prometheus/prometheus.yml"]);
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to_fire() {
    content_with(&["test", "rules", "deploy/prometheus/alerts_test.yml"]);

    let tests = yaml(&repository("deploy/prometheus/alerts_test.yml"));
    let tests = tests["tests"].as_array().unwrap().iter();
    let tests: Vec<&Value> = tests.flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    let fires = |test: &&&Value| !test["exp_alerts"].as_array().unwrap().is_empty();
    for Alert { name, .. } in alerts(&repository(ALERTS)) {
        let of_it: Vec<&&Value> = tests.iter().filter(|test| test["alertname"] == name.as_str()).collect();
        assert!(of_it.iter().any(&fires), "{name} is not tested to fire");
        assert!(of_it.iter().any(|test| !fires(test)), "{name} is not tested not to fire");
    }
}

#[test]
fn every_alert_has_a_severity_and_a_runbook_entry() {
    let operations = repository("docs/operations.md");
    let alerts = alerts(&repository(ALERTS));
    for Alert { name, severity, runbook, .. } in &alerts {
        assert!(["critical", "warning"].contains(&severity.as_str()), "{name}: {severity}");
        assert_eq!(runbook, &format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(operations.contains(&format!("\n### {name}\n")), "docs/operations.md has no entry {name}");
    }
    let entries = operations.lines().filter_map(|line| line.strip_prefix("### Natshook"));
    assert_eq!(entries.count(), alerts.len(), "each entry has its alert");
}

/// The panels of the dashboard, rows left out.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every query of the dashboard, with what Grafana would put in.
fn dashboard_queries(dashboard: &Value) -> Vec<String> {
    let panels = panels(dashboard);
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    let queries = targets.chain(annotations).filter_map(|holder| holder["expr"].as_str());
    let put_in = [
        ("$__rate_interval", "1m"),
        ("$__interval", "1m"),
        ("$__range", "6h"),
        ("$job", "natshook"),
        ("$target", "fine|fail|reject"),
    ];
    let filled =
        |query: &str| put_in.iter().fold(query.to_owned(), |text, (name, value)| text.replace(name, value));
    queries.map(filled).collect()
}

/// Every query of the dashboard and of docs/metrics.md.
pub(super) fn shown_queries() -> Vec<String> {
    let dashboard = serde_json::from_str(&repository(DASHBOARD)).unwrap();
    [dashboard_queries(&dashboard), documented_queries()].concat()
}

/// The examples in docs/metrics.md.
fn documented_queries() -> Vec<String> {
    let docs = repository("docs/metrics.md");
    let blocks = docs.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn every_query_can_be_parsed_and_names_metrics_that_exist() {
    let dashboard = serde_json::from_str(&repository(DASHBOARD)).unwrap();
    let (shown, documented) = (dashboard_queries(&dashboard), documented_queries());
    assert!(shown.len() > 30 && documented.len() > 8, "{} and {}", shown.len(), documented.len());
    let alerting: Vec<String> = alerts(&repository(ALERTS)).into_iter().map(|alert| alert.expr).collect();
    let queries = [shown, documented, alerting].concat();

    let mut known: BTreeSet<String> = FAMILIES.iter().map(|family| family.name.to_owned()).collect();
    for part in ["bucket", "sum", "count"] {
        known.extend(FAMILIES.iter().map(|family| format!("{}_{part}", family.name)));
    }
    let mut used = BTreeSet::new();
    for query in &queries {
        assert!(!query.contains('$'), "{query} has a variable that the test does not know");
        for name in metrics_in(query) {
            assert!(known.contains(name), "{name} in {query:?} does not exist");
            used.insert(name.to_owned());
        }
    }
    for family in &FAMILIES {
        assert!(used.iter().any(|name| name.starts_with(family.name)), "nobody looks at {}", family.name);
    }

    // A rule for each: promtool parses those.
    let rules = queries.iter().enumerate();
    let rules: Vec<Value> =
        rules.map(|(i, q)| serde_json::json!({ "record": format!("q{i}"), "expr": q })).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let group = serde_json::json!({ "groups": [{ "name": "queries", "rules": rules }] });
    std::fs::write(file.path(), group.to_string()).unwrap();
    content_with(&["check", "rules", file.path().to_str().unwrap()]);
}

#[test]
fn the_dashboard_asks_the_chosen_data_source_and_no_panel_lies_on_another() {
    let dashboard: Value = serde_json::from_str(&repository(DASHBOARD)).unwrap();
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "job", "target"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64()), "two panels have the id {}", panel["id"]);
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
    }
    for panel in panels(&dashboard) {
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", panel["title"]);
        for holder in panel["targets"].as_array().unwrap().iter().chain([panel]) {
            assert_eq!(holder["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}
