//! A config for every class of error: exit code 78, the key's path, what is wrong, and all at once.

use crate::support::connector::natshook_with;
use crate::support::{Config, Connector, natshook, natshook_in, secs};

const TARGET: &str =
    "[[targets]]\nname = \"policy\"\nsubjects = [\"a\"]\nurl = \"https://hooks.example.com/x\"\n";

/// `natshook check` on this text: exit code and output.
async fn check(text: &str) -> (i32, String) {
    check_as(text, "natshook.toml", &[]).await
}

async fn check_as(text: &str, file: &str, env: &[(&str, &str)]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file);
    std::fs::write(&path, text).unwrap();
    let finished = natshook_in(&["check", "--config", &path.to_string_lossy()], env).await;
    (finished.code, finished.all())
}

/// Every `(text, words)`: the check fails with 78 and one line holds all the words.
async fn each_is_refused(cases: &[(&str, &[&str])]) {
    let mut wrong = Vec::new();
    for (text, words) in cases {
        let (code, output) = check(text).await;
        let named = words.iter().all(|word| output.contains(word));
        if code != 78 || !named || output.contains("panicked") {
            wrong.push(format!("=== {text}\n--- expected 78 and {words:?}; got {code}:\n{output}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn target_with(line: &str) -> String {
    format!("{TARGET}{line}\n")
}

#[tokio::test]
async fn a_good_config_passes_and_is_shown_as_a_table() {
    let text = format!(
        "{TARGET}auth = {{ bearer = \"x\" }}\n\n[[targets]]\nname = \"other\"\nsubjects = [\"b.*\", \"c.>\"]\nurl = \"https://other.example.com/\"\nretry = {{ delays = [\"1s\", \"2h\"] }}"
    );
    let (code, output) = check(&text).await;
    assert_eq!(code, 0, "{output}");
    for word in ["policy", "other", "b.*", "c.>", "hooks.example.com", "bearer"] {
        assert!(output.contains(word), "{word} is missing:\n{output}");
    }
}

#[tokio::test]
async fn unknown_keys_are_named_with_the_nearest_known_one() {
    each_is_refused(&[
        (&format!("nmae = \"x\"\n{TARGET}"), &["nmae", "name"]),
        (&format!("[nats]\nserver = \"nats://a:4222\"\n{TARGET}"), &["nats.server", "servers"]),
        (&target_with("timout = \"3s\""), &["targets[0].timout", "timeout"]),
        (&target_with("retry = { delay = [\"1s\"] }"), &["targets[0].retry.delay", "delays"]),
        (&target_with("auth = { baerer = \"x\" }"), &["targets[0].auth.baerer", "bearer"]),
        (&format!("[defaults]\nconcurency = 3\n{TARGET}"), &["defaults.concurency", "concurrency"]),
        (&format!("[egres]\nallow_http = true\n{TARGET}"), &["egres", "egress"]),
        (&format!("[dead_letter]\nmax_agee = \"1d\"\n{TARGET}"), &["dead_letter.max_agee", "max_age"]),
        (&format!("[defaults]\nurl = \"https://x.example\"\n{TARGET}"), &["defaults.url"]),
    ])
    .await;
}

#[tokio::test]
async fn wrong_types_are_named() {
    each_is_refused(&[
        (&target_with("concurrency = \"many\""), &["targets[0].concurrency"]),
        (&target_with("timeout = 30"), &["targets[0].timeout"]),
        (&target_with("headers = [\"a\"]"), &["targets[0].headers"]),
        ("targets = 3", &["targets"]),
        (&format!("source = \"kafka\"\n{TARGET}"), &["source", "kafka", "jetstream", "core"]),
        (
            &format!("[egress]\nallow = \"10.0.0.0/8\"\nallow_http = \"maybe\"\n{TARGET}"),
            &["egress.allow_http"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn values_out_of_range_are_named() {
    each_is_refused(&[
        (&target_with("concurrency = 0"), &["targets[0].concurrency"]),
        (&target_with("concurrency = -1"), &["targets[0].concurrency"]),
        (&target_with("timeout = \"0s\""), &["targets[0].timeout"]),
        (&target_with("timeout = \"soon\""), &["targets[0].timeout", "soon"]),
        (&target_with("rate = \"0/s\""), &["targets[0].rate"]),
        (&target_with("rate = \"fast\""), &["targets[0].rate", "fast"]),
        (&target_with("max_payload_bytes = 0"), &["targets[0].max_payload_bytes"]),
        (&target_with("start = \"yesterday\""), &["targets[0].start", "yesterday"]),
        (&target_with("method = \"GE T\""), &["targets[0].method"]),
        (&target_with("outcomes = { transient = [99] }"), &["targets[0].outcomes.transient"]),
        (&target_with("outcomes = { permanent = [200] }"), &["targets[0].outcomes.permanent"]),
        (
            &target_with("outcomes = { transient = [418], permanent = [418] }"),
            &["targets[0].outcomes", "418"],
        ),
        (&format!("[stream]\nreplicas = 9\n{TARGET}"), &["stream.replicas"]),
        (&format!("[shutdown]\ngrace_period = \"never\"\n{TARGET}"), &["shutdown.grace_period"]),
        (&format!("[dead_letter]\nmax_age = \"x\"\n{TARGET}"), &["dead_letter.max_age"]),
        (&format!("[admin]\nlisten = \"8822\"\n{TARGET}"), &["admin.listen"]),
        (&format!("[egress]\nallow = [\"10.0.0.0/99\"]\n{TARGET}"), &["egress.allow", "10.0.0.0/99"]),
        (&format!("name = \"has space\"\n{TARGET}"), &["name"]),
        (&format!("name = \"a.b\"\n{TARGET}"), &["name"]),
        (&format!("[stream]\nname = \"a.b\"\n{TARGET}"), &["stream.name"]),
    ])
    .await;
}

#[tokio::test]
async fn a_retry_policy_that_makes_no_sense_is_named() {
    each_is_refused(&[
        (&target_with("retry = { delays = [\"1s\", \"-2s\"] }"), &["targets[0].retry.delays"]),
        (&target_with("retry = { delays = [\"1s\"], jitter = 2.0 }"), &["targets[0].retry.jitter"]),
        (
            &target_with("retry = { delays = [\"1s\"], initial = \"1s\" }"),
            &["targets[0].retry", "delays", "initial"],
        ),
        (
            &target_with("retry = { initial = \"1s\", factor = 0.1, max = \"1h\", attempts = 3 }"),
            &["targets[0].retry.factor"],
        ),
        (
            &target_with("retry = { initial = \"2h\", factor = 2, max = \"1h\", attempts = 3 }"),
            &["targets[0].retry", "max"],
        ),
        (
            &target_with("retry = { initial = \"1s\", factor = 2, max = \"1h\", attempts = 0 }"),
            &["targets[0].retry.attempts"],
        ),
        (&target_with("retry = { preset = \"forever\" }"), &["targets[0].retry.preset", "standard-webhooks"]),
        (&target_with("retry = { delays = [\"1s\"], max_age = \"0s\" }"), &["targets[0].retry.max_age"]),
    ])
    .await;
}

#[tokio::test]
async fn targets_that_cannot_work_are_named() {
    let named = |name: &str, subjects: &str, url: &str| {
        format!("[[targets]]\nname = {name:?}\nsubjects = {subjects}\nurl = {url:?}\n")
    };
    let url = "https://hooks.example.com/";
    each_is_refused(&[
        ("", &["targets"]),
        ("[[targets]]\n", &["targets[0].name", "targets[0].subjects", "targets[0].url"]),
        (&format!("{TARGET}{TARGET}"), &["targets[1].name", "policy"]),
        (&named("a b", "[\"a\"]", url), &["targets[0].name", "a b"]),
        (&named("a.b", "[\"a\"]", url), &["targets[0].name"]),
        (&named("", "[\"a\"]", url), &["targets[0].name"]),
        (&named("a", "[]", url), &["targets[0].subjects"]),
        (&named("a", "[\"\"]", url), &["targets[0].subjects[0]"]),
        (&named("a", "[\"a\", \"b..c\"]", url), &["targets[0].subjects[1]", "b..c"]),
        (&named("a", "[\"a b\"]", url), &["targets[0].subjects[0]", "a b"]),
        (&named("a", "[\">.a\"]", url), &["targets[0].subjects[0]"]),
        (&named("a", "[\"a*.b\"]", url), &["targets[0].subjects[0]"]),
        (
            &named("a", "[\"natshook.dead-letter.x\"]", url),
            &["targets[0].subjects[0]", "natshook.dead-letter"],
        ),
        (&named("a", "[\">\"]", url), &["targets[0].subjects[0]", "natshook."]),
        (&named("a", "[\"*.retry.>\"]", url), &["targets[0].subjects[0]", "natshook.retry"]),
        (&named("a", "[\"a\"]", "hooks.example.com"), &["targets[0].url"]),
        (&named("a", "[\"a\"]", "ftp://hooks.example.com"), &["targets[0].url", "ftp"]),
        (&named("a", "[\"a\"]", "http://hooks.example.com"), &["targets[0].url", "egress.allow_http"]),
        (&named("a", "[\"a\"]", "https://10.1.2.3/"), &["targets[0].url", "10.1.2.3", "egress.allow"]),
        (&named("a", "[\"a\"]", "https://[::ffff:127.0.0.1]/"), &["targets[0].url", "egress.allow"]),
        (&named("a", "[\"a\"]", "https://0x7f.1/"), &["targets[0].url", "127.0.0.1", "egress.allow"]),
    ])
    .await;
}

#[tokio::test]
async fn headers_auth_and_signing_that_cannot_work_are_named() {
    each_is_refused(&[
        (&target_with("headers = { \"Ho st\" = \"x\" }"), &["targets[0].headers", "Ho st"]),
        (&target_with("headers = { \"X-A\" = \"a\\nb\" }"), &["targets[0].headers", "X-A"]),
        (&target_with("headers = { \"Content-Length\" = \"3\" }"), &["targets[0].headers", "Content-Length"]),
        (
            &target_with("headers = { \"webhook-signature\" = \"3\" }"),
            &["targets[0].headers", "webhook-signature"],
        ),
        (
            &target_with("pass_headers = [\"Authorization\"]"),
            &["targets[0].pass_headers[0]", "Authorization"],
        ),
        (
            &target_with("auth = { bearer = \"a\", basic = { user = \"u\", password = \"p\" } }"),
            &["targets[0].auth"],
        ),
        (&target_with("auth = { bearer = \"a\\nb\" }"), &["targets[0].auth.bearer"]),
        (&target_with("auth = { bearer = \"\" }"), &["targets[0].auth.bearer"]),
        (
            &target_with("auth = { bearer = { env = \"NOT_SET_ANYWHERE\" } }"),
            &["targets[0].auth.bearer", "NOT_SET_ANYWHERE"],
        ),
        (
            &target_with("auth = { bearer = { file = \"/no/such/file\" } }"),
            &["targets[0].auth.bearer", "/no/such/file"],
        ),
        (
            &target_with("auth = { header = { name = \"Host\", value = \"x\" } }"),
            &["targets[0].auth.header.name", "Host"],
        ),
        (&target_with("signing = { secrets = [] }"), &["targets[0].signing.secrets"]),
        (&target_with("signing = { secrets = [\"plain\"] }"), &["targets[0].signing.secrets[0]", "whsec_"]),
        (&target_with("signing = { secrets = [\"whsec_%%%\"] }"), &["targets[0].signing.secrets[0]"]),
        (&target_with("signing = { secrets = [\"whsec_AAAA\"] }"), &["targets[0].signing.secrets[0]"]),
        (&target_with("signing = { secrets = [\"whsk_AAAA\"] }"), &["targets[0].signing.secrets[0]"]),
    ])
    .await;
}

#[tokio::test]
async fn broker_settings_that_cannot_work_are_named() {
    let nats = |lines: &str| format!("[nats]\n{lines}\n{TARGET}");
    each_is_refused(&[
        (&nats("servers = []"), &["nats.servers"]),
        (&nats("servers = \"http://127.0.0.1\""), &["nats.servers", "http"]),
        (&nats("servers = [\"nats://ok:4222\", \"nats://\"]"), &["nats.servers[1]"]),
        (&nats("token = \"a\"\nuser = \"u\"\npassword = \"p\""), &["nats", "token", "user"]),
        (&nats("user = \"u\""), &["nats", "password"]),
        (&nats("password = \"u\""), &["nats", "user"]),
        (&nats("nkey_seed = \"SUnonsense\""), &["nats.nkey_seed"]),
        (&nats("credentials_file = \"/no/such.creds\""), &["nats.credentials_file", "/no/such.creds"]),
        (&nats("inbox_prefix = \"a b\""), &["nats.inbox_prefix"]),
        (&nats("[nats.tls]\ncert_file = \"/no/cert.pem\""), &["nats.tls", "key_file"]),
        (&nats("[nats.tls]\nca_file = \"/no/ca.pem\""), &["nats.tls.ca_file", "/no/ca.pem"]),
    ])
    .await;
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    let text = format!(
        "nmae = 1\n[nats]\ntokn = \"x\"\n[admin]\nlisten = \"x\"\n{TARGET}timeout = \"soon\"\nrate = \"fast\"\nconcurrency = 0\n[[targets]]\nname = \"policy\"\nsubjects = [\"a..b\"]\nurl = \"nonsense\""
    );
    let (code, output) = check(&text).await;
    assert_eq!(code, 78, "{output}");
    let paths = [
        "nmae",
        "nats.tokn",
        "admin.listen",
        "targets[0].timeout",
        "targets[0].rate",
        "targets[0].concurrency",
        "targets[1].name",
        "targets[1].subjects[0]",
        "targets[1].url",
    ];
    let missing: Vec<_> = paths.iter().filter(|path| !output.contains(**path)).collect();
    assert!(missing.is_empty(), "{missing:?} not in:\n{output}");
}

#[tokio::test]
async fn a_file_that_is_no_config_is_named_with_the_place() {
    let (code, output) = check("name = \"x\"\n[nats\n").await;
    assert_eq!(code, 78, "{output}");
    assert!(output.contains("natshook.toml") && output.contains("line 2"), "{output}");

    let missing = natshook(&["check", "--config", "/no/such/natshook.toml"]).await;
    assert_eq!(missing.code, 78, "{}", missing.all());
    assert!(missing.all().contains("/no/such/natshook.toml"), "{}", missing.all());

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("binary.toml"), b"\x00\xff\xfe").unwrap();
    let binary = natshook(&["check", "--config", &dir.path().join("binary.toml").to_string_lossy()]).await;
    assert_eq!(binary.code, 78, "{}", binary.all());
}

#[tokio::test]
async fn yaml_and_json_are_read_too() {
    let yaml = "targets:\n  - name: policy\n    subjects: [a]\n    url: https://hooks.example.com/\n    timeout: soon\n";
    let json = r#"{"targets":[{"name":"policy","subjects":["a"],"url":"https://hooks.example.com/","timeout":"soon"}]}"#;
    for (file, text) in [("natshook.yaml", yaml), ("natshook.json", json)] {
        let (code, output) = check_as(text, file, &[]).await;
        assert_eq!(code, 78, "{output}");
        assert!(output.contains("targets[0].timeout"), "{output}");
        let (code, output) = check_as(&text.replace("soon", "3s"), file, &[]).await;
        assert_eq!(code, 0, "{output}");
    }
}

#[tokio::test]
async fn the_environment_overrides_keys() {
    let file = "natshook.toml";
    let (code, output) = check_as(TARGET, file, &[("NATSHOOK__DEFAULTS__TIMEOUT", "soon")]).await;
    assert_eq!(code, 78, "{output}");
    assert!(output.contains("defaults.timeout") && output.contains("soon"), "{output}");
    let env =
        [("NATSHOOK__NATS__SERVERS", "nats://elsewhere:4222"), ("NATSHOOK__DEFAULTS__CONCURRENCY", "3")];
    let (code, output) = check_as(TARGET, file, &env).await;
    assert_eq!(code, 0, "{output}");
    let (code, output) = check_as(TARGET, file, &[("NATSHOOK__NATS__SERVRS", "nats://a:1")]).await;
    assert_eq!(code, 78, "{output}");
}

#[tokio::test]
async fn run_refuses_what_check_refuses() {
    let config = Config::offline().target("policy", "a..b", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["run"]).await;
    assert_eq!(finished.code, 78, "{}", finished.all());
    assert!(finished.all().contains("targets[0].subjects[0]"), "{}", finished.all());
    let mut connector = Connector::spawn(&config, &[]);
    assert_eq!(connector.wait_for_exit(secs(5)).await.code(), Some(78));
}

#[tokio::test]
async fn events_handshakes_and_replies_that_make_no_sense_are_refused() {
    let cases: Vec<(String, Vec<&str>)> = [
        (
            "format = \"cloudevents\"",
            vec!["targets[0]", "format", "cloudevents-binary", "cloudevents-structured"],
        ),
        ("cloudevents = { type = \"a\" }", vec!["cloudevents", "needs format"]),
        (
            "format = \"cloudevents-binary\"\ncloudevents = { type = \"{{ sbject }}\" }",
            vec!["cloudevents.type", "unknown name \"sbject\""],
        ),
        (
            "format = \"cloudevents-binary\"\ncloudevents = { source = \"\" }",
            vec!["cloudevents.source", "is empty"],
        ),
        (
            "format = \"cloudevents-binary\"\ncloudevents = { id = \"a\" }",
            vec!["cloudevents.id", "unknown key"],
        ),
        (
            "format = \"cloudevents-structured\"\nheaders = { \"Content-Type\" = \"text/plain\" }",
            vec!["headers", "sets Content-Type"],
        ),
        ("handshake = \"yes\"", vec!["handshake", "true, false, or a table"]),
        ("handshake = { origin = \"https://a.example\" }", vec!["handshake.origin", "expected a DNS name"]),
        ("handshake = { orign = \"a.example\" }", vec!["handshake.orign", "did you mean \"origin\""]),
        ("reply = {}", vec!["reply.subject", "is missing"]),
        ("reply = { subject = \"answers.*\" }", vec!["reply.subject", "wildcards"]),
        ("reply = { subject = \"answers.{{ target }}\" }", vec!["reply.subject", "subject"]),
        (
            "reply = { subject = \"{{ subject }}\" }",
            vec!["reply.subject", "a delivery would cause the next one"],
        ),
        ("reply = { subject = \"natshook.retry.b\" }", vec!["reply.subject", "it is natshook's own"]),
        ("reply = { subject = \"$JS.API.INFO\" }", vec!["reply.subject", "it is the server's"]),
        ("reply = { subject = \"b\", on = \"always\" }", vec!["reply.on", "\"delivered\" or \"answered\""]),
        (
            "reply = { subject = \"b\", max_body_bytes = \"2MiB\" }",
            vec!["reply.max_body_bytes", "0 to 1048576"],
        ),
        (
            "reply = { subject = \"b\", headers = [\"Nats-Rollup\"] }",
            vec!["reply.headers", "steer the broker"],
        ),
    ]
    .map(|(line, words)| (target_with(line), words))
    .into();
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(text, words)| (text.as_str(), &words[..])).collect();
    each_is_refused(&cases).await;
}
