//! Every kind of secret, given in every way: as a text, in the environment, in a file. Whatever natshook is asked to do and
//! whatever goes wrong, none of them shows: not in what it prints, logs, stores, counts or serves.

use std::path::Path;

use async_nats::ConnectOptions;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nkeys::KeyPair;

use crate::support::accounts::Accounts;
use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::certs::Certs;
use crate::support::connector::natshook_in;
use crate::support::faults::Fault;
use crate::support::h2::H2;
use crate::support::http::request;
use crate::support::peer::Peer;
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, secs, until};

/// How a secret is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Text,
    Env,
    File,
}

const WAYS: [Way; 3] = [Way::Text, Way::Env, Way::File];

/// Secrets, what natshook needs to find them, and every form in which they could show.
struct Given<'a> {
    way: Way,
    dir: &'a Path,
    env: Vec<(String, String)>,
    forms: Vec<String>,
}

impl<'a> Given<'a> {
    fn new(way: Way, dir: &'a Path) -> Self {
        Self { way, dir, env: Vec::new(), forms: Vec::new() }
    }

    /// The value for the config.
    fn give(&mut self, name: &str, secret: &str) -> String {
        self.hide(secret);
        match self.way {
            Way::Text => format!("{secret:?}"),
            Way::Env => {
                let variable = format!("SECRET_{}", name.to_uppercase());
                self.env.push((variable.clone(), secret.to_owned()));
                format!("{{ env = {variable:?} }}")
            }
            Way::File => {
                let path = self.dir.join(name);
                std::fs::write(&path, format!("{secret}\n")).unwrap();
                format!("{{ file = {path:?} }}")
            }
        }
    }

    /// `secret` must not show, nor its base64.
    fn hide(&mut self, secret: &str) {
        let bare = secret.strip_prefix("whsec_").or(secret.strip_prefix("whsk_")).unwrap_or(secret);
        self.forms.extend([secret.to_owned(), bare.to_owned(), STANDARD.encode(secret)]);
    }

    fn env(&self) -> Vec<(&str, &str)> {
        let own = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain([("RUST_LOG", "trace")]).collect()
    }

    fn assert_hidden(&self, text: &str, whose: &str) {
        for form in &self.forms {
            assert!(!text.contains(form.as_str()), "{:?}: {whose} shows {form}:\n{text}", self.way);
        }
    }

    /// Runs a command with this config; what it prints, which is not nothing, shows no secret.
    async fn run(&self, config: &Config, args: &[&str]) {
        let file = self.dir.join("natshook.toml");
        std::fs::write(&file, config.text()).unwrap();
        let config = ["--config", file.to_str().unwrap()];
        let finished = natshook_in(&[args, &config].concat(), &self.env()).await;
        assert!(!finished.all().is_empty(), "{args:?}");
        self.assert_hidden(&finished.all(), &format!("{args:?}"));
    }
}

const ADMIN_TOKEN: &str = "admin-t0ken-4806-4806";

const TARGETS: [&str; 7] = ["bearer", "basic", "header", "hmac", "ed25519", "both", "http2"];

/// A target for each kind of secret, each failing in another way.
fn config(broker: &Broker, receiver: &Receiver, http2: &Peer, given: &mut Given<'_>) -> Config {
    let key = "url-query-4801";
    given.hide(key);
    let url = |path: &str| format!("{}?key={key}", receiver.url(path));
    let seed = |byte: u8| STANDARD.encode([byte; 32]);
    let password = given.give("broker", "broker-passw0rd-4802");
    let bearer = given.give("bearer", "bearer-t0ken-4803");
    let basic = given.give("basic", "basic-passw0rd-4804");
    given.hide("user:basic-passw0rd-4804");
    let header = given.give("header", "api-key-4805");
    let hmac = given.give("hmac", &format!("whsec_{}", seed(48)));
    let ed25519 = given.give("ed25519", &format!("whsk_{}", seed(49)));
    let otlp = given.give("otlp", "otlp-key-4806");
    let collector = format!("http://127.0.0.1:{}/?key={key}", free_port());
    receiver.always(&format!("/echo?key={key}"), Answer::status(500).body("bearer-t0ken-4803"));
    receiver.always(&format!("/hangs?key={key}"), Answer::fault(Fault::NeverAnswer));
    receiver.always(&format!("/garbage?key={key}"), Answer::fault(Fault::Garbage));
    let both = format!("auth = {{ bearer = {bearer} }}\nsigning = {{ secrets = [{hmac}, {ed25519}] }}");
    let token = given.give("admin", ADMIN_TOKEN);
    Config::on(broker)
        .admin(&format!("token = {token}"))
        .nats(&format!("user = \"app\"\npassword = {password}"))
        .and(&format!("[telemetry]\notlp_endpoint = {collector:?}\notlp_headers = {{ x-key = {otlp} }}"))
        .and("[defaults]\ntimeout = \"1s\"\nretry = { delays = [\"3s\"], jitter = 0 }")
        .target("bearer", "a", &url("/hangs"), &format!("auth = {{ bearer = {bearer} }}"))
        .target(
            "basic",
            "a",
            &format!("http://127.0.0.1:{}/?key={key}", free_port()),
            &format!("auth = {{ basic = {{ user = \"user\", password = {basic} }} }}"),
        )
        .target(
            "header",
            "a",
            &format!("https://127.0.0.1:{}/?key={key}", receiver.port),
            &format!("auth = {{ header = {{ name = \"X-Key\", value = {header} }} }}"),
        )
        .target("hmac", "a", &url("/garbage"), &format!("signing = {{ secrets = [{hmac}] }}"))
        .target(
            "ed25519",
            "a",
            &format!("http://receiver.invalid/?key={key}"),
            &format!("signing = {{ secrets = [{ed25519}] }}"),
        )
        .target("both", "a", &url("/garbage"), &both)
        .target("http2", "a", &format!("{}?key={key}", http2.https()), &both)
}

async fn broker() -> Broker {
    let users = "authorization { users: [ { user: app, password: \"broker-passw0rd-4802\" }, { user: test, password: t } ] }";
    Broker::start_with(users, ConnectOptions::with_user_and_password("test".into(), "t".into())).await
}

/// A receiver of HTTP/2 that refuses every stream.
async fn http2(certs: &Certs) -> Peer {
    Peer::start_tls(certs.http2_config(), |stream, _| async move {
        let Ok(mut connection) = H2::open(stream, &[]).await else { return };
        while let Ok(stream) = connection.request().await {
            let _ = connection.reset(stream, crate::support::h2::INTERNAL_ERROR).await;
        }
    })
    .await
}

async fn nothing_shows(way: Way) {
    let (broker, receiver) = (broker().await, Receiver::start().await);
    let certs = Certs::in_folder(broker.dir());
    let http2 = http2(&certs).await;
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given::new(way, dir.path());
    given.env.push(("SSL_CERT_FILE".to_owned(), certs.ca.to_string_lossy().into_owned()));
    let config = config(&broker, &receiver, &http2, &mut given);
    let mut connector = Connector::start_with(&config, &given.env()).await;

    broker.publish("a", "payload").await;

    for stored in broker.wait_for_retries(TARGETS.len() as u64).await {
        given.assert_hidden(&format!("{stored:?}"), RETRY_QUEUE);
    }
    for letter in broker.wait_for_dead_letters(TARGETS.len() as u64).await {
        given.assert_hidden(&format!("{letter:?}"), DEAD_LETTERS);
    }
    no_page_shows_one(&connector, &given).await;
    connector.stop().await;
    assert!(connector.output().lines().count() > 100, "the log is at trace level");
    given.assert_hidden(&connector.output(), "the log");

    for target in TARGETS {
        given.run(&config, &["send", target]).await;
    }
    for args in [
        &["check"][..],
        &["check", "--connect"],
        &["publish", "a", "x"],
        &["schema"],
        &["completions", "bash"],
    ] {
        given.run(&config, args).await;
    }
    drop(broker);
    given.run(&config, &["check", "--connect"]).await;
    given.run(&config, &["publish", "a", "x"]).await;
}

/// Asks for every page as somebody who knows the token, and as somebody who knows another.
async fn no_page_shows_one(connector: &Connector, given: &Given<'_>) {
    let pages = ["/", "/metrics", "/readyz", "/healthz", "/dead-letters", "/dead-letters/1", "/login"];
    let mut asked: Vec<_> = pages.map(|page| ("GET", page.to_owned())).into();
    for target in TARGETS {
        asked.extend([("GET", format!("/targets/{target}")), ("POST", format!("/targets/{target}/test"))]);
    }
    let token = format!("Bearer {ADMIN_TOKEN}");
    for (method, path) in asked {
        let headers = [("Authorization", token.as_str())];
        let answer = request(connector.admin_port, method, &path, &headers, b"").await.unwrap();
        assert!(answer.status() < 400, "{path}: {}", answer.first_line);
        given.assert_hidden(&format!("{answer:?}{}", String::from_utf8_lossy(&answer.body)), &path);
    }
    let wrong = [("Authorization", "Bearer admin-t0ken-480")];
    let answer = request(connector.admin_port, "GET", "/", &wrong, b"").await.unwrap();
    assert_eq!(answer.status(), 401);
    given.assert_hidden(&format!("{answer:?}"), "a refusal");
}

#[tokio::test]
async fn no_kind_of_secret_shows_that_is_given_as_a_text() {
    nothing_shows(Way::Text).await;
}

#[tokio::test]
async fn no_kind_of_secret_shows_that_is_given_in_the_environment() {
    nothing_shows(Way::Env).await;
}

#[tokio::test]
async fn no_kind_of_secret_shows_that_is_given_in_a_file() {
    nothing_shows(Way::File).await;
}

/// Connects with these lines in `[nats]`: as it should, and to a broker that knows nobody of ours.
async fn proves(broker: &Broker, given: &Given<'_>, nats: &str) {
    let stranger =
        Broker::start_with("authorization { token: other }", ConnectOptions::with_token("other".to_owned()))
            .await;
    let config = |broker| Config::on(broker).nats(nats).target("policy", "a", "http://127.0.0.1:1/", "");
    given.run(&config(broker), &["check", "--connect"]).await;
    given.run(&config(broker), &["publish", "a", "x"]).await;
    given.run(&config(&stranger), &["check", "--connect"]).await;

    let mut connector = Connector::start_with(&config(broker), &given.env()).await;
    connector.stop().await;
    given.assert_hidden(&connector.output(), "the log");
    let mut refused = Connector::spawn(&config(&stranger), &given.env());
    refused.wait_for_line(&["uthorization"]).await;
    refused.signal("TERM");
    refused.wait_for_exit(secs(10)).await;
    given.assert_hidden(&refused.output(), "the log of a refused natshook");
}

#[tokio::test]
async fn no_proof_to_the_broker_shows_however_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let token = "broker-t0ken-4806";
    let by_token = Broker::start_with(
        &format!("authorization {{ token: {token:?} }}"),
        ConnectOptions::with_token(token.into()),
    )
    .await;
    let user = KeyPair::new_user();
    let by_nkey = Broker::start_with(
        &format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key()),
        ConnectOptions::with_nkey(user.seed().unwrap()),
    )
    .await;
    for way in WAYS {
        let mut given = Given::new(way, dir.path());
        let value = given.give("token", token);
        proves(&by_token, &given, &format!("token = {value}")).await;

        let mut given = Given::new(way, dir.path());
        let value = given.give("nkey", &user.seed().unwrap());
        proves(&by_nkey, &given, &format!("nkey_seed = {value}")).await;
    }
}

#[tokio::test]
async fn no_credentials_file_shows() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = Accounts::new();
    let own = ConnectOptions::with_credentials(&accounts.credentials("test")).unwrap();
    let broker = Broker::start_with(&accounts.broker_config(), own).await;
    let credentials = accounts.credentials("app");
    let file = dir.path().join("app.creds");
    std::fs::write(&file, &credentials).unwrap();
    let mut given = Given::new(Way::File, dir.path());
    let secret = credentials.lines().filter(|line| !line.starts_with('-') && !line.is_empty());
    secret.for_each(|line| given.hide(line));
    assert!(given.forms.len() >= 6, "a JWT and a seed");
    proves(&broker, &given, &format!("credentials_file = {file:?}")).await;
}

#[tokio::test]
async fn no_mistake_in_the_config_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given::new(Way::Text, dir.path());
    given.hide("hunter2-4807");
    // The secret stands where something else is expected, or something else where the secret is.
    for wrong in [
        "auth = \"hunter2-4807\"",
        "auth = [\"hunter2-4807\"]",
        "auth = { bearer = [\"hunter2-4807\"] }",
        "auth = { bearer = { value = \"hunter2-4807\" } }",
        "auth = { baerer = \"hunter2-4807\" }",
        "auth = { bearer = \"hunter2-4807\\n\" }",
        "auth = { bearer = \"hunter2-4807\", header = { name = \"X\", value = \"hunter2-4807\" } }",
        "auth = { basic = { user = \"us:er\", password = \"hunter2-4807\" } }",
        "auth = { basic = \"user:hunter2-4807\" }",
        "auth = { header = { name = \"\", value = \"hunter2-4807\" } }",
        "signing = \"hunter2-4807\"",
        "signing = [\"hunter2-4807\"]",
        "signing = { secrets = \"hunter2-4807\" }",
        "signing = { secrets = [\"hunter2-4807\", \"whsec_hunter2-4807\", \"whsk_hunter2-4807\"] }",
        "headers = \"hunter2-4807\"",
        "headers = { \"X-Key\" = [\"hunter2-4807\"] }",
        "headers = { \"X-Key\" = \"hunter2-4807\\n\" }",
        "auth = { bearer = \"hunter2-4807\" ",
        "auth = { bearer = 'hunter2-4807 }",
    ] {
        let config = Config::offline().target("policy", "a", "https://hooks.example/", wrong);
        given.run(&config, &["check"]).await;
    }
    for wrong in [
        "https://user:hunter2-4807@hooks.example/",
        "https://hooks.example:99999/?key=hunter2-4807",
        "https:///?key=hunter2-4807",
        "ftp://hooks.example/?key=hunter2-4807",
        "user:hunter2-4807@hooks.example",
        "http://10.0.0.1/?key=hunter2-4807",
    ] {
        let config = Config::offline().target("policy", "a", wrong, "");
        given.run(&config, &["check"]).await;
    }
    for wrong in [
        "servers = \"http://user:hunter2-4807@127.0.0.1\"",
        "servers = [\"nats://user:hunter2-4807@127.0.0.1:99999\"]",
        "servers = { url = \"hunter2-4807\" }",
        "servers = \"127.0.0.1\"\ntoken = \"hunter2-4807\"\nuser = \"x\"",
        "servers = \"127.0.0.1\"\nnkey_seed = \"hunter2-4807\"",
        "servers = \"127.0.0.1\"\npassword = \"hunter2-4807\"",
    ] {
        let config =
            Config::offline().nats_instead(wrong).target("policy", "a", "https://hooks.example/", "");
        given.run(&config, &["check"]).await;
    }
}

#[tokio::test]
async fn no_argument_or_variable_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given::new(Way::Text, dir.path());
    given.hide("hunter2-4808");
    let config = Config::offline().target("policy", "a", "https://hooks.example/", "");
    for server in [
        "http://user:hunter2-4808@h",
        "nats://user:hunter2-4808@h:99999",
        "nats://user:hunter2-4808@127.0.0.1:1",
    ] {
        given.run(&config, &["publish", "a", "x", "--server", server]).await;
        given.env = vec![("NATS_URL".to_owned(), server.to_owned())];
        given.run(&config, &["publish", "a", "x"]).await;
        given.env.clear();
    }
    for variable in [
        "NATSHOOK__NATS__SERVERS",
        "NATSHOOK__TARGETS__0__AUTH",
        "NATSHOOK__TARGETS__0__URL",
        "NATSHOOK__NATS",
    ] {
        given.env = vec![(variable.to_owned(), "x://user:hunter2-4808@h".to_owned())];
        given.run(&config, &["check"]).await;
    }
}

#[tokio::test]
async fn dev_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given::new(Way::Env, dir.path());
    let secret = given.give("bearer", "bearer-t0ken-4809");
    given.hide("url-query-4810");
    let port = free_port();
    let receiver = Receiver::start().await;
    let url = receiver.url("/works?key=url-query-4810");
    let config = format!(
        "name = \"dev\"\n[nats]\nservers = \"nats://127.0.0.1:{port}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [egress]\nallow = \"127.0.0.0/8\"\nallow_http = true\n[[targets]]\nname = \"works\"\nsubjects = \"a\"\n\
         url = {url:?}\nauth = {{ bearer = {secret} }}\n"
    );
    let (file, out) = (dir.path().join("dev.toml"), dir.path().join("out"));
    std::fs::write(&file, config).unwrap();
    let output = std::fs::File::create(&out).unwrap();
    let mut dev = std::process::Command::new(env!("CARGO_BIN_EXE_natshook"))
        .args([
            "dev",
            "--config",
            file.to_str().unwrap(),
            "--store",
            dir.path().join("store").to_str().unwrap(),
        ])
        .env("NATSHOOK_NATS_SERVER", crate::support::broker::server_binary())
        .envs(given.env())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let printed = || std::fs::read_to_string(&out).unwrap();
    let server = format!("nats://127.0.0.1:{port}");
    until("dev delivers", secs(30), async || {
        let _ = natshook_in(&["publish", "a", "x", "--server", &server], &[]).await;
        receiver.count("/works?key=url-query-4810") > 0
    })
    .await;
    crate::support::signal(dev.id(), "INT");
    until("dev ends", secs(15), async || dev.try_wait().unwrap().is_some()).await;
    given.assert_hidden(&printed(), "dev");
}
