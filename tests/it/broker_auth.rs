//! Every way to prove to the broker who we are, and to check who it is.

use async_nats::ConnectOptions;
use nkeys::KeyPair;

use crate::support::accounts::Accounts;
use crate::support::certs::Certs;
use crate::support::{Broker, Config, Connector, Receiver, secs};

/// Starts natshook with these lines in `[nats]` and sees a message through.
async fn delivers(broker: &Broker, nats: &str, env: &[(&str, &str)]) {
    delivers_with(broker, Config::on(broker).nats(nats), env).await;
}

async fn delivers_with(broker: &Broker, config: Config, env: &[(&str, &str)]) {
    let receiver = Receiver::start().await;
    let config = config.target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start_with(&config, env).await;
    broker.publish("a", "1").await;
    assert_eq!(receiver.wait_for("/hook", 1).await[0].body, b"1");
}

/// Starts natshook with these lines in `[nats]`: it is not let in, says so, and is not ready.
async fn is_refused(broker: &Broker, nats: &str, words: &[&str]) {
    let config = Config::on(broker).nats(nats).target("policy", "a", "http://127.0.0.1:1/", "");
    let mut connector = Connector::spawn(&config, &[]);
    connector.wait_for_line(words).await;
    if connector.exited().is_none() {
        assert_eq!(connector.get("/readyz").await.0, 503);
    }
}

#[tokio::test]
async fn a_token() {
    let broker =
        Broker::start_with("authorization { token: s3cret }", ConnectOptions::with_token("s3cret".into()))
            .await;
    delivers(&broker, "token = \"s3cret\"", &[]).await;
    delivers(&broker, "token = { env = \"BROKER_TOKEN\" }", &[("BROKER_TOKEN", "s3cret")]).await;
    let file = broker.dir().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    delivers(&broker, &format!("token = {{ file = {file:?} }}"), &[]).await;
    is_refused(&broker, "token = \"wrong\"", &["uthorization"]).await;
}

#[tokio::test]
async fn a_user_and_a_password() {
    let options = ConnectOptions::with_user_and_password("test".into(), "t".into());
    let users =
        "authorization { users: [ { user: app, password: \"p@ss:w/rd\" }, { user: test, password: t } ] }";
    let broker = Broker::start_with(users, options).await;
    delivers(&broker, "user = \"app\"\npassword = \"p@ss:w/rd\"", &[]).await;
    is_refused(&broker, "user = \"app\"\npassword = \"wrong\"", &["uthorization"]).await;
}

#[tokio::test]
async fn credentials_in_the_server_s_url() {
    let options = ConnectOptions::with_user_and_password("test".into(), "t".into());
    let users = "authorization { users: [ { user: app, password: pw }, { user: test, password: t } ] }";
    let broker = Broker::start_with(users, options).await;
    let servers = format!("servers = \"nats://app:pw@127.0.0.1:{}\"", broker.port);
    delivers_with(&broker, Config::on(&broker).nats_instead(&servers), &[]).await;
}

#[tokio::test]
async fn an_nkey() {
    let (app, test) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }}, {{ nkey: {} }} ] }}",
        app.public_key(),
        test.public_key()
    );
    let broker = Broker::start_with(&users, ConnectOptions::with_nkey(test.seed().unwrap())).await;
    delivers(&broker, &format!("nkey_seed = {:?}", app.seed().unwrap()), &[]).await;
    let stranger = KeyPair::new_user().seed().unwrap();
    is_refused(&broker, &format!("nkey_seed = {stranger:?}"), &["uthorization"]).await;
}

#[tokio::test]
async fn a_credentials_file() {
    let accounts = Accounts::new();
    let test = ConnectOptions::with_credentials(&accounts.credentials("test")).unwrap();
    let broker = Broker::start_with(&accounts.broker_config(), test).await;
    let file = broker.dir().join("app.creds");
    std::fs::write(&file, accounts.credentials("app")).unwrap();

    delivers(&broker, &format!("credentials_file = {file:?}"), &[]).await;

    let stranger = broker.dir().join("stranger.creds");
    std::fs::write(&stranger, Accounts::new().credentials("stranger")).unwrap();
    is_refused(&broker, &format!("credentials_file = {stranger:?}"), &["uthorization"]).await;
}

/// A broker that speaks TLS with the given further settings, its certificates, and how the test gets in.
async fn tls_broker(settings: &str) -> (Broker, Certs, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::in_folder(dir.path());
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, {settings} }}",
        certs.server_cert, certs.server_key, certs.ca
    );
    let mut options = ConnectOptions::new()
        .require_tls(true)
        .add_root_certificates(certs.ca.clone())
        .add_client_certificate(certs.client_cert.clone(), certs.client_key.clone());
    if settings.contains("handshake_first") {
        options = options.tls_first();
    }
    (Broker::start_with(&tls, options).await, certs, dir)
}

#[tokio::test]
async fn tls_with_an_authority_of_our_own() {
    let (broker, certs, _dir) = tls_broker("").await;
    delivers(&broker, &format!("[nats.tls]\nca_file = {:?}", certs.ca), &[]).await;
    let other = tempfile::tempdir().unwrap();
    let stranger = Certs::in_folder(other.path());
    is_refused(&broker, &format!("[nats.tls]\nca_file = {:?}", stranger.ca), &["ertificate"]).await;
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let (broker, certs, _dir) = tls_broker("verify: true").await;
    let tls = format!(
        "[nats.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}",
        certs.ca, certs.client_cert, certs.client_key
    );
    delivers(&broker, &tls, &[]).await;
    is_refused(&broker, &format!("[nats.tls]\nca_file = {:?}", certs.ca), &["WARN"]).await;
}

#[tokio::test]
async fn tls_before_the_first_line() {
    let (broker, certs, _dir) = tls_broker("handshake_first: true").await;
    delivers(&broker, &format!("[nats.tls]\nca_file = {:?}\nfirst = true", certs.ca), &[]).await;
}

#[tokio::test]
async fn the_second_server_is_used_when_the_first_is_down() {
    let broker = Broker::start().await;
    let down = crate::support::free_port();
    let servers = format!("servers = [\"nats://127.0.0.1:{down}\", {:?}]", broker.url());
    delivers_with(&broker, Config::on(&broker).nats_instead(&servers), &[]).await;
}

#[tokio::test]
async fn an_inbox_prefix_of_our_own() {
    let options = ConnectOptions::with_user_and_password("test".into(), "t".into());
    let users = "authorization { users: [ { user: test, password: t }, { user: app, password: pw, permissions: { \
                 subscribe: { allow: [\"_INBOX_app.>\"] } } } ] }";
    let broker = Broker::start_with(users, options).await;
    delivers(&broker, "user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_app\"", &[]).await;

    let without = Config::on(&broker).nats("user = \"app\"\npassword = \"pw\"").target(
        "p",
        "a",
        "http://127.0.0.1:1/",
        "",
    );
    let connector = Connector::spawn(&without, &[]);
    // Replies to the default inbox never come: the permission that is missing is named.
    let _line = connector.wait_for_line(&["_INBOX"]).await;
    assert_eq!(tokio::time::timeout(secs(10), connector.get("/readyz")).await.unwrap().0, 503);
}
