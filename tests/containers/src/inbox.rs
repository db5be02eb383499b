//! A receiver in a container: `natshook inbox`, whose output says what arrived.

use std::collections::HashMap;

use serde_json::Value;
use testcontainers::{core::Mount, GenericImage, ImageExt};

use crate::{engine::NATSHOOK, until, wait::secs, Container, Network};

/// A webhook receiver.
pub struct Inbox(Container);

impl Inbox {
    /// Starts one, and waits until it listens.
    pub async fn start(network: &Network) -> Self {
        Self::start_with(network, None, &[]).await
    }

    /// Starts one that takes its time to answer, such as `100ms`.
    pub async fn start_slow(network: &Network, delay: &str) -> Self {
        Self::start_with(network, None, &["--delay", delay]).await
    }

    /// Starts one that says whether signatures hold, with the config and secrets in `folder`.
    pub async fn start_verifying(network: &Network, folder: &std::path::Path) -> Self {
        Self::start_with(network, Some(folder), &["--verify"]).await
    }

    async fn start_with(network: &Network, folder: Option<&std::path::Path>, more: &[&str]) -> Self {
        let mut command = vec!["inbox", "--listen", "0.0.0.0:8080", "--json"];
        command.extend(more);
        let mut request =
            GenericImage::new(NATSHOOK.0, NATSHOOK.1).with_cmd(command).with_readonly_rootfs(true);
        if let Some(folder) = folder {
            request = request.with_mount(Mount::bind_mount(folder.display().to_string(), "/etc/natshook"));
        }
        let inbox = Self(Container::start(network, "inbox", request).await);
        until("the inbox listens", secs(10), async || inbox.0.stderr().await.contains("the inbox listens"))
            .await;
        inbox
    }

    /// The URL of a path of it, inside the network.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:8080{path}", self.0.name())
    }

    /// Its container.
    pub fn container(&self) -> &Container {
        &self.0
    }

    /// All that it has received.
    pub async fn received(&self) -> Vec<Request> {
        let lines = self.0.stdout().await;
        lines.lines().map(|line| Request(serde_json::from_str(line).expect("an object a line"))).collect()
    }

    /// How often each body was received and answered with a 2xx, on `path`.
    pub async fn delivered(&self, path: &str) -> HashMap<String, usize> {
        let mut bodies = HashMap::new();
        for request in self.received().await.iter().filter(|r| r.path() == path && r.status() == 200) {
            *bodies.entry(request.body().to_owned()).or_default() += 1;
        }
        bodies
    }
}

/// What was received, and how it was answered.
pub struct Request(Value);

impl Request {
    /// Its path.
    pub fn path(&self) -> &str {
        self.0["path"].as_str().expect("a path")
    }

    /// The status that it was answered with.
    pub fn status(&self) -> u64 {
        self.0["status"].as_u64().expect("a status")
    }

    /// Its body.
    pub fn body(&self) -> &str {
        self.0["body"].as_str().expect("a text")
    }

    /// What became of its signature.
    pub fn signature(&self) -> &str {
        self.0["signature"].as_str().expect("a word")
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    /// When it came, in RFC 3339: sorts by time.
    pub fn time(&self) -> &str {
        self.0["time"].as_str().expect("a time")
    }
}
