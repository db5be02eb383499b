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
const CLIENT_SECRET: &str = "client-secret-4719";
const ACCESS_TOKEN: &str = "access-token-4720";
const AWS_KEY: &str = "aws-secret-key-4721";
const AWS_SESSION: &str = "aws-session-4722";
/// Base64 of 32 bytes.
const SHARED: &str = "shared0key04723000000000000000000000000000g=";

fn signing() -> String {
    format!("whsec_{}", STANDARD.encode(b"signing-secret-4717-4717"))
}

/// Every form in which a secret could show.
fn secrets() -> Vec<String> {
    let basic = STANDARD.encode(format!("user:{BASIC}"));
    let plain = [PASSWORD, BEARER, BASIC, API_KEY, IN_URL, USER_INFO, "signing-secret-4717", "payload-4718"];
    let mut all: Vec<_> = plain.map(str::to_owned).into();
    all.extend([CLIENT_SECRET, ACCESS_TOKEN, AWS_KEY, AWS_SESSION, SHARED].map(str::to_owned));
    all.extend([
        STANDARD.encode(format!("natshook:{CLIENT_SECRET}")),
        basic,
        signing(),
        STANDARD.encode(b"signing-secret-4717-4717"),
    ]);
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
        .target(
            "oauth2",
            "a",
            &url("/401"),
            &format!(
                "auth = {{ oauth2 = {{ token_url = {:?}, client_id = \"natshook\", client_secret = {CLIENT_SECRET:?} }} }}\n{once}",
                receiver.url("/token")
            ),
        )
        .target(
            "no-token",
            "a",
            &url("/401"),
            &format!(
                "auth = {{ oauth2 = {{ token_url = {:?}, client_id = \"other\", client_secret = {CLIENT_SECRET:?}, \
                 client_auth = \"body\" }} }}\n{once}",
                receiver.url("/no-token")
            ),
        )
        .target(
            "sigv4",
            "a",
            &url("/401"),
            &format!(
                "auth = {{ sigv4 = {{ access_key_id = \"AKID\", secret_access_key = {AWS_KEY:?}, session_token = {AWS_SESSION:?}, \
                 region = \"eu-central-1\", service = \"execute-api\" }} }}\n{once}"
            ),
        )
        .target(
            "messages",
            "a",
            &url("/401"),
            &format!(
                "signing = {{ message_signatures = {{ algorithm = \"hmac-sha256\", key = {SHARED:?}, key_id = \"k\" }} }}\n{once}"
            ),
        )
}

/// What the token endpoints of the config answer; one of them echoes the secret.
fn script_tokens(receiver: &Receiver) {
    let token = format!(r#"{{"access_token":"{ACCESS_TOKEN}","token_type":"Bearer","expires_in":1}}"#);
    receiver.always("/token", Answer::ok().body(token));
    let echo = format!(r#"{{"error":"invalid_client","error_description":"{CLIENT_SECRET} is wrong"}}"#);
    receiver.always("/no-token", Answer::status(401).body(echo));
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
    script_tokens(&receiver);
    let mut connector = Connector::start_with(&config(&broker, &receiver), &[("RUST_LOG", "trace")]).await;

    broker.publish("a", "payload-4718").await;

    let dead = broker.wait_for_dead_letters(10).await;
    for admin in ["/metrics", "/readyz", "/healthz", "/", "/dead-letters", "/dead-letters/replay", "/login"] {
        assert_silent(&connector.get(admin).await.1, admin);
    }
    let names =
        ["bearer", "basic", "key", "tls", "hangs", "signed", "oauth2", "no-token", "sigv4", "messages"];
    for target in names {
        let (status, page) = connector.get(&format!("/targets/{target}")).await;
        assert!(status == 200 && page.contains("Recent failures"), "{page}");
        assert_silent(&page, target);
    }
    // Its page shows a dead letter's body, which is for whoever may come in, and nothing else of that list.
    let (status, page) = connector.get("/dead-letters/1").await;
    assert!(status == 200 && page.contains("payload-4718"), "{page}");
    assert_silent(&page.replace("payload-4718", ""), "the page of a dead letter");
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
    script_tokens(&receiver);
    for args in [
        &["check"][..],
        &["check", "--connect"],
        &["send", "bearer"],
        &["send", "key"],
        &["send", "oauth2"],
        &["send", "no-token"],
        &["send", "sigv4"],
        &["send", "messages"],
    ] {
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
