//! `natshook dev`: the first thing that a newcomer runs.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{broker::server_binary, free_port, millis, secs, signal, until};

/// `natshook dev` as a child, with its output in a file; it is ended with the test.
struct Dev(Child);

impl Drop for Dev {
    /// Asked rather than killed, since it ends its broker then. A second signal makes it end at once.
    fn drop(&mut self) {
        for _ in 0..2 {
            if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
                signal(self.0.id(), "INT");
                std::thread::sleep(millis(500));
            }
        }
        let _ = self.0.wait();
    }
}

fn natshook() -> Command {
    Command::new(env!("CARGO_BIN_EXE_natshook"))
}

/// The config that `dev` has built in, with a broker port that is free. The inbox takes a free port by itself.
fn config(dir: &Path) -> (std::path::PathBuf, u16) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dev.toml")).unwrap();
    let broker = free_port();
    let text = text.replace(":4222", &format!(":{broker}"));
    let path = dir.join("dev.toml");
    fs::write(&path, format!("{text}\n[admin]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    (path, broker)
}

#[tokio::test]
async fn a_newcomer_sees_a_delivery_a_retry_and_a_dead_letter_and_nothing_is_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let (config, port) = config(dir.path());
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut dev = Dev(natshook()
        .args(["dev", "--config"])
        .arg(&config)
        .arg("--store")
        .arg(dir.path().join("store"))
        .env("NATSHOOK_NATS_SERVER", server_binary())
        .stdout(Stdio::from(fs::File::create(&out).unwrap()))
        .stderr(Stdio::from(fs::File::create(&err).unwrap()))
        .spawn()
        .unwrap());
    let printed = || fs::read_to_string(&out).unwrap();
    until("dev says what to publish", secs(20), async || printed().contains("publish demo.all")).await;

    let server = format!("nats://127.0.0.1:{port}");
    let publish = ["publish", "demo.all", "{\"number\":4}", "--server", &server];
    // A person needs longer to type it than the streams to be made; before that nothing stores the message.
    let published = async || natshook().args(publish).output().unwrap().status.success();
    until("a stream stores the message", secs(20), published).await;

    let dead = "dead letter on dev.dead-letter.never-works: attempts_exhausted";
    until("the dead letter is printed", secs(40), async || printed().contains(dead)).await;
    let printed = printed();
    let count = |what: &str| printed.matches(what).count();
    assert_eq!(count("POST /works answered 200, signature verified"), 1, "{printed}");
    assert_eq!(count("POST /fails-twice answered 503"), 2, "{printed}");
    assert_eq!(count("POST /fails-twice answered 200"), 1, "{printed}");
    assert_eq!(count("POST /never-works answered 500"), 4, "{printed}");

    signal(dev.0.id(), "INT");
    until("dev ends", secs(15), async || dev.0.try_wait().unwrap().is_some()).await;
    assert_eq!(dev.0.wait().unwrap().code(), Some(0), "{}", fs::read_to_string(&err).unwrap());
    until("its broker ends too", secs(5), async || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    })
    .await;
}
