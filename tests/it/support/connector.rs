//! The real binary as a child process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::{Config, http, secs, signal, until, until_some};

/// A running natshook. Its output is kept, and shown when the test fails.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) admin_port: u16,
    child: Child,
    output: Arc<Mutex<String>>,
    reading: Vec<std::thread::JoinHandle<()>>,
    dir: TempDir,
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- natshook {}\n{}", self.child.id(), self.output());
        }
    }
}

impl Connector {
    /// Starts natshook and waits until it is ready.
    pub(crate) async fn start(config: &Config) -> Self {
        Self::start_with(config, &[]).await
    }

    /// Starts natshook with these environment variables and waits until it is ready.
    pub(crate) async fn start_with(config: &Config, env: &[(&str, &str)]) -> Self {
        let mut connector = Self::spawn(config, env);
        connector.wait_until_ready().await;
        connector
    }

    /// Starts natshook and does not wait.
    pub(crate) fn spawn(config: &Config, env: &[(&str, &str)]) -> Self {
        Self::spawn_program(&binary(), config, env)
    }

    /// Starts another build of natshook and does not wait.
    pub(crate) fn spawn_program(program: &Path, config: &Config, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("natshook.toml");
        std::fs::write(&file, config.text()).expect("the configuration can be written");
        let output = Arc::new(Mutex::new(String::new()));
        let (child, reading) = run(program, dir.path(), env, &output);
        Self { admin_port: config.admin_port, child, output, reading, dir }
    }

    /// Starts the natshook that was ended once more, with its config as it is now, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.kill9();
        (self.child, self.reading) = run(&binary(), self.dir.path(), &[], &self.output);
        self.wait_until_ready().await;
    }

    /// Where its config is.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("natshook.toml")
    }

    /// Writes another config over its own, as an editor does that writes beside and renames.
    pub(crate) fn write_config(&self, text: &str) {
        let beside = self.dir.path().join("natshook.toml.new");
        std::fs::write(&beside, text).expect("the configuration can be written");
        std::fs::rename(beside, self.config_file()).expect("it can be renamed");
    }

    pub(crate) async fn wait_until_ready(&mut self) {
        let port = self.admin_port;
        until("natshook is ready", secs(20), async || {
            if let Some(status) = self.exited() {
                panic!("natshook ended before it was ready: {status}");
            }
            http::get(port, "/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The status of an admin path, once natshook answers at all.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let port = self.admin_port;
        until_some("the admin address answers", secs(10), async || http::get(port, path).await).await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// SIGTERM; natshook must end with exit code 0 within its grace period.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.wait_for_exit(secs(40)).await;
        assert_eq!(status.code(), Some(0), "after SIGTERM: {status}\n{}", self.output());
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.reading.drain(..) {
            let _ = reader.join();
        }
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    pub(crate) async fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let status = until_some("natshook ends", within, async || self.exited()).await;
        for reader in self.reading.drain(..) {
            let _ = reader.join();
        }
        status
    }

    /// All that natshook has written so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("lock").clone()
    }

    /// Waits until natshook has written a line that holds all of `words`, and returns it.
    pub(crate) async fn wait_for_line(&self, words: &[&str]) -> String {
        self.wait_long_for_line(words, secs(20)).await
    }

    pub(crate) async fn wait_long_for_line(&self, words: &[&str], within: Duration) -> String {
        let what = format!("natshook writes a line with {words:?}");
        let holds = |line: &&str| words.iter().all(|word| line.contains(word));
        until_some(&what, within, async || self.output().lines().find(holds).map(str::to_owned)).await
    }

    /// The most memory the process ever had resident, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        peak_memory_mib(self.pid()).expect("it runs")
    }
}

/// Linux tells; nothing of a process that has ended.
fn peak_memory_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib = line.split_whitespace().nth(1)?;
    Some(kib.parse::<u64>().ok()? / 1024)
}

/// Starts `natshook run` with the config in `folder`, and keeps what it writes.
fn run(
    program: &Path,
    folder: &Path,
    env: &[(&str, &str)],
    output: &Arc<Mutex<String>>,
) -> (Child, Vec<std::thread::JoinHandle<()>>) {
    let mut child = command(program)
        .args(["--log-format", "json", "run", "--config"])
        .arg(folder.join("natshook.toml"))
        .env("RUST_LOG", "natshook=debug")
        .envs(env.iter().copied())
        .current_dir(folder)
        .spawn()
        .expect("natshook starts");
    let pipes: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
    let reading = pipes.map(|pipe| keep(pipe, Arc::clone(output))).into();
    (child, reading)
}

fn keep(pipe: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            output.lock().expect("lock").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// The natshook under test: the one that cargo built along with the tests, or what `NATSHOOK_BIN` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("NATSHOOK_BIN").map_or_else(|| env!("CARGO_BIN_EXE_natshook").into(), PathBuf::from)
}

/// The binary, with nothing of the surroundings that could steer it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_ascii_uppercase();
        if name_text.starts_with("NATSHOOK")
            || name_text.starts_with("OTEL_")
            || name_text.ends_with("_PROXY")
            || name_text == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
    command
}

/// What a command that ends by itself left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Both outputs, for asserts that do not care which.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `natshook ARGS` to its end, which must come within 30 s.
pub(crate) async fn natshook(args: &[&str]) -> Finished {
    natshook_in(args, &[]).await
}

/// Like [`natshook`], with environment variables.
pub(crate) async fn natshook_in(args: &[&str], env: &[(&str, &str)]) -> Finished {
    let mut command = tokio::process::Command::from(command(&binary()));
    command.args(args).envs(env.iter().copied()).kill_on_drop(true);
    let finished = tokio::time::timeout(secs(30), command.output()).await;
    let finished = finished.unwrap_or_else(|_| panic!("natshook {args:?} does not end")).expect("it starts");
    Finished {
        code: finished.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
    }
}

/// Runs `natshook ARGS --config FILE` to its end.
pub(crate) async fn natshook_with(config: &Config, args: &[&str]) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("natshook.toml");
    std::fs::write(&file, config.text()).expect("the configuration can be written");
    let file = file.to_string_lossy();
    natshook(&[args, &["--config", &file]].concat()).await
}

/// A command that runs on its own while the test does something, with its config beside it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts `natshook ARGS --config FILE`; its stdout goes to `stdout`.
    pub(crate) fn start(config: &Config, args: &[&str], stdout: Stdio) -> Self {
        Self::spawn(config, args, stdout, Stdio::null())
    }

    /// The same for its stderr.
    pub(crate) fn start_heard(config: &Config, args: &[&str], stderr: Stdio) -> Self {
        Self::spawn(config, args, Stdio::null(), stderr)
    }

    fn spawn(config: &Config, args: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("natshook.toml");
        std::fs::write(&file, config.text()).expect("the configuration can be written");
        let mut command = command(&binary());
        command.args(args).arg("--config").arg(&file).stdout(stdout).stderr(stderr);
        Self { child: command.spawn().expect("natshook starts"), _dir: dir }
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        signal(self.child.id(), "INT");
    }

    /// SIGKILL; whether it had not ended by itself.
    pub(crate) fn kill9(&mut self) -> bool {
        let ran = self.child.try_wait().expect("our own child").is_none();
        let _ = self.child.kill();
        let _ = self.child.wait();
        ran
    }

    /// Waits for the end of the command: its exit code, and the most memory it ever had resident, in MiB.
    pub(crate) async fn finish(mut self, within: Duration) -> (i32, u64) {
        let mut peak = 0;
        let status = until_some("the command ends", within, async || {
            peak = peak.max(peak_memory_mib(self.child.id()).unwrap_or_default());
            self.child.try_wait().expect("our own child")
        })
        .await;
        (status.code().unwrap_or(-1), peak)
    }
}
