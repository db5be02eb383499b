//! The broker of `natshook dev`: one that answers already, or a nats-server of our own that ends with us.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command as Blocking, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// The oldest nats-server that has what natshook needs: consumers with several subjects.
const OLDEST: (u64, u64) = (2, 10);
/// How long a nats-server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(10);
/// How long it may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long whatever listens on the port may take to greet.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// The most bytes of a greeting that are read.
const GREETING_BYTES_MAX: usize = 8 * 1024;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerStartError {
    /// There is no server to start.
    #[error(
        "no nats-server {}.{} or newer: {}; install one (https://github.com/nats-io/nats-server/releases), name it by \
         NATSHOOK_NATS_SERVER, or start a broker on {at} yourself: docker run -p 4222:4222 nats:2 -js",
        OLDEST.0, OLDEST.1, .tried.join(", ")
    )]
    NotFound {
        /// Where one was looked for, and what was wrong.
        tried: Vec<String>,
        /// Where the broker should be.
        at: String,
    },
    /// The broker should be on another machine, and is not.
    #[error("no broker answers at {0}, and only on this machine can one be started")]
    Elsewhere(String),
    /// Something else listens there.
    #[error("what listens on {0} is not a NATS broker; end it, or name another place in [nats] servers")]
    Taken(String),
    /// The broker that answers has no JetStream.
    #[error("the broker on {0} has no JetStream; end it, or start it with -js")]
    NoJetStream(String),
    /// The server cannot be started.
    #[error("cannot start {}: {cause}", server.display())]
    Spawn {
        /// The server.
        server: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The server ended, or does not answer.
    #[error("{} does not answer on {at}; its log {} ends with:\n{end}", server.display(), log.display())]
    Silent {
        /// The server.
        server: PathBuf,
        /// Where it should answer.
        at: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        end: String,
    },
}

/// Who listens on a port.
enum Listener {
    Nobody,
    Broker { jetstream: bool },
    Other,
}

/// A nats-server that we started.
#[derive(Debug)]
pub(super) struct Server {
    path: PathBuf,
    child: Child,
}

/// How to end the server where nothing can be waited for any more. Empty until there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct Quit(Arc<OnceLock<(PathBuf, u32)>>);

impl Quit {
    /// Asks the server to end, and does not wait.
    pub(super) fn now(&self) {
        if let Some((path, pid)) = self.0.get() {
            // Nobody is left to be told if it fails.
            let _ = signal_quit(path, *pid).spawn();
        }
    }
}

/// A way of the server's own: sending a signal from here would need unsafe code.
fn signal_quit(path: &Path, pid: u32) -> Blocking {
    let mut command = Blocking::new(path);
    command.arg("--signal").arg(format!("quit={pid}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Makes sure that a broker with JetStream answers at `host:port`: `None` when one does already, else one that is
/// started with its files in `store`.
///
/// # Errors
/// None can be had; says what to do.
pub(super) async fn ensure(
    host: &str,
    port: u16,
    store: &Path,
    quit: &Quit,
) -> Result<Option<Server>, BrokerStartError> {
    let at = format!("{host}:{port}");
    match listener(host, port).await {
        Listener::Broker { jetstream: true } => Ok(None),
        Listener::Broker { jetstream: false } => Err(BrokerStartError::NoJetStream(at)),
        Listener::Other => Err(BrokerStartError::Taken(at)),
        Listener::Nobody if !matches!(host, "127.0.0.1" | "localhost") => {
            Err(BrokerStartError::Elsewhere(at))
        }
        Listener::Nobody => Server::start(find(&at)?, port, store, quit).await.map(Some),
    }
}

/// A broker greets with `INFO {…}` as soon as somebody connects.
async fn listener(host: &str, port: u16) -> Listener {
    let Ok(Ok(mut stream)) = timeout(GREETING_MAX, TcpStream::connect((host, port))).await else {
        return Listener::Nobody;
    };
    let mut greeting = Vec::new();
    let read = async {
        while !greeting.contains(&b'\n') && greeting.len() < GREETING_BYTES_MAX {
            if stream.read_buf(&mut greeting).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    // Whatever has come by then is the greeting.
    let _ = timeout(GREETING_MAX, read).await;
    let info = greeting.strip_prefix(b"INFO ").and_then(|info| info.split(|b| *b == b'\n').next());
    match info.and_then(|info| serde_json::from_slice::<serde_json::Value>(info).ok()) {
        Some(info) => Listener::Broker { jetstream: info["jetstream"] == true },
        None => Listener::Other,
    }
}

/// The first server that is new enough: the one named by `NATSHOOK_NATS_SERVER` and no other, else of those in
/// PATH and in the folder of tools that `make` fills.
fn find(at: &str) -> Result<PathBuf, BrokerStartError> {
    let mut tried = Vec::new();
    let candidates = match named() {
        Some(named) => vec![named],
        None => {
            let in_path = in_path();
            if in_path.is_empty() {
                tried.push("none in PATH".to_owned());
            }
            in_path.into_iter().chain(in_tools()).collect()
        }
    };
    for path in candidates {
        match version(&path) {
            Some(found) if found >= OLDEST => return Ok(path),
            Some((major, minor)) => tried.push(format!("{} is {major}.{minor}", path.display())),
            None if path.exists() => tried.push(format!("{} does not tell its version", path.display())),
            None => tried.push(format!("{} does not exist", path.display())),
        }
    }
    Err(BrokerStartError::NotFound { tried, at: at.to_owned() })
}

fn named() -> Option<PathBuf> {
    env::var_os("NATSHOOK_NATS_SERVER").filter(|named| !named.is_empty()).map(PathBuf::from)
}

fn program() -> String {
    format!("nats-server{}", env::consts::EXE_SUFFIX)
}

fn in_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program())).filter(|found| found.is_file()).collect()
}

fn in_tools() -> Vec<PathBuf> {
    let mut found = vec![Path::new("target/tools").join(program())];
    // The same folder, when natshook is not called from the repository's root: target/debug/natshook.
    if let Some(target) = env::current_exe().ok().as_deref().and_then(Path::parent).and_then(Path::parent) {
        found.push(target.join("tools").join(program()));
    }
    found
}

/// Major and minor version of a nats-server, which says `nats-server: v2.12.8`.
fn version(path: &Path) -> Option<(u64, u64)> {
    let output = Blocking::new(path).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.trim().rsplit([' ', 'v']).next()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Server {
    async fn start(path: PathBuf, port: u16, store: &Path, quit: &Quit) -> Result<Self, BrokerStartError> {
        let failed = |cause| BrokerStartError::Spawn { server: path.clone(), cause };
        fs::create_dir_all(store).map_err(failed)?;
        let log = store.join("nats-server.log");
        let mut command = Command::new(&path);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream"]);
        command.arg("--store_dir").arg(store).arg("--log").arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        // Ctrl-C goes to all processes of a group at once; the server has to outlive the drain.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(failed)?;
        if let Some(pid) = child.id() {
            // There is one server only, so that it cannot be set already.
            let _ = quit.0.set((path.clone(), pid));
        }
        let mut server = Self { path, child };
        if server.answers(port).await {
            return Ok(server);
        }
        let end = last_lines(&log, 5);
        Err(BrokerStartError::Silent { server: server.path, at: format!("127.0.0.1:{port}"), log, end })
    }

    async fn answers(&mut self, port: u16) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            if matches!(listener("127.0.0.1", port).await, Listener::Broker { .. }) {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// What was started.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the server, gently first.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            // The kill below makes up for it.
            let _ = signal_quit(&self.path, pid).status();
        }
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            tracing::warn!("nats-server did not end; killing it");
            if let Err(error) = self.child.kill().await {
                tracing::error!(%error, "nats-server cannot be killed");
            }
        }
    }
}

fn last_lines(log: &Path, count: usize) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        assert_eq!(parse_version("nats-server: v2.12.8\n"), Some((2, 12)));
        assert_eq!(parse_version("nats-server: v2.9.25"), Some((2, 9)));
        assert_eq!(parse_version("nats-server: v2.15.0-RC.1"), Some((2, 15)));
        assert_eq!(parse_version("bash: nats-server"), None);
        assert!((2, 9) < OLDEST && (2, 10) >= OLDEST && (3, 0) >= OLDEST);
    }
}
