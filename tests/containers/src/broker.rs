//! NATS in containers: one server, or a cluster of three whose servers can be ended, cut off and replaced.

use async_nats::{jetstream, Client, ConnectOptions, ServerAddr};
use testcontainers::{core::Mount, GenericImage, ImageExt};

use crate::{until, until_some, wait::secs, Container, Network};

/// The version that an upgrade starts from.
pub const OLDER: &str = "2.12.8";
/// The newest version.
pub const NEWEST: &str = "2.15.1";

/// Where the servers keep their streams: a volume, which outlives the container.
const STORE: &str = "/data";

/// One server.
pub struct Broker(Container);

impl Broker {
    /// Starts one of this version; ready when it answers.
    pub async fn start(network: &Network, version: &str) -> Self {
        let broker = Self(server(network, "nats", version, &[]).await);
        broker.client().await;
        broker
    }

    /// Where natshook finds it.
    pub fn url(&self) -> String {
        url(&self.0)
    }

    /// Its container.
    pub fn container(&self) -> &Container {
        &self.0
    }

    /// A connection from outside the network.
    pub async fn client(&self) -> Client {
        connect(std::slice::from_ref(&self.0)).await
    }
}

/// Three servers.
pub struct Cluster {
    servers: Vec<Container>,
    network: Network,
}

impl Cluster {
    /// Starts three of this version, and waits until they agree on a leader.
    pub async fn start(network: Network, version: &str) -> Self {
        let mut servers = Vec::new();
        for number in 0..3 {
            servers.push(member(&network, number, version).await);
        }
        let cluster = Self { servers, network };
        cluster.wait_until_whole().await;
        cluster
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where natshook finds the servers.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(url).collect()
    }

    /// A connection to whichever server answers, from outside the network.
    pub async fn client(&self) -> Client {
        connect(&self.servers).await
    }

    /// One of the servers, 0 to 2.
    pub fn server(&self, number: usize) -> &Container {
        &self.servers[number]
    }

    /// Which server leads a stream.
    pub async fn leader_of(&self, stream: &str) -> usize {
        let context = jetstream::new(self.client().await);
        let name = until_some("the stream has a leader", secs(30), async || {
            let stream = context.get_stream(stream).await.ok()?;
            stream.cached_info().cluster.as_ref()?.leader.clone()
        })
        .await;
        self.servers.iter().position(|server| server.name() == name).expect("one of ours")
    }

    /// Replaces a server by one of another version that takes over its store.
    pub async fn replace(&mut self, number: usize, version: &str) {
        self.servers[number].stop(secs(20)).await;
        self.servers.remove(number).remove().await;
        self.servers.insert(number, member(&self.network, number, version).await);
        self.wait_until_whole().await;
    }

    /// Waits until every stream and its consumers have three servers that know all, and one that leads.
    pub async fn wait_until_whole(&self) {
        until("the cluster is whole", secs(60), async || {
            for server in &self.servers {
                let Ok(true) = whole(server).await else { return false };
            }
            true
        })
        .await;
    }
}

fn url(server: &Container) -> String {
    format!("nats://{}:4222", server.name())
}

async fn member(network: &Network, number: usize, version: &str) -> Container {
    let name = |number| format!("{}-n{number}", network.name());
    let routes: Vec<String> = (0..3).map(|n| format!("nats-route://{}:6222", name(n))).collect();
    let (name, routes) = (name(number), routes.join(","));
    let cluster = [
        "--server_name",
        &name,
        "--cluster_name",
        "c",
        "--cluster",
        "nats://0.0.0.0:6222",
        "--routes",
        &routes,
    ];
    server(network, &format!("n{number}"), version, &cluster).await
}

async fn server(network: &Network, name: &str, version: &str, more: &[&str]) -> Container {
    let mut command = vec!["--jetstream", "--store_dir", STORE, "--http_port", "8222"];
    command.extend(more);
    let mut request = GenericImage::new("nats", version).with_cmd(command);
    if !more.is_empty() {
        request = request.with_mount(Mount::volume_mount(network.volume(name), STORE));
    }
    Container::start(network, name, request).await
}

async fn connect(servers: &[Container]) -> Client {
    let mut addresses = Vec::new();
    for server in servers {
        if let Some(address) = server.address_now().await {
            addresses.push(format!("nats://{address}:4222").parse::<ServerAddr>().expect("an address"));
        }
    }
    // The names that servers tell of each other mean something inside the network only.
    let options = ConnectOptions::new().ignore_discovered_servers().retry_on_initial_connect();
    let client = options.connect(addresses).await.expect("options that fit");
    until("a broker answers", secs(30), async || client.flush().await.is_ok() && is_connected(&client)).await;
    client
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}

/// What the server itself says: `/healthz` looks at all its streams and consumers.
async fn whole(server: &Container) -> std::io::Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(address) = server.address_now().await else { return Ok(false) };
    let mut stream = tokio::net::TcpStream::connect((address, 8222)).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
}
