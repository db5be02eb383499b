//! A real nats-server for one test: own port, own store, ended with the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::{free_port, secs, signal, until, until_some};

/// The stream that natshook creates in these tests.
pub(crate) const EVENTS: &str = "EVENTS";
pub(crate) const RETRY_QUEUE: &str = "NATSHOOK_RETRY";
pub(crate) const DEAD_LETTERS: &str = "NATSHOOK_DEAD_LETTER";

/// A running (or killed, or paused) nats-server.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) port: u16,
    config: PathBuf,
    server: Option<Child>,
    /// How a test (not natshook) connects: as somebody who may do anything.
    options: ConnectOptions,
    dir: TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = std::fs::read(self.log()).unwrap_or_default();
            let from = log.len().saturating_sub(4_000);
            eprintln!("--- nats-server {}\n{}", self.port, String::from_utf8_lossy(&log[from..]));
        }
    }
}

impl Broker {
    /// A server with JetStream that lets everybody in.
    pub(crate) async fn start() -> Self {
        Self::start_with("", ConnectOptions::new()).await
    }

    /// A server with more lines in its configuration; `options` lets the test itself in.
    pub(crate) async fn start_with(more: &str, options: ConnectOptions) -> Self {
        let mut broker = Self::prepare(more, options);
        broker.restart().await;
        broker
    }

    /// A server without JetStream.
    pub(crate) async fn start_without_jetstream() -> Self {
        let mut broker = Self::prepare("", ConnectOptions::new());
        broker.write_config("", "");
        broker.restart().await;
        broker
    }

    /// Everything but the process: [`Self::restart`] starts it.
    pub(crate) fn prepare(more: &str, options: ConnectOptions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = dir.path().join("nats.conf");
        let broker = Self { port: free_port(), config, server: None, options, dir };
        broker.write_config(more, &broker.jetstream());
        broker
    }

    fn jetstream(&self) -> String {
        format!("jetstream {{ store_dir: {:?}, max_file_store: 4GB }}\n", self.dir.path().join("store"))
    }

    fn write_config(&self, more: &str, jetstream: &str) {
        let text = format!("listen: \"127.0.0.1:{}\"\n{jetstream}{more}\n", self.port);
        std::fs::write(&self.config, text).expect("the configuration can be written");
    }

    /// Replaces what [`Self::start_with`] was given, and has the running server read it.
    pub(crate) async fn reload(&self, more: &str) {
        self.write_config(more, &self.jetstream());
        signal(self.pid(), "HUP");
        let reloaded =
            async || std::fs::read_to_string(self.log()).is_ok_and(|log| log.contains("Reloaded server"));
        until("nats-server reloads", secs(10), reloaded).await;
    }

    /// Starts the server, on the same port and store as before.
    pub(crate) async fn restart(&mut self) {
        self.kill9();
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let server = Command::new(server_binary())
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.server = Some(server);
        let url = self.url();
        until("nats-server lets the test in", secs(20), async || {
            self.options.clone().connect(&url).await.is_ok()
        })
        .await;
    }

    /// SIGKILL, as the kernel does when memory runs out.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Everything that the killed server had stored is gone.
    pub(crate) fn lose_store(&self) {
        assert!(self.server.is_none(), "the server must be killed first");
        std::fs::remove_dir_all(self.dir.path().join("store")).expect("the store can be removed");
    }

    /// The server stands still; its connections stay open.
    pub(crate) fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("nats.log")
    }

    /// Where the test may keep files for as long as the broker lives.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn client(&self) -> Client {
        self.options.clone().connect(self.url()).await.expect("the broker answers")
    }

    pub(crate) async fn jetstream_context(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Stores one message; its sequence in the stream.
    pub(crate) async fn publish(&self, subject: &str, payload: impl Into<Vec<u8>>) -> u64 {
        self.publish_with_headers(subject, &[], payload).await
    }

    pub(crate) async fn publish_with_headers(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: impl Into<Vec<u8>>,
    ) -> u64 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let context = self.jetstream_context().await;
        let payload = payload.into().into();
        let stored = context.publish_with_headers(subject.to_owned(), map, payload).await;
        stored.expect("sent").await.expect("a stream holds the subject").sequence
    }

    /// Stores `n` messages whose payloads are `0`, `1`, …, over one connection.
    pub(crate) async fn publish_numbered(&self, subject: &str, n: std::ops::Range<usize>) {
        let context = self.jetstream_context().await;
        let mut stored = Vec::new();
        for i in n {
            let sent = context.publish(subject.to_owned(), i.to_string().into()).await;
            stored.push(sent.expect("sent"));
        }
        for ack in stored {
            ack.await.expect("a stream holds the subject");
        }
    }

    /// Every message that a stream holds now; none when there is no such stream.
    pub(crate) async fn stored(&self, stream: &str) -> Vec<Stored> {
        stored_in(&self.jetstream_context().await, stream).await
    }

    /// How many messages a stream holds now; 0 when there is no such stream.
    pub(crate) async fn count(&self, stream: &str) -> u64 {
        match self.jetstream_context().await.get_stream(stream).await {
            Ok(stream) => stream.cached_info().state.messages,
            Err(_) => 0,
        }
    }

    /// Waits for `n` dead letters, and returns all there are.
    pub(crate) async fn wait_for_dead_letters(&self, n: u64) -> Vec<Stored> {
        let what = format!("{n} dead letters");
        until(&what, secs(20), async || self.count(DEAD_LETTERS).await >= n).await;
        self.stored(DEAD_LETTERS).await
    }

    /// Waits until `n` deliveries stand in the retry queue, and returns all there are.
    pub(crate) async fn wait_for_retries(&self, n: u64) -> Vec<Stored> {
        let what = format!("{n} deliveries in the retry queue");
        until(&what, secs(20), async || self.count(RETRY_QUEUE).await >= n).await;
        self.stored(RETRY_QUEUE).await
    }

    /// What a consumer has not yet been given, and what it has not yet acked.
    pub(crate) async fn outstanding(&self, stream: &str, consumer: &str) -> Option<(u64, usize)> {
        let stream = self.jetstream_context().await.get_stream(stream).await.ok()?;
        let info = stream.consumer_info(consumer).await.ok()?;
        Some((info.num_pending, info.num_ack_pending))
    }

    /// Waits until the target has settled every message and the retry queue is empty.
    pub(crate) async fn wait_until_settled(&self, target: &str) {
        let consumer = format!("natshook-{target}");
        let what = format!("everything settled for {target}");
        until_some(&what, secs(30), async || {
            let done = self.outstanding(EVENTS, &consumer).await == Some((0, 0));
            (done && self.count(RETRY_QUEUE).await == 0).then_some(())
        })
        .await;
    }
}

/// A message as a stream holds it, read by hand: the client's own reader keeps only the last of several
/// headers of one name, and none at all when one is not UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Vec<u8>,
}

impl Stored {
    /// Every value of a header, in order.
    pub(crate) fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Every message that a stream holds now; none when there is no such stream.
pub(crate) async fn stored_in(context: &jetstream::Context, stream: &str) -> Vec<Stored> {
    let Ok(found) = context.get_stream(stream).await else { return vec![] };
    let state = &found.cached_info().state;
    let mut messages = Vec::new();
    if state.messages > 0 {
        for sequence in state.first_sequence..=state.last_sequence {
            messages.extend(raw_message(context, stream, sequence).await);
        }
    }
    messages
}

/// `None` when there is no message at this sequence (any more).
async fn raw_message(context: &jetstream::Context, stream: &str, sequence: u64) -> Option<Stored> {
    let query = serde_json::json!({ "seq": sequence });
    let answer: serde_json::Value = context.request(format!("STREAM.MSG.GET.{stream}"), &query).await.ok()?;
    let message = answer.get("message")?;
    let bytes =
        |key: &str| STANDARD.decode(message.get(key).and_then(|v| v.as_str()).unwrap_or_default()).unwrap();
    let block = bytes("hdrs");
    let lines = String::from_utf8_lossy(&block).split("\r\n").skip(1).map(str::to_owned).collect::<Vec<_>>();
    let headers = lines.iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Some(Stored { subject: message["subject"].as_str()?.to_owned(), headers, payload: bytes("data") })
}

/// The value of a stored message's header, which must stand there at most once.
pub(crate) fn header(message: &Stored, name: &str) -> Option<String> {
    let all = message.header_all(name);
    assert!(all.len() <= 1, "{name} stands there more than once: {all:?}");
    all.first().map(|value| (*value).to_owned())
}

/// The nats-server that tests run.
pub(crate) fn server_binary() -> PathBuf {
    if let Some(given) = std::env::var_os("NATSHOOK_NATS_SERVER") {
        return given.into();
    }
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|file| file.is_file())
    });
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats-server");
    match on_path {
        Some(file) => file,
        None if tools.is_file() => tools,
        None => {
            panic!(
                "no nats-server on PATH, in NATSHOOK_NATS_SERVER or in target/tools: run `make test`, which fetches one"
            )
        }
    }
}

/// Publishes with a header block as it is, which no client library would send: `HPUB` over a bare connection.
/// The broker must have no users, or a user `test` with the password `t`.
pub(crate) async fn publish_raw(broker: &Broker, subject: &str, headers: &[u8], payload: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    let block = [b"NATS/1.0\r\n", headers, b"\r\n\r\n"].concat();
    let total = block.len() + payload.len();
    let head = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false,\"user\":\"test\",\"pass\":\"t\"}}\r\nHPUB {subject} {} {total}\r\n",
        block.len()
    );
    let bytes = [head.as_bytes(), &block, payload, b"\r\nPING\r\n"].concat();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        let n = stream.read_buf(&mut answer).await.unwrap();
        assert!(n > 0 && !answer.windows(4).any(|w| w == b"-ERR"), "{}", String::from_utf8_lossy(&answer));
    }
}
