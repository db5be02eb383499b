//! Nothing secret is ever printed or stored: not in logs, not in errors, not in dead letters, not by commands.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::broker::DEAD_LETTERS;
use crate::support::connector::natshook_with;
use crate::support::faults::Fault;
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, natshook, secs};

const PASSWORD: &str = "broker-passw0rd-4711";
const BEARER: &str = "bearer-t0ken-4712";
const BASIC: &str = "basic-passw0rd-4713";
const API_KEY: &str = "api-key-4714";
const IN_URL: &str = "url-query-4715";
const USER_INFO: &str = "url-user-4716";

fn signing() -> String {
    format!("whsec_{}", STANDARD.encode(b"signing-secret-4717-4717"))
}

/// Every form in which a secret could show.
fn secrets() -> Vec<String> {
    let basic = STANDARD.encode(format!("user:{BASIC}"));
    let plain = [PASSWORD, BEARER, BASIC, API_KEY, IN_URL, USER_INFO, "signing-secret-4717", "payload-4718"];
    let mut all: Vec<_> = plain.map(str::to_owned).into();
    all.extend([basic, signing(), STANDARD.encode(b"signing-secret-4717-4717")]);
    all
}

fn assert_silent(text: &str, whose: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{whose} shows {secret}:\n{text}");
    }
}

fn config(broker: &Broker, receiver: &Receiver) -> Config {
    let url = |path: &str| format!("{}?key={IN_URL}", receiver.url(path));
    let once = "retry = { delays = [\"1s\"], jitter = 0 }\ntimeout = \"1s\"";
    let closed = format!("http://127.0.0.1:{}/?key={IN_URL}", free_port());
    let unknown = format!("http://receiver.invalid/?key={IN_URL}");
    let https = format!("https://127.0.0.1:{}/?key={IN_URL}", receiver.port);
    let sign = signing();
    Config::on(broker)
        .nats(&format!("user = \"app\"\npassword = {PASSWORD:?}"))
        .target("bearer", "a", &url("/401"), &format!("auth = {{ bearer = {BEARER:?} }}\n{once}"))
        .target(
            "basic",
            "a",
            &closed,
            &format!("auth = {{ basic = {{ user = \"user\", password = {BASIC:?} }} }}\n{once}"),
        )
        .target(
            "key",
            "a",
            &unknown,
            &format!("auth = {{ header = {{ name = \"X-Key\", value = {API_KEY:?} }} }}\n{once}"),
        )
        .target("tls", "a", &https, once)
        .target("hangs", "a", &url("/hangs"), once)
        .target("signed", "a", &url("/signed"), &format!("signing = {{ secrets = [{sign:?}] }}\n{once}"))
}

async fn broker() -> Broker {
    let users = format!(
        "authorization {{ users: [ {{ user: app, password: {PASSWORD:?} }}, {{ user: test, password: t }} ] }}"
    );
    Broker::start_with(&users, async_nats::ConnectOptions::with_user_and_password("test".into(), "t".into()))
        .await
}

#[tokio::test]
async fn no_output_holds_a_secret_whatever_goes_wrong() {
    let broker = broker().await;
    let receiver = Receiver::start().await;
    let path = |name: &str| format!("/{name}?key={IN_URL}");
    receiver.always(&path("401"), Answer::status(401));
    receiver.always(&path("hangs"), Answer::fault(Fault::NeverAnswer));
    receiver.always(&path("signed"), Answer::fault(Fault::Garbage));
    let mut connector = Connector::start_with(&config(&broker, &receiver), &[("RUST_LOG", "trace")]).await;

    broker.publish("a", "payload-4718").await;

    let dead = broker.wait_for_dead_letters(6).await;
    for admin in ["/metrics", "/readyz", "/healthz", "/"] {
        assert_silent(&connector.get(admin).await.1, admin);
    }
    connector.stop().await;
    let own = connector.output();
    assert!(own.contains("\"target\":\"bearer\"") && own.lines().count() > 10, "there is output to look at");
    assert_silent(&connector.output(), "the log");
    for letter in &dead {
        assert_eq!(letter.payload, b"payload-4718");
        assert_silent(&format!("{:?}", letter.headers), DEAD_LETTERS);
    }
}

#[tokio::test]
async fn a_refused_login_does_not_print_the_password() {
    let broker = Broker::start_with(
        "authorization { token: other }",
        async_nats::ConnectOptions::with_token("other".into()),
    )
    .await;
    let servers = format!("servers = \"nats://user:{USER_INFO}@127.0.0.1:{}\"", broker.port);
    let config = Config::on(&broker).nats_instead(&servers).target("p", "a", "http://127.0.0.1:1/", "");
    let mut connector = Connector::spawn(&config, &[("RUST_LOG", "trace")]);
    connector.wait_for_line(&["uthorization"]).await;
    connector.signal("TERM");
    connector.wait_for_exit(secs(10)).await;
    assert_silent(&connector.output(), "the log");
}

#[tokio::test]
async fn no_command_prints_a_secret() {
    let broker = broker().await;
    let receiver = Receiver::start().await;
    let config = config(&broker, &receiver);
    for args in [&["check"][..], &["check", "--connect"], &["send", "bearer"], &["send", "key"]] {
        let finished = natshook_with(&config, args).await;
        assert!(!finished.all().is_empty(), "{args:?}");
        assert_silent(&finished.all(), &format!("{args:?}"));
    }
    let broken = config.and("[[targets]]\nname = \"x\"\nsubjects = []\nurl = \"no url\"\nauth = { bearer = \"bearer-t0ken-4712\", oops = 1 }\nsigning = { secrets = [\"whsec_not-base64-signing-secret-4717\"] }");
    let finished = natshook_with(&broken, &["check"]).await;
    assert_eq!(finished.code, 78);
    assert_silent(&finished.all(), "check of a broken config");
    assert_silent(&natshook(&["--help"]).await.all(), "help");
}
