//! Judging: one case for every class of error, and what holds when nothing is said.

#![allow(clippy::unwrap_used)]
use super::*;
use std::{num::NonZeroUsize, time::Duration};

use crate::{
    backoff::Schedule,
    config::{LoadError, SourceKind, limits::DAY},
    target::{Auth, Concurrency, Start},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const REQUIRED: &str = "name = \"a\"\nsubjects = \"x.>\"\nurl = \"https://hooks.example/\"\n";

fn load(text: &str) -> Result<Config, LoadError> {
    Config::from_toml(text, "t.toml")
}

/// A config with one right target, which `keys` adds to.
fn target(keys: &str) -> String {
    format!("[[targets]]\n{REQUIRED}{keys}\n")
}

/// A config with one right target after `tables`.
fn global(tables: &str) -> String {
    format!("{tables}\n{}", target(""))
}

/// The errors, without their origin.
fn errors(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(|line| line.replacen("t.toml: ", "", 1)).collect(),
    }
}

#[test]
fn a_target_with_three_keys_is_enough() {
    let config = load(&target("")).unwrap();
    assert_eq!(config.name.as_str(), "natshook");
    assert_eq!(config.connections[0].source, SourceKind::JetStream);
    assert_eq!(config.connections[0].nats.servers[0].to_string(), "nats://127.0.0.1:4222");
    assert_eq!(config.connections[0].dead_letter.max_age, Some(30 * DAY));
    assert_eq!(config.shutdown.grace_period, Duration::from_secs(35));
    let target = &config.connections[0].targets[0];
    assert_eq!((target.method.as_str(), target.concurrency.max().get()), ("POST", 64));
    assert_eq!((target.auth.kind(), target.start), ("none", Start::New));
    assert_eq!((target.retry.schedule.attempts(), target.max_payload_bytes), (9, 1_048_576));
    assert_eq!(humantime::format_duration(target.retry.horizon()).to_string(), "17h 42m 35s");
    assert_eq!(target.retry.overload_wait, Duration::from_secs(60));
}

#[test]
fn concurrency_is_a_number_or_a_table() {
    let of = |more: &str| load(&target(more)).unwrap().connections[0].targets[0].concurrency;
    let n = |n| NonZeroUsize::new(n).unwrap();
    assert_eq!(of("concurrency = 7"), Concurrency::Fixed(n(7)));
    assert_eq!(of("concurrency = { max = 7 }"), Concurrency::Fixed(n(7)));
    assert_eq!(of("concurrency = { max = 7, adaptive = true }"), Concurrency::Adaptive { max: n(7) });
    assert_eq!(of("concurrency = { adaptive = true }"), Concurrency::Adaptive { max: n(64) });
}

#[test]
fn every_class_of_error_is_named_with_its_key() {
    let long = format!("retry = {{ delays = {:?} }}", vec!["1s"; 101]);
    for (keys, wanted) in [
        (
            "timeout = \"soon\"",
            "targets[0].timeout (target \"a\"): found \"soon\", expected a duration such as",
        ),
        ("timeout = \"6m\"", "found 6m, expected 10ms to 5m"),
        ("timeout = 30", "found 30, expected a duration"),
        ("timout = \"3s\"", "targets[0].timout (target \"a\"): unknown key; did you mean \"timeout\"?"),
        ("zzz = 1", "unknown key; expected one of auth, batch, cloudevents, concurrency"),
        (
            "retry = { delay = [] }",
            "targets[0].retry.delay (target \"a\"): unknown key; did you mean \"delays\"?",
        ),
        ("retry = 5", "targets[0].retry (target \"a\"): found a number, expected a table"),
        ("retry = [1]", "found a list, expected a table"),
        ("retry = { delays = [\"1s\", \"x\"] }", "targets[0].retry.delays[1] (target \"a\"): found \"x\""),
        (
            "retry = { delays = [\"1s\"], preset = \"standard-webhooks\" }",
            "found delays and preset, expected only one",
        ),
        ("retry = { initial = \"1s\" }", "targets[0].retry.max (target \"a\"): is missing"),
        (
            "retry = { initial = \"2h\", max = \"1h\", attempts = 3 }",
            "found 2h, which is longer than max = 1h",
        ),
        ("retry = { initial = \"1s\", max = \"1h\", attempts = 0 }", "found 0, expected 1 to 1000"),
        (
            "retry = { initial = \"1s\", max = \"1h\", attempts = 3, factor = 0.5 }",
            "found 0.5, expected 1 to 1000",
        ),
        ("retry = { preset = \"fast\" }", "found \"fast\", expected \"standard-webhooks\""),
        ("retry = { jitter = 1.5 }", "found 1.5, expected 0 to 1"),
        (long.as_str(), "found 101 entries, expected at most 100"),
        ("concurrency = 0", "found 0, expected 1 to 10000"),
        ("concurrency = -1", "found -1, expected a whole number"),
        ("concurrency = [1]", "found a list, expected a whole number, or a table such as { max = 64"),
        (
            "concurrency = { max = 0 }",
            "targets[0].concurrency.max (target \"a\"): found 0, expected 1 to 10000",
        ),
        (
            "concurrency = { max = 5, adaptive = 3 }",
            "concurrency.adaptive (target \"a\"): found 3, expected true",
        ),
        (
            "concurrency = { most = 5 }",
            "concurrency.most (target \"a\"): unknown key; expected one of adaptive, max",
        ),
        ("rate = \"fast\"", "expected a rate such as \"100/s\""),
        ("start = \"yesterday\"", "found \"yesterday\", expected \"new\", \"all\", a time"),
        ("start = 0", "found 0, expected \"new\""),
        ("max_payload_bytes = \"1 parsec\"", "expected bytes such as"),
        ("max_payload_bytes = 0", "found 0, expected 1 to 67108864"),
        ("method = \"GET\"", "found \"GET\", expected POST, PUT, PATCH"),
        ("method = \"post\"", "in capitals"),
        (
            "headers = { Host = \"x\" }",
            "targets[0].headers.Host (target \"a\"): the header \"Host\" is reserved: it belongs",
        ),
        ("headers = { Authorization = \"x\" }", "credentials belong in auth"),
        ("headers = { Webhook-Id = \"x\" }", "natshook sets it itself"),
        (
            "headers = { \"a b\" = \"x\" }",
            "targets[0].headers.\"a b\" (target \"a\"): \"a b\" is not a header name",
        ),
        ("headers = { a = \"x\\u0000\" }", "has a character that no header can carry"),
        ("headers = { a = \"é\" }", "has a character that no header can carry"),
        ("pass_headers = [\"Connection\"]", "targets[0].pass_headers[0] (target \"a\"): the header"),
        (
            "auth = { bearer = \"x\", header = { name = \"a\", value = \"b\" } }",
            "found bearer and header, expected only one",
        ),
        ("auth = {}", "has none of bearer, basic, header, oauth2, sigv4; expected exactly one"),
        ("auth = { bearer = \"\" }", "targets[0].auth.bearer (target \"a\"): the secret is empty"),
        (
            "auth = { bearer = { env = \"NATSHOOK_TEST_NONE\" } }",
            "the environment variable NATSHOOK_TEST_NONE is not set",
        ),
        ("auth = { bearer = { file = \"/none\" } }", "the secret's file /none cannot be read"),
        ("auth = { basic = { user = \"a:b\", password = \"c\" } }", "has a colon"),
        ("auth = { basic = { user = \"a\" } }", "targets[0].auth.basic.password (target \"a\"): is missing"),
        ("auth = { header = { name = \"webhook-id\", value = \"c\" } }", "is reserved"),
        (
            "signing = { secrets = [\"hunter2\"] }",
            "targets[0].signing.secrets[0] (target \"a\"): the secret must begin",
        ),
        ("signing = { secrets = [] }", "is empty, expected at least one entry"),
        ("signing = {}", "targets[0].signing (target \"a\"): has none of secrets, message_signatures"),
        (
            "outcomes = { transient = [200] }",
            "targets[0].outcomes.transient[0] (target \"a\"): found 200, expected 300 to 599",
        ),
        ("outcomes = { transient = [404], permanent = [404] }", "found 404 in transient and in permanent"),
    ] {
        let found = errors(&target(keys));
        assert!(
            found.iter().any(|error| error.contains(wanted)),
            "{keys}\n  wanted {wanted}\n  found {found:#?}"
        );
    }
}

#[test]
fn names_subjects_and_urls_have_their_rules() {
    for (key, value, wanted) in [
        ("name", "\"a.b\"", "targets[0].name (target \"a.b\"): found \"a.b\", expected letters"),
        ("subjects", "[]", "targets[0].subjects (target \"a\"): is empty"),
        (
            "subjects",
            "[\"a\", \"b..c\"]",
            "targets[0].subjects[1] (target \"a\"): \"b..c\" has an empty token",
        ),
        ("subjects", "\"natshook.retry.a\"", "which natshook itself publishes to"),
        (
            "subjects",
            "[\"natshook.dead-letter.>\"]",
            "expected a subject that does not reach \"natshook.dead-letter.*\"",
        ),
        ("subjects", "5", "found 5, expected a text or a list of texts"),
        ("url", "\"hooks.example\"", "expected an address such as"),
        ("url", "\"ftp://hooks.example/\"", "found \"ftp://hooks.example/\", expected an address"),
        (
            "url",
            "\"http://hooks.example/\"",
            "plain http is not allowed; use https, or set egress.allow_http",
        ),
        ("url", "\"https://10.1.2.3/\"", "10.1.2.3 is not a public address"),
        (
            "url",
            "\"https://hooks.example:9000/\"",
            "port 9000 is not in egress.ports (443, 8443); add it there, or the receiver's range to egress.allow",
        ),
        ("url", "\"https://hooks.example/#x\"", "has a fragment"),
        ("url", "\"https://user:hunter2@hooks.example/\"", "has a user or a password in the URL"),
    ] {
        let line = REQUIRED.lines().find(|line| line.starts_with(key)).unwrap();
        let text = target("").replace(line, &format!("{key} = {value}"));
        let found = errors(&text);
        assert!(
            found.iter().any(|error| error.contains(wanted)),
            "{value}\n  wanted {wanted}\n  found {found:#?}"
        );
        let absent = errors(&target("").replace(line, ""));
        assert!(absent.len() == 1 && absent[0].contains(&format!("targets[0].{key}")), "{absent:#?}");
        assert!(absent[0].contains("is missing"), "{absent:#?}");
    }
}

#[test]
fn the_global_tables_have_their_rules() {
    for (tables, wanted) in [
        ("name = \"a b\"", "name: found \"a b\", expected letters"),
        ("source = \"kafka\"", "source: found \"kafka\", expected \"jetstream\" or \"core\""),
        ("shutdown = { grace_period = \"2h\" }", "shutdown.grace_period: found 2h, expected 0s to 1h"),
        ("nats = { servers = [] }", "nats.servers: is empty"),
        ("nats = { servers = \"http://a\" }", "found \"http://a\", expected a server's address"),
        ("nats = { servers = [\"nats://\"] }", "nats.servers[0]: "),
        (
            "nats = { token = \"a\", user = \"b\", password = \"c\" }",
            "nats: found token and user + password, expected only one",
        ),
        ("nats = { user = \"a\" }", "nats.user: needs password beside it"),
        ("nats = { password = \"a\" }", "nats.password: needs user beside it"),
        ("nats = { nkey_seed = \"hunter2\" }", "nats.nkey_seed: the secret is not an nkey seed"),
        ("nats = { credentials_file = \"/none\" }", "nats.credentials_file: cannot read /none"),
        (
            "nats = { inbox_prefix = \"a.*\" }",
            "nats.inbox_prefix: found \"a.*\", expected a subject without wildcards",
        ),
        ("nats = { tls = { cert_file = \"/none\" } }", "nats.tls.cert_file: needs key_file beside it"),
        ("nats = { tls = { ca_file = \"/none\" } }", "nats.tls.ca_file: cannot read /none"),
        (
            "stream = { name = \"a.b\" }",
            "stream.name: found \"a.b\", expected a name of at most 255 bytes, without",
        ),
        ("stream = { name = \"NATSHOOK_RETRY\" }", "which is natshook's own stream"),
        ("stream = { replicas = 6 }", "stream.replicas: found 6, expected 1 to 5"),
        ("stream = { create = \"maybe\" }", "stream.create: found \"maybe\", expected true or false"),
        ("retry_queue = { max_bytes = 0 }", "retry_queue.max_bytes: found 0"),
        ("dead_letter = { max_age = \"0s\" }", "dead_letter.max_age: found 0s, expected 1s to"),
        ("admin = { listen = \"8822\" }", "admin.listen: found \"8822\", expected an address and a port"),
        (
            "egress = { allow = [\"10.0.0.0/88\"] }",
            "egress.allow[0]: found \"10.0.0.0/88\", expected an address",
        ),
        ("egress = { ports = [0] }", "egress.ports[0]: found 0, expected 1 to 65535"),
        ("egress = { ports = [443, 65536] }", "egress.ports[1]: found 65536, expected 1 to 65535"),
        ("egress = { ports = [\"https\"] }", "egress.ports[0]: found \"https\", expected a whole number"),
        ("egress = { ports = [-1] }", "egress.ports[0]: found -1, expected a whole number"),
        ("egress = { ports = 443 }", "egress.ports: found 443, expected a list"),
        ("targetz = 1", "targetz: unknown key; did you mean \"targets\"?"),
        ("defaults = { url = \"x\" }", "defaults.url: unknown key"),
        (
            "defaults = { order = \"topic\" }",
            "defaults.order: found \"topic\", expected \"none\", \"target\"",
        ),
        ("defaults = { order = { token = 0 } }", "defaults.order.token: found 0, expected 1 to 2048"),
        ("defaults = { order = { header = \"a b\" } }", "defaults.order.header: "),
        ("defaults = { order = {} }", "defaults.order: has none of token, header; expected exactly one"),
        (
            "defaults = { order = { token = 1, header = \"Key\" } }",
            "defaults.order: found token and header, expected only one of them",
        ),
        (
            "source = \"core\"\ndefaults = { order = \"target\" }",
            "defaults.order: cannot be set with source = \"core\"",
        ),
        (
            "source = \"core\"\ndefaults = { start = \"all\" }",
            "defaults.start: cannot be set with source = \"core\"",
        ),
    ] {
        let found = errors(&global(tables));
        assert!(
            found.iter().any(|error| error.contains(wanted)),
            "{tables}\n  wanted {wanted}\n  found {found:#?}"
        );
    }
    assert!(errors("").iter().any(|error| error.contains("targets: is missing")));
    assert!(errors("targets = []").iter().any(|error| error.contains("targets: is empty")));
    assert!(
        errors("targets = [7]")
            .iter()
            .any(|error| error.contains("targets[0]: found a number, expected a table"))
    );
}

#[test]
fn no_error_hides_another() {
    let text = "name = \"a b\"\ntargts = 1\n[nats]\nservers = 5\ntoken = { env = \"NATSHOOK_TEST_NONE\" }\n[defaults]\n\
                timeout = \"soon\"\n[[targets]]\nname = \"a\"\nretry = 3\n[[targets]]\nname = \"a\"\nurl = 7\nsubjects = 7\n";
    let found = errors(text);
    let keys: Vec<&str> = found.iter().map(|error| error.split([' ', ':']).next().unwrap()).collect();
    for key in ["targts", "name", "nats.servers", "nats.token", "defaults.timeout"] {
        assert_eq!(keys.iter().filter(|k| **k == key).count(), 1, "{key}: {found:#?}");
    }
    for key in
        ["targets[0].subjects", "targets[0].url", "targets[0].retry", "targets[1].name", "targets[1].url"]
    {
        assert_eq!(keys.iter().filter(|k| **k == key).count(), 1, "{key}: {found:#?}");
    }
    assert!(found.iter().any(|e| e.contains("which is the name of targets[0] already")), "{found:#?}");
}

#[test]
fn no_error_shows_a_secret() {
    let text = "nats = { servers = [\"nats://u:hunter2@\", 5], token = [\"hunter2\"], nkey_seed = \"hunter2\" }\n\
                [[targets]]\nname = \"a\"\nsubjects = \"x\"\nurl = \"htps//u:hunter2@x?t=hunter2\"\nauth = \"hunter2\"\n\
                signing = { secrets = [\"hunter2\", { env = \"A\", value = \"hunter2\" }] }\n\
                headers = { a = \"hunter2\\u0000\" }\n[[targets]]\nname = \"b\"\nsubjects = \"x\"\n\
                url = \"http://u:hunter2@x?t=hunter2\"\nauth = { bearer = \"hunter2\\u0000\", basic = \"hunter2\" }\n";
    let found = errors(text);
    assert!(found.len() >= 12, "{found:#?}");
    assert!(!found.iter().any(|error| error.contains("hunter2")), "{found:#?}");
    let config = load(&target(&format!(
        "auth = {{ bearer = \"hunter2\" }}\nsigning = {{ secrets = [\"{SECRET}\"] }}"
    )));
    let shown = format!("{:?}", config.unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn targets_inherit_key_by_key_and_errors_once() {
    let text = format!(
        "[defaults]\ntimeout = \"5s\"\nauth = {{ bearer = \"t\" }}\nretry = {{ jitter = 0, delays = [\"1s\"] }}\n{}{}",
        target("timeout = \"7s\""),
        target("retry = { initial = \"1s\", max = \"9s\", attempts = 4 }").replace("\"a\"", "\"b\"")
    );
    let config = load(&text).unwrap();
    let [a, b] = &config.connections[0].targets[..] else { panic!("{config:?}") };
    assert_eq!((a.timeout.as_secs(), b.timeout.as_secs()), (7, 5));
    assert!(matches!((&a.auth, &b.auth), (Auth::Bearer(_), Auth::Bearer(_))));
    assert_eq!((a.retry.schedule.attempts(), b.retry.schedule.attempts()), (2, 4));
    assert_eq!(a.retry.jitter, b.retry.jitter);
    assert_eq!(a.retry.overload_wait, Duration::ZERO);
    let text = global(
        "[defaults.retry]\ndelays = [\"5s\", \"30s\", \"2m\", \"10m\", \"30m\", \"2h\", \"5h\", \"10h\"]",
    );
    assert_eq!(load(&text).unwrap().connections[0].targets[0].retry.overload_wait, Duration::from_secs(60));
    let text = format!("[defaults]\ntimeout = \"x\"\n{}{}", target(""), target("").replace("\"a\"", "\"b\""));
    assert_eq!(errors(&text).len(), 1);
}

#[test]
fn the_preset_brings_its_age_along() {
    let text = format!(
        "[defaults.retry]\nmax_age = \"1h\"\n{}",
        target("retry = { preset = \"standard-webhooks\" }")
    );
    let retry = &load(&text).unwrap().connections[0].targets[0].retry;
    assert_eq!((retry.schedule.attempts(), retry.max_age), (10, 4 * DAY));
    assert_eq!(retry.horizon(), retry.schedule.total());
    let text = target("retry = { preset = \"standard-webhooks\", max_age = \"2d\" }");
    assert_eq!(load(&text).unwrap().connections[0].targets[0].retry.max_age, 2 * DAY);
}

#[test]
fn what_may_be_written_in_several_ways_is_read_in_each() {
    let keys = "retry = { delays = [] }\nstart = 2026-01-31T08:00:00Z\npass_headers = \"X-A\"\n\
                auth = { header = { name = \"Authorization\", value = \"ApiKey x\" } }\nmethod = \"PURGE\"";
    let target = load(&target(keys)).unwrap().connections[0].targets.remove(0);
    assert_eq!(target.retry.schedule, Schedule::Delays(Vec::new()));
    assert!(matches!(target.start, Start::Time(_)));
    assert_eq!(target.pass_headers, ["x-a"]);
    assert!(matches!(target.auth, Auth::Header(_, value) if value.is_sensitive()));
    let text = global("egress = { allow = \"192.168.7.4\", allow_http = true }");
    assert_eq!(load(&text).unwrap().egress.allow[0].to_string(), "192.168.7.4/32");
    let text = global("egress = { allow = [\"::ffff:10.0.0.0/104\", \"::/0\"], ports = [443, \"8080\"] }");
    let egress = load(&text).unwrap().egress;
    assert_eq!(egress.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::/0"]);
    assert_eq!(egress.ports, [443, 8080]);
}

#[test]
fn overlapping_subjects_are_reduced() {
    let text = target("").replace("\"x.>\"", "[\"x.a\", \"x.>\", \"y\"]");
    let subjects: Vec<String> =
        load(&text).unwrap().connections[0].targets[0].subjects.iter().map(ToString::to_string).collect();
    assert_eq!(subjects, ["x.>", "y"]);
}
