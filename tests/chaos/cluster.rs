//! Three nats-servers as one cluster. Each one's routes to the others pass through proxies, so that a node can be cut off
//! from the others while clients still reach it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use tempfile::TempDir;

use crate::proxy::{Link, Proxy};
use crate::support::broker::server_binary;
use crate::support::{free_port, http, millis, secs, signal, until};

pub(crate) const NODES: usize = 3;
/// The longest that a node may take until it has caught up with the others.
const HEALTHY_WITHIN: Duration = secs(60);

#[derive(Debug)]
struct Node {
    port: u16,
    health: u16,
    config: PathBuf,
    server: Option<Child>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    /// `routes[from][to]`
    routes: Vec<Vec<Proxy>>,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..NODES).for_each(|node| self.kill9(node));
    }
}

impl Cluster {
    /// Starts all three and waits until they work together.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let inner: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let mut routes = Vec::new();
        for _ in 0..NODES {
            let mut to_others = Vec::new();
            for to in &inner {
                to_others.push(Proxy::start(*to).await);
            }
            routes.push(to_others);
        }
        let nodes = (0..NODES).map(|node| {
            let config = dir.path().join(format!("{node}.conf"));
            Node { port: free_port(), health: free_port(), config, server: None }
        });
        let nodes = nodes.collect();
        let mut cluster = Self { nodes, routes, dir };
        for (node, inner) in inner.iter().enumerate() {
            cluster.write_config(node, *inner);
            cluster.spawn(node);
        }
        cluster.wait_until_healthy().await;
        cluster
    }

    /// Nodes learn of each other by gossip as well; the address that they are told there leads nowhere, so that no
    /// route goes past the proxies.
    fn write_config(&self, node: usize, inner: u16) {
        let others = (0..NODES).filter(|other| *other != node);
        let routes =
            others.map(|other| format!("\"nats-route://127.0.0.1:{}\"", self.routes[node][other].port));
        let routes = routes.collect::<Vec<_>>().join(", ");
        let store = self.dir.path().join(node.to_string());
        let Node { port, health, config, .. } = &self.nodes[node];
        let text = format!(
            "server_name: \"{node}\"\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{health}\"\n\
             jetstream {{ store_dir: {store:?}, max_file_store: 4GB, max_memory_store: 64MB }}\n\
             cluster {{ name: \"campaign\", listen: \"127.0.0.1:{inner}\", advertise: \"127.0.0.1:1\", \
             routes: [{routes}] }}\n"
        );
        std::fs::write(config, text).expect("the configuration can be written");
    }

    fn spawn(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let server = Command::new(server_binary())
            .arg("--config")
            .arg(&node.config)
            .arg("--log")
            .arg(node.config.with_extension("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        node.server = Some(server.expect("nats-server starts"));
    }

    /// Starts a node if it was killed or ended, and waits until all work together again.
    pub(crate) async fn restart_if_ended(&mut self, node: usize) {
        if self.nodes[node].server.is_none() {
            self.spawn(node);
        }
        self.wait_until_healthy().await;
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self, node: usize) {
        if let Some(mut server) = self.nodes[node].server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// SIGTERM, as for an upgrade; returns when the node has ended.
    pub(crate) async fn stop(&mut self, node: usize) {
        let mut server = self.nodes[node].server.take().expect("it runs");
        signal(server.id(), "TERM");
        until("a node ends", secs(20), async || server.try_wait().expect("our child").is_some()).await;
    }

    /// Cuts a node off from the others, or lets it back.
    pub(crate) fn partition(&self, node: usize, link: Link) {
        for other in 0..NODES {
            self.routes[node][other].set(link);
            self.routes[other][node].set(link);
        }
    }

    pub(crate) async fn wait_until_healthy(&self) {
        for node in self.nodes.iter().filter(|node| node.server.is_some()) {
            let started = Instant::now();
            loop {
                let health = http::get(node.health, "/healthz").await;
                if health.as_ref().is_some_and(|(status, _)| *status == 200) {
                    break;
                }
                if started.elapsed() > HEALTHY_WITHIN {
                    let log = std::fs::read_to_string(node.config.with_extension("log")).unwrap_or_default();
                    let from = log.floor_char_boundary(log.len().saturating_sub(4_000));
                    panic!("a node is not healthy: {health:?}\n{}", &log[from..]);
                }
                tokio::time::sleep(millis(50)).await;
            }
        }
    }

    fn urls(&self, nodes: impl Iterator<Item = usize>) -> Vec<String> {
        nodes.map(|node| format!("nats://127.0.0.1:{}", self.nodes[node].port)).collect()
    }

    /// The section `[nats]` of a config.
    pub(crate) fn servers(&self) -> String {
        format!("servers = {:?}", self.urls(0..NODES))
    }

    /// The same with one node, from which a client learns of the others.
    pub(crate) fn server(&self, node: usize) -> String {
        format!("servers = {:?}", self.urls(std::iter::once(node)))
    }

    /// A connection to any node but `avoided`.
    pub(crate) async fn client(&self, avoided: Option<usize>) -> Client {
        let urls = self.urls((0..NODES).filter(|node| Some(*node) != avoided));
        ConnectOptions::new().max_reconnects(None).connect(urls).await.expect("a node lets the test in")
    }
}
