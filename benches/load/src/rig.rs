//! The processes of one run: nats-server, receiver and connector, each a child that ends with it.

use std::fmt;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command as Once, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::jetstream::{self, consumer, stream};
use clap::ValueEnum;
use natshook_load::Seen;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{Place, process};

pub(crate) const STREAM: &str = "EVENTS";
pub(crate) const SUBJECT: &str = "bench.events";
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// What a thousand targets may take to be ready before something must be wrong.
const READY_MANY: Duration = Duration::from_secs(120);

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Connector {
    Natshook,
    Bare,
}

impl Connector {
    /// The durable consumer that it reads from.
    fn consumer(self) -> &'static str {
        match self {
            Self::Natshook => "natshook-bench",
            Self::Bare => "bare",
        }
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Natshook => "natshook",
            Self::Bare => "bare",
        })
    }
}

/// What does not change between runs: the programs and where they work.
pub(crate) struct Rig {
    pub(crate) place: Place,
    programs: PathBuf,
    broker_version: String,
}

impl Rig {
    pub(crate) fn new(place: Place) -> anyhow::Result<Self> {
        let programs = std::env::current_exe()?.parent().context("no folder")?.to_owned();
        let version = Once::new(&place.nats_server).arg("--version").output().with_context(|| {
            format!("no nats-server at {}: run scripts/provision", place.nats_server.display())
        })?;
        if place.only != Some(Connector::Bare) && !place.natshook.is_file() {
            bail!("no natshook at {}: run make build, or give --natshook", place.natshook.display());
        }
        fs::create_dir_all(&place.store).context("the folder of --store")?;
        let broker_version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        Ok(Self { place, programs, broker_version })
    }

    pub(crate) fn describe(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!("{}, {cores} cores, load average {}", self.broker_version, process::load_average())
    }

    /// Who runs in this turn: both, and the other one first each time, so that no drift favours one.
    pub(crate) fn turn(&self, turn: usize) -> Vec<Connector> {
        let mut both = vec![Connector::Natshook, Connector::Bare];
        both.rotate_left(turn % 2);
        both.retain(|one| self.place.only.is_none_or(|only| only == *one));
        both
    }

    /// A fresh broker with an empty stream, and a fresh receiver.
    pub(crate) async fn start(&self) -> anyhow::Result<Stage> {
        let stage = self.start_empty(0).await?;
        let config =
            stream::Config { name: STREAM.into(), subjects: vec![SUBJECT.into()], ..Default::default() };
        stage.jetstream.create_stream(config).await.context("creating the stream")?;
        Ok(stage)
    }

    /// A fresh broker without any stream, and a fresh receiver with so many further hosts.
    pub(crate) async fn start_empty(&self, hosts: usize) -> anyhow::Result<Stage> {
        let folder = TempDir::new_in(&self.place.store)?;
        let (nats, nats_url) = self.start_nats(folder.path())?;
        let client = connect(&nats_url).await.context("nats-server did not come up")?;
        let jetstream = jetstream::new(client);
        let (receiver, receiver_url) = self.start_receiver(hosts).await?;
        Ok(Stage { nats, nats_url, receiver, receiver_url, jetstream, http: reqwest::Client::new(), folder })
    }

    fn start_nats(&self, folder: &Path) -> anyhow::Result<(Child, String)> {
        let port = free_port()?;
        let child = Command::new(&self.place.nats_server)
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--store_dir")
            .arg(folder.join("jetstream"))
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("nats-server.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("starting nats-server")?;
        Ok((child, format!("nats://127.0.0.1:{port}")))
    }

    async fn start_receiver(&self, hosts: usize) -> anyhow::Result<(Child, String)> {
        let mut child = Command::new(self.programs.join("receiver"))
            .arg(hosts.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the receiver")?;
        let stdout = child.stdout.take().context("the receiver has no output")?;
        let address = timeout(READY, BufReader::new(stdout).lines().next_line()).await??;
        Ok((child, format!("http://{}/", address.context("the receiver printed no address")?)))
    }
}

/// The broker and the receiver of one run.
pub(crate) struct Stage {
    pub(crate) nats: Child,
    pub(crate) receiver: Child,
    pub(crate) jetstream: jetstream::Context,
    nats_url: String,
    pub(crate) receiver_url: String,
    http: reqwest::Client,
    // Last, so that it is removed after the processes that write to it have ended.
    folder: TempDir,
}

impl Stage {
    /// Starts the connector on the stage. Its output goes to a file that a failed run shows.
    pub(crate) fn connect(&self, rig: &Rig, connector: Connector) -> anyhow::Result<Child> {
        let concurrency = rig.place.concurrency.to_string();
        match connector {
            Connector::Natshook => {
                let target = one_target(&self.receiver_url, &concurrency);
                self.start_natshook(rig, &format!("{}{target}", self.head()))
            }
            Connector::Bare => {
                let mut command = Command::new(rig.programs.join("bare"));
                command.args([&self.nats_url, STREAM, &self.receiver_url, &concurrency]);
                self.start(command).context("starting the bare loop")
            }
        }
    }

    /// Starts natshook with this config.
    pub(crate) fn start_natshook(&self, rig: &Rig, config: &str) -> anyhow::Result<Child> {
        self.write_config(config)?;
        self.start(self.natshook(rig)).context("starting natshook")
    }

    /// The config of the replicas that are started from now on.
    pub(crate) fn write_config(&self, config: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.config_path(), config)?)
    }

    /// Starts a replica of natshook, with its admin listener at this address.
    pub(crate) fn start_replica(&self, rig: &Rig, admin: &str) -> anyhow::Result<Child> {
        let mut command = self.natshook(rig);
        command.env("NATSHOOK__ADMIN__LISTEN", admin);
        self.start(command).context("starting a replica")
    }

    fn natshook(&self, rig: &Rig) -> Command {
        let mut command = Command::new(&rig.place.natshook);
        command.args(["run", "--config"]).arg(self.config_path());
        command
    }

    /// Waits until the replica at this address says that it is ready.
    pub(crate) async fn until_ready(&self, admin: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MANY;
        loop {
            let answer = self.http.get(format!("http://{admin}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not ready after {READY_MANY:?}; natshook said:\n{}", self.said());
            }
            sleep(POLL).await;
        }
    }

    fn start(&self, mut command: Command) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(command.spawn()?)
    }

    /// natshook's config but for its targets. The secret is 32 bytes of base64 and guards nothing: signing is on
    /// because that is the claim.
    pub(crate) fn head(&self) -> String {
        format!(
            r#"
name = "natshook"

[nats]
servers = ["{}"]

[admin]
listen = "127.0.0.1:0"

[egress]
allow = ["127.0.0.0/8"]
allow_http = true

[defaults]
signing = {{ secrets = ["whsec_bG9hZC1iZW5jaC1sb2FkLWJlbmNoLWxvYWQtYmVuY2g="] }}
"#,
            self.nats_url
        )
    }

    /// The port that all of the receiver's hosts have.
    pub(crate) fn receiver_port(&self) -> &str {
        self.receiver_url.trim_end_matches('/').rsplit(':').next().unwrap_or_default()
    }

    /// What the receiver has seen; latencies only with `skip` above zero.
    pub(crate) async fn seen(&self, skip: u64) -> anyhow::Result<Seen> {
        let answer = self.http.get(format!("{}stats?skip={skip}", self.receiver_url)).send().await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Waits until the receiver has seen `count` different messages, and says what it saw then.
    pub(crate) async fn until_seen(&self, count: u64, limit: Duration) -> anyhow::Result<Seen> {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.seen(0).await?;
            if seen.distinct >= count {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} of {count} messages after {limit:?}; the connector said:\n{}",
                    seen.distinct,
                    self.said()
                );
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the connector's consumer exists and has asked for messages.
    pub(crate) async fn until_pulling(&self, connector: Connector) -> anyhow::Result<()> {
        self.until_pulling_as(connector.consumer()).await
    }

    /// The same for a consumer of any name.
    pub(crate) async fn until_pulling_as(&self, consumer: &str) -> anyhow::Result<()> {
        self.until_consumer(consumer, "it pulls", |info| info.num_waiting > 0).await
    }

    /// Waits until the connector has acked everything.
    pub(crate) async fn until_acked(&self, connector: Connector) -> anyhow::Result<()> {
        let all_acked = |info: &consumer::Info| info.num_pending == 0 && info.num_ack_pending == 0;
        self.until_consumer(connector.consumer(), "everything is acked", all_acked).await
    }

    async fn until_consumer(
        &self,
        consumer: &str,
        what: &str,
        reached: impl Fn(&consumer::Info) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        let stream = self.jetstream.get_stream(STREAM).await?;
        loop {
            let info = stream.consumer_info(consumer).await;
            if info.as_ref().is_ok_and(&reached) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "waited {READY:?} until {what}, the consumer is {info:?}; the connector said:\n{}",
                    self.said()
                );
            }
            sleep(POLL * 4).await;
        }
    }

    /// Ends the run: the broker is waited for, so that its store can be removed behind it.
    pub(crate) async fn end(mut self, mut connector: Child) -> anyhow::Result<()> {
        for child in [&mut connector, &mut self.receiver, &mut self.nats] {
            child.kill().await.context("ending a process of the run")?;
        }
        Ok(())
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("natshook.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("connector.log")
    }

    /// The end of the connector's output.
    fn said(&self) -> String {
        let all = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn one_target(receiver: &str, concurrency: &str) -> String {
    format!(
        r#"
[[targets]]
name = "bench"
subjects = ["{SUBJECT}"]
url = "{receiver}"
concurrency = {concurrency}
start = "all"
"#
    )
}

async fn connect(url: &str) -> anyhow::Result<async_nats::Client> {
    let deadline = Instant::now() + READY;
    loop {
        match async_nats::connect(url).await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => sleep(POLL * 10).await,
        }
    }
}

/// A port that was free a moment ago; nats-server takes it before anybody else is likely to.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
