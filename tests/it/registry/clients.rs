//! The clients that docs/registration.md shows, each run as its users would run it: that of Python with its library, that of Go
//! with Debian's package of its library, that of Node with a stand-in for its package.

use std::path::Path;
use std::process::Output;

use serde_json::json;
use tokio::process::Command;

use super::{ask, open};
use crate::support::tools::{python_libraries, tool};
use crate::support::{Broker, Connector, Receiver, secs, until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Where Debian's packages keep the sources of libraries for Go.
const GO_LIBRARIES: &str = "/usr/share/gocode";

fn program(name: &str) -> String {
    format!("{}/docs/register/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Option<Command> {
    let libraries = python_libraries()?;
    let mut command = Command::new(tool("python3")?);
    command.arg(program("register.py")).env("PYTHONPATH", libraries).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// Built in `folder`.
async fn go(folder: &Path) -> Option<Command> {
    let go = tool("go")?;
    let library = Path::new(GO_LIBRARIES).join("src/github.com/nats-io/nats.go");
    if !library.is_dir() {
        assert!(std::env::var_os("NATSHOOK_TESTS_REQUIRE_TOOLS").is_none(), "no {}", library.display());
        println!("skipped: no {} (golang-github-nats-io-go-nats-dev)", library.display());
        return None;
    }
    let built = folder.join("register");
    let mut build = Command::new(go);
    build.arg("build").arg("-o").arg(&built).arg(program("register.go"));
    build.env("GO111MODULE", "off").env("GOPATH", GO_LIBRARIES).env("GOCACHE", folder.join("cache"));
    let done = tokio::time::timeout(secs(120), build.output()).await.expect("it builds in time").unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(Command::new(built))
}

/// Beside its package, in `folder`.
fn node(folder: &Path) -> Option<Command> {
    let node = tool("node")?;
    let package = folder.join("node_modules/@nats-io/transport-node");
    std::fs::create_dir_all(&package).unwrap();
    for file in ["package.json", "index.mjs"] {
        let stand_in = format!("{}/tests/it/fixtures/transport-node/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(stand_in, package.join(file)).unwrap();
    }
    let copy = folder.join("register.mjs");
    std::fs::copy(program("register.mjs"), &copy).unwrap();
    let mut command = Command::new(node);
    command.arg(copy);
    Some(command)
}

async fn run(command: &mut Command, broker: &Broker, url: &str) -> Output {
    command.env("NATS_URL", broker.url()).env("WEBHOOK_URL", url).env("WEBHOOK_SECRET", SECRET);
    tokio::time::timeout(secs(30), command.output()).await.expect("it ends").unwrap()
}

/// Registers, registers again, which changes nothing, and is told what is wrong.
async fn registers(mut client: Command) {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let connector = Connector::start(&open(&broker)).await;
    let done = run(&mut client, &broker, &receiver.url("/orders")).await;
    assert_eq!(String::from_utf8_lossy(&done.stdout), "orders: registered, revision 1\n", "{done:?}");
    connector.wait_for_line(&["consumer made", "natshook-orders"]).await;
    broker.publish("orders.created", "{}").await;
    assert!(receiver.wait_for("/orders", 1).await[0].header("webhook-signature").is_some());

    let again = run(&mut client, &broker, &receiver.url("/orders")).await;
    assert_eq!(String::from_utf8_lossy(&again.stdout), "orders: registered, revision 1\n");
    let refused = run(&mut client, &broker, "ftp://hooks.example").await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("url: found") && said.contains("400: the target is not valid: 1 error"), "{said}");
    until("it is as it was", secs(5), async || {
        ask(&broker, "get", json!({ "name": "orders" })).await.done()["revision"] == 1
    })
    .await;
}

#[tokio::test]
async fn a_python_service_registers_its_webhook() {
    let Some(client) = python() else { return };
    registers(client).await;
}

#[tokio::test]
async fn a_go_service_registers_its_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let Some(client) = go(folder.path()).await else { return };
    registers(client).await;
}

#[tokio::test]
async fn a_node_service_registers_its_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let Some(client) = node(folder.path()) else { return };
    registers(client).await;
}
