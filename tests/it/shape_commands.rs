//! `natshook try`, `send` and `check --tests`: what a target makes of a message, without a broker; and what is told of shapes
//! that are wrong.

use crate::support::connector::{Finished, natshook_with};
use crate::support::{Config, Receiver};

const SHAPED: &str = r#"
filter = "payload.total > 10"
transform = "{id, total}"
headers = { X-Region = "{{ subject[1] }}", X-Key = "hunter1" }
auth = { bearer = "hunter2" }
signing = { secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }
"#;

fn shaped(more: &str) -> Config {
    let url = "https://hooks.example/in/{{ subject[1] }}?key=hunter3&id={{ payload.id }}";
    Config::offline().target("policy", "orders.>", url, &format!("{SHAPED}{more}"))
}

async fn tried(config: &Config, data: &str, more: &[&str]) -> Finished {
    let arguments = ["try", "policy", "--subject", "orders.eu.created", "--data", data];
    natshook_with(config, &[&arguments, more].concat()).await
}

/// The lines with what differs each time left out.
fn steady(text: &str) -> String {
    let steady = |line: &str| match line.trim_start().split_once(": ") {
        Some((name @ ("webhook-id" | "webhook-timestamp" | "webhook-signature" | "user-agent"), _)) => {
            format!("  {name}: …")
        }
        _ => line.to_owned(),
    };
    text.lines().map(steady).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn try_prints_the_request_that_would_be_sent_without_its_secrets() {
    let found =
        tried(&shaped(""), r#"{"id": "a/b", "total": 11, "more": 0}"#, &["--header", "X-Tenant: acme"]).await;
    assert_eq!(found.code, 0, "{}", found.all());
    let mut lines: Vec<String> = steady(&found.stdout).lines().map(str::to_owned).collect();
    // Headers have no order.
    lines[1..11].sort();
    let wanted = [
        "POST https://hooks.example/in/eu?key=[redacted]&id=a%2Fb",
        "  accept: */*",
        "  authorization: [redacted]",
        "  content-type: application/json",
        "  natshook-attempt: 1",
        "  natshook-subject: orders.eu.created",
        "  user-agent: …",
        "  webhook-id: …",
        "  webhook-signature: …",
        "  webhook-timestamp: …",
        "  x-key: hunter1",
        "  x-region: eu",
        "",
        "{\"id\":\"a/b\",\"total\":11}",
    ];
    lines[1..12].sort();
    assert_eq!(lines, wanted, "{}", found.stdout);
    assert!(!found.all().contains("hunter2") && !found.all().contains("hunter3"), "{}", found.all());

    let body = tried(&shaped(""), r#"{"id": 1, "total": 11}"#, &["--body-only"]).await;
    assert_eq!((body.code, body.stdout.as_str()), (0, "{\"id\":1,\"total\":11}"));
}

#[tokio::test]
async fn try_tells_why_nothing_would_be_sent() {
    let dropped = tried(&shaped(""), r#"{"total": 1}"#, &[]).await;
    assert_eq!(
        (dropped.code, dropped.stdout.as_str()),
        (0, "skipped: the filter is false for this message\n")
    );
    let left_out = tried(&shaped("on_filter_error = \"skip\""), "{}", &[]).await;
    assert_eq!(left_out.code, 0);
    assert!(left_out.stdout.contains("the filter cannot judge this message"), "{}", left_out.all());
    let refused = tried(&shaped(""), "{}", &[]).await;
    assert_eq!(refused.code, 1);
    let words =
        "refused: it would become a dead letter (filter_error)\n  filter: there is no field \"total\"\n";
    assert_eq!(refused.stdout, words);
    let failed = tried(&shaped("").and(""), r#"{"total": 11}"#, &[]).await;
    assert!(failed.stdout.contains("(transform_error)\n  url: payload.id is missing"), "{}", failed.all());
    let list = Config::offline().target("policy", "a", "https://hooks.example/", "transform = \".a\"");
    let detailed = tried(&list, "[7]", &[]).await;
    assert!(detailed.stdout.contains("  cannot index [7] with \"a\"\n"), "{}", detailed.all());
    let unknown = natshook_with(&list, &["try", "other", "--data", "x"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no target \"other\"; known are policy"), "{}", unknown.all());
}

#[tokio::test]
async fn send_sends_what_the_shape_makes_or_says_why_it_does_not() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/in/{{ subject[1] }}");
    let config = Config::offline().target(
        "policy",
        "orders.>",
        &url,
        "filter = \"payload.n > 1\"\ntransform = \"[.n]\"",
    );
    let sent =
        natshook_with(&config, &["send", "policy", "--subject", "orders.eu", "--data", "{\"n\": 2}"]).await;
    assert_eq!(sent.code, 0, "{}", sent.all());
    assert_eq!(receiver.bodies("/in/eu"), ["[2]"]);
    let dropped =
        natshook_with(&config, &["send", "policy", "--subject", "orders.eu", "--data", "{\"n\": 1}"]).await;
    assert_eq!(dropped.code, 1);
    assert!(dropped.stdout.contains("skipped: the filter is false"), "{}", dropped.all());
    assert_eq!(receiver.received().len(), 1);
}

const TESTS: &str = r#"
[[targets.tests]]
name = "a large order is sent"
subject = "orders.eu.created"
data = { id = 7, total = 11, more = [1] }
expect = { path = "/in/eu?key=hunter3&id=7", headers = { X-Region = "eu" }, body = { total = 11, id = 7 } }

[[targets.tests]]
name = "a small one is not"
subject = "orders.eu.created"
data = '{"total": 1}'
expect = "skip"

[[targets.tests]]
name = "what is no order is given up"
subject = "orders.eu.created"
data = "no order"
expect = "filter_error"

[[targets.tests]]
name = "an order without id is given up"
subject = "orders.eu.created"
data = { total = 11 }
expect = "transform_error"
"#;

#[tokio::test]
async fn tests_in_the_config_pass_or_say_how_what_is_made_differs() {
    let passed = natshook_with(&shaped(TESTS), &["check", "--tests"]).await;
    assert_eq!(passed.code, 0, "{}", passed.all());
    assert!(passed.stdout.contains("test policy: a large order is sent: ok\n"), "{}", passed.stdout);
    assert!(passed.stdout.ends_with("ok\n"), "{}", passed.stdout);
    let without = natshook_with(&shaped(TESTS), &["check"]).await;
    assert!(without.code == 0 && !without.stdout.contains("test policy"), "{}", without.stdout);

    let wrong = TESTS
        .replace("X-Region = \"eu\"", "X-Region = \"us\", X-None = \"1\"")
        .replace("body = { total = 11,", "body = { total = 12,")
        .replace("/in/eu?key=", "/in/us?key=")
        .replace("\"skip\"", "\"transform_error\"");
    let failed = natshook_with(&shaped(&wrong), &["check", "--tests"]).await;
    assert_eq!(failed.code, 1, "{}", failed.all());
    assert!(failed.stderr.contains("2 of 4 tests failed"), "{}", failed.stderr);
    for line in [
        "test policy: a large order is sent: failed",
        "  path: expected /in/us?key=hunter3&id=7, found /in/eu?key=hunter3&id=7",
        "  header x-region: expected \"us\", found \"eu\"",
        "  header x-none: expected \"1\", found none",
        "  body.total: expected 12, found 11",
        "test policy: a small one is not: failed",
        "  expected a dead letter (transform_error), found that it is left out",
        "test policy: what is no order is given up: ok",
    ] {
        assert!(failed.stdout.lines().any(|found| found == line), "{line} is missing:\n{}", failed.stdout);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_shape_is_told_at_its_place_and_all_at_once() {
    let more = r#"
filter = """payload.total > 10
  && region == 'eu'"""
transform = "{id: .id, total: foo}"
on_filter_error = "drop"
headers = { X-Secret = "hunter2 {{ tenant }}", X-Open = "{{ subject" }
[[targets.tests]]
expect = "nothing"
data = 7
"#;
    let config = Config::offline().target("policy", "a", "https://{{ subject }}.example/hunter2", more);
    let found = natshook_with(&config, &["check"]).await;
    assert_eq!(found.code, 78, "{}", found.all());
    for words in [
        "targets[0].url (target \"policy\"): has a template before its path",
        "targets[0].filter (target \"policy\"): line 2, column 6: unknown variable \"region\"; known are payload, headers",
        "      && region == 'eu'\n         ^\n",
        "targets[0].transform (target \"policy\"): line 1, column 18: unknown function foo/0",
        "    {id: .id, total: foo}\n                     ^\n",
        "targets[0].on_filter_error (target \"policy\"): found \"drop\", expected \"dead_letter\", \"deliver\" or \"skip\"",
        "targets[0].headers.X-Secret (target \"policy\"): cannot be read as a template: character 12: unknown name \"tenant\"",
        "targets[0].headers.X-Open (target \"policy\"): cannot be read as a template: character 11: expected }} here; a literal {{ is written {{ \"{{\" }}",
        "targets[0].tests[0].name (target \"policy\"): is missing",
        "targets[0].tests[0].expect (target \"policy\"): found \"nothing\", expected \"skip\", \"filter_error\"",
    ] {
        assert!(found.all().contains(words), "{words} is missing:\n{}", found.all());
    }
    assert!(!found.all().contains("hunter2"), "{}", found.all());
    for url in ["https://h.example/a/{{ subject }}/../b", "https://h.example/#{{ subject }}"] {
        let lost = natshook_with(&Config::offline().target("policy", "a", url, ""), &["check"]).await;
        assert!(
            lost.code == 78 && lost.all().contains("has a template that is no part of path or query"),
            "{}",
            lost.all()
        );
    }
}
