//! The command line beside `run`.

use crate::support::connector::{natshook_in, natshook_with};
use crate::support::signatures::v1_verifies;
use crate::support::{Answer, Broker, Config, Connector, Receiver, natshook};

#[tokio::test]
async fn publish_stores_a_message_that_is_then_delivered() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "orders.*", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    let finished = natshook_with(&config, &["publish", "orders.new", "{\"id\":1}"]).await;

    assert_eq!(finished.code, 0, "{}", finished.all());
    assert!(finished.stdout.contains("EVENTS") && finished.stdout.contains('1'), "{}", finished.stdout);
    assert_eq!(receiver.wait_for("/hook", 1).await[0].body, b"{\"id\":1}");
}

#[tokio::test]
async fn publish_to_a_subject_that_nobody_stores_fails() {
    let broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["publish", "orders.new", "{}"]).await;
    assert_eq!(finished.code, 1, "{}", finished.all());
    assert!(finished.stderr.contains("orders.new"), "{}", finished.stderr);
}

#[tokio::test]
async fn publish_to_a_broker_that_is_not_there_fails_soon() {
    let broker = Broker::prepare("", async_nats::ConnectOptions::new());
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["publish", "a", "{}"]).await;
    assert_eq!(finished.code, 1, "{}", finished.all());
    assert!(finished.stderr.contains(&broker.port.to_string()), "{}", finished.stderr);
}

#[tokio::test]
async fn send_makes_one_delivery_and_prints_it() {
    let receiver = Receiver::start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let more = format!("auth = {{ bearer = \"t0ken\" }}\nsigning = {{ secrets = [{secret:?}] }}");
    let config = Config::offline().target("policy", "a", &receiver.url("/hook"), &more);
    receiver.next("/hook", [Answer::status(202).body("thanks")]);

    let finished = natshook_with(&config, &["send", "policy"]).await;

    assert_eq!(finished.code, 0, "{}", finished.all());
    assert!(finished.stdout.contains("202") && finished.stdout.contains("thanks"), "{}", finished.stdout);
    assert!(!finished.all().contains("t0ken"), "{}", finished.all());
    let seen = receiver.received();
    assert_eq!(seen.len(), 1);
    assert!(v1_verifies(&seen[0], secret));
    assert_eq!(seen[0].header("authorization").as_deref(), Some("Bearer t0ken"));

    receiver.next("/hook", [Answer::status(500).body("broken")]);
    let failed = natshook_with(&config, &["send", "policy"]).await;
    assert_eq!(failed.code, 1, "{}", failed.all());
    assert!(failed.all().contains("500"), "{}", failed.all());
}

#[tokio::test]
async fn send_to_an_unknown_target_names_the_known_ones() {
    let config = Config::offline().target("policy", "a", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["send", "polcy"]).await;
    assert_ne!(finished.code, 0);
    assert!(finished.stderr.contains("policy"), "{}", finished.stderr);
}

#[tokio::test]
async fn check_with_connect_asks_the_broker_and_judges_addresses() {
    let mut broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["check", "--connect"]).await;
    assert_eq!(finished.code, 0, "{}", finished.all());
    let verdict = "target policy: ok: 127.0.0.1:1\n  127.0.0.1: allowed by 127.0.0.0/8 in egress.allow\n";
    assert!(finished.stdout.contains(verdict), "{}", finished.stdout);
    assert_eq!(broker.count("EVENTS").await, 0);
    let context = broker.jetstream_context().await;
    assert!(context.get_stream("EVENTS").await.is_err(), "a check changes nothing");

    broker.kill9();
    let finished = natshook_with(&config, &["check", "--connect"]).await;
    assert_eq!(finished.code, 1, "{}", finished.all());
    assert!(finished.all().contains(&broker.port.to_string()), "{}", finished.all());
}

#[tokio::test]
async fn the_schema_accepts_what_check_accepts() {
    let finished = natshook(&["schema"]).await;
    assert_eq!(finished.code, 0, "{}", finished.all());
    let schema: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let target = serde_json::json!({ "name": "policy", "subjects": ["a"], "url": "https://x.example/" });
    assert!(validator.is_valid(&serde_json::json!({ "targets": [target] })));
    assert!(!validator.is_valid(&serde_json::json!({ "targets": [target], "nmae": "x" })));
    assert!(!validator.is_valid(&serde_json::json!({ "targets": [{ "name": 3 }] })));
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let finished = natshook(&["completions", shell]).await;
        assert_eq!(finished.code, 0, "{}", finished.all());
        assert!(finished.stdout.contains("natshook") && finished.stdout.contains("publish"), "{shell}");
    }
}

#[tokio::test]
async fn help_and_version_are_there_and_wrong_usage_is_exit_code_2() {
    let version = natshook(&["--version"]).await;
    assert_eq!(version.stdout.trim(), format!("natshook {}", env!("CARGO_PKG_VERSION")));
    let help = natshook(&["--help"]).await;
    assert_eq!(help.code, 0);
    for command in
        ["run", "check", "schema", "publish", "send", "dev", "dead-letters", "replay", "completions"]
    {
        assert!(help.stdout.contains(command), "{command}:\n{}", help.stdout);
    }
    for wrong in [&["rnu"][..], &["run", "--no-such-flag"], &["publish"], &[]] {
        assert_eq!(natshook(wrong).await.code, 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn colours_are_for_terminals_only() {
    let config = Config::offline().target("policy", "a..b", "http://127.0.0.1:1/", "");
    let finished = natshook_with(&config, &["check"]).await;
    assert!(!finished.all().contains('\u{1b}'), "{:?}", finished.all());
    let help = natshook_in(&["--help"], &[("TERM", "xterm-256color")]).await;
    assert!(!help.stdout.contains('\u{1b}'));
}
