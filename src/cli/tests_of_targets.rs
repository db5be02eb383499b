//! `natshook check --tests`: what targets make of the messages that their tests name, and how that differs from what the
//! tests expect.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Failure, print,
    sample::{self, Fate, Sent},
};
use crate::{
    config::{Config, Expected, ExpectedBody, ExpectedRequest, TargetTest},
    shaper::Shaper,
    target::Target,
};

/// The most differences of a body that are shown.
const DIFFERENCES_MAX: usize = 10;

/// Runs all tests of `config`, and prints a line for each.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let mut failed = 0;
    for target in config.targets() {
        let shaper = sample::shaper(target);
        for test in config.tests.iter().filter(|test| test.target == target.name) {
            let differences = differences(target, shaper.as_ref(), test).await?;
            let word = if differences.is_empty() { "ok" } else { "failed" };
            print(&format!("test {}: {}: {word}\n{}", target.name, test.name, indented(&differences)))?;
            failed += usize::from(!differences.is_empty());
        }
    }
    match (failed, config.tests.len()) {
        (0, 0) => print("no tests: write them as [[targets.tests]]\n"),
        (0, _) => Ok(()),
        (failed, all) => Err(Failure::Tests(failed, all)),
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    })
}

/// How what becomes of the message differs from what is expected; nothing where it does not.
async fn differences(
    target: &Target,
    shaper: Option<&Shaper>,
    test: &TargetTest,
) -> Result<Vec<String>, Failure> {
    let delivery =
        sample::delivery(target, test.subject.as_deref(), test.headers.clone(), test.payload.clone());
    let fate = sample::fate(target, shaper, &delivery).await?;
    Ok(match (&test.expected, &fate) {
        (Expected::Skip, Fate::Skipped(_)) => Vec::new(),
        (Expected::Refused(reason), Fate::Refused(refusal)) if *reason == refusal.reason => Vec::new(),
        (Expected::Request(request), Fate::Sent(sent)) => request_differences(target, request, sent),
        (expected, found) => vec![format!("expected {}, found {}", expectation(expected), outcome(found))],
    })
}

fn expectation(expected: &Expected) -> String {
    match expected {
        Expected::Skip => "that it is left out".to_owned(),
        Expected::Refused(reason) => format!("a dead letter ({})", reason.as_str()),
        Expected::Request(_) => "a request".to_owned(),
    }
}

fn outcome(fate: &Fate) -> String {
    match fate {
        Fate::Sent(sent) => format!("a request to {}", sent.address),
        Fate::Skipped(_) => "that it is left out".to_owned(),
        Fate::Refused(refusal) => match &refusal.detail {
            None => format!("a dead letter ({}): {}", refusal.reason.as_str(), refusal.error),
            Some(detail) => {
                format!("a dead letter ({}): {} ({detail})", refusal.reason.as_str(), refusal.error)
            }
        },
    }
}

fn request_differences(target: &Target, expected: &ExpectedRequest, sent: &Sent) -> Vec<String> {
    let mut differences = Vec::new();
    if let Some(path) = &expected.path {
        let url = target.url.expose();
        let own = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let found = sent.request.path.as_ref().map_or(own, |path| path.as_str());
        if found != path {
            differences.push(format!("path: expected {path}, found {found}"));
        }
    }
    for (name, value) in &expected.headers {
        let values: Vec<_> = sent.request.headers.get_all(name).iter().collect();
        match values.as_slice() {
            [] => differences.push(format!("header {name}: expected {value:?}, found none")),
            // A test that expects a secret would be a place where it is written down.
            [found, ..] if found.is_sensitive() => {
                differences.push(format!("header {name}: is secret, and no test can see it"))
            }
            found if found.iter().any(|found| found.as_bytes() == value.as_bytes()) => {}
            [found, ..] => {
                let found = String::from_utf8_lossy(found.as_bytes());
                differences.push(format!("header {name}: expected {value:?}, found {found:?}"));
            }
        }
    }
    match &expected.body {
        None => {}
        Some(ExpectedBody::Text(text)) if text.as_bytes() == &sent.request.body[..] => {}
        Some(ExpectedBody::Text(text)) => {
            let found = String::from_utf8_lossy(&sent.request.body);
            differences.push(format!("body: expected {text:?}, found {found:?}"));
        }
        Some(ExpectedBody::Json(expected)) => match serde_json::from_slice(&sent.request.body) {
            Ok(found) => json_differences("body", expected, &found, &mut differences),
            Err(_) => differences.push("body: expected JSON, found something else".to_owned()),
        },
    }
    differences
}

/// Where two JSON values differ, with the place of each difference.
fn json_differences(place: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    if differences.len() >= DIFFERENCES_MAX || expected == found {
        return;
    }
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                match found.get(key) {
                    Some(other) => json_differences(&format!("{place}.{key}"), value, other, differences),
                    None => differences.push(format!("{place}.{key}: expected {value}, found nothing")),
                }
            }
            for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                differences.push(format!("{place}.{key}: expected nothing, found {value}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (value, other)) in expected.iter().zip(found).enumerate() {
                json_differences(&format!("{place}[{index}]"), value, other, differences);
            }
        }
        _ => differences.push(format!("{place}: expected {expected}, found {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_is_told_at_its_place() {
        let expected = json!({ "a": [1, { "b": 2 }], "c": 3, "e": [1] });
        let found = json!({ "a": [1, { "b": 4 }], "d": 5, "e": [1, 2] });
        let mut differences = Vec::new();
        json_differences("body", &expected, &found, &mut differences);
        assert_eq!(
            differences,
            [
                "body.a[1].b: expected 2, found 4",
                "body.c: expected 3, found nothing",
                "body.e: expected [1], found [1,2]",
                "body.d: expected nothing, found 5",
            ]
        );
    }
}
