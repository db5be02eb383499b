//! `natshook inbox`: a receiver to try targets with.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::connector::natshook_with;
use crate::support::{Broker, Config, Connector, free_port, secs, until, until_some};

struct Inbox {
    child: Child,
    port: u16,
    printed: tempfile::NamedTempFile,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Inbox {
    async fn start(arguments: &[&str]) -> Self {
        let (port, printed) = (free_port(), tempfile::NamedTempFile::new().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_natshook"))
            .args(["inbox", "--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .stdout(Stdio::from(printed.reopen().unwrap()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the inbox listens", secs(10), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { child, port, printed }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(self.printed.path()).unwrap()
    }
}

#[tokio::test]
async fn it_consents_to_whoever_asks() {
    let broker = Broker::start().await;
    let inbox = Inbox::start(&[]).await;
    let config = Config::on(&broker).target("policy", "a", &inbox.url("/hook"), "handshake = true");
    let _connector = Connector::start(&config).await;
    broker.publish("a", "delivered").await;
    until("the message is delivered", secs(10), async || inbox.printed().contains("delivered")).await;
    assert!(inbox.printed().contains("OPTIONS"), "{}", inbox.printed());
}

#[tokio::test]
async fn it_prints_each_request_as_an_object_and_fails_where_the_path_says_so() {
    let broker = Broker::start().await;
    let inbox = Inbox::start(&["--json"]).await;
    let signed = "signing = { secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }\nretry = { delays = [\"1s\", \"1s\"] }";
    let config = Config::on(&broker).target("policy", "a", &inbox.url("/fails-twice"), signed);
    let _connector = Connector::start(&config).await;

    assert_eq!(natshook_with(&config, &["publish", "a", "{\"id\":1}"]).await.code, 0);

    let lines = until_some("three requests", secs(20), async || {
        let printed = inbox.printed();
        (printed.lines().count() == 3).then_some(printed)
    })
    .await;
    let seen: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<_> = seen.iter().map(|request| request["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(seen[2]["headers"]["natshook-attempt"], "3");
    assert_eq!(seen[2]["body"], "{\"id\":1}");
    assert_eq!(seen[2]["signature"], "unknown", "it was given no config: {}", seen[2]);
}

#[tokio::test]
async fn with_the_config_it_says_whether_signatures_hold() {
    let secret = "signing = { secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("natshook.toml");
    // The inbox takes the secret by the path; the port in the URL is nothing to it.
    let config = Config::offline().target("policy", "a", "http://127.0.0.1:1/hook", secret);
    std::fs::write(&file, config.text()).unwrap();
    let inbox = Inbox::start(&["--verify", "--config", file.to_str().unwrap()]).await;

    let sends = |secret| Config::offline().target("policy", "a", &inbox.url("/hook"), secret);
    assert_eq!(natshook_with(&sends(secret), &["send", "policy"]).await.code, 0);
    until("it is seen", secs(5), async || inbox.printed().contains("answered 200, signature verified")).await;
    let other = "signing = { secrets = [\"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"] }";
    assert_eq!(natshook_with(&sends(other), &["send", "policy"]).await.code, 0);
    until("it is seen", secs(5), async || inbox.printed().contains("signature NOT verified")).await;
}
