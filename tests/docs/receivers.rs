//! The programs of docs/verify/ as they are shown, each as a process that waits for webhooks.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    root,
    tools::{python_libraries, tool},
};

/// The receivers that docs/receiving.md shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Language {
    Python,
    PythonLibrary,
    Node,
    Go,
    Rust,
}

/// The Rust receiver, which is built into this binary.
mod rust_server {
    include!("../../docs/verify/server.rs");

    /// Run in a process of its own, see [`super::Language::command`].
    #[test]
    #[ignore = "a server, for other tests"]
    fn runs() {
        main().unwrap();
    }
}

impl Language {
    /// What starts it in `folder`; `None` where a tool is missing.
    fn command(self, folder: &Path) -> Option<Command> {
        let verify = root().join("docs/verify");
        match self {
            Self::Python => {
                let mut command = Command::new(tool("python3")?);
                command.arg(verify.join("server.py")).env("PYTHONDONTWRITEBYTECODE", "1");
                Some(command)
            }
            // verify_with_library.py in the place of verify.py.
            Self::PythonLibrary => {
                let libraries = python_libraries()?;
                fs::copy(verify.join("verify_with_library.py"), folder.join("verify.py")).unwrap();
                fs::copy(verify.join("server.py"), folder.join("server.py")).unwrap();
                let mut command = Command::new(tool("python3")?);
                command.arg("server.py").env("PYTHONPATH", libraries);
                Some(command)
            }
            Self::Node => {
                let mut command = Command::new(tool("node")?);
                command.arg(verify.join("server.mjs"));
                Some(command)
            }
            Self::Go => Some(Command::new(go_server(&verify)?)),
            Self::Rust => {
                let mut command = Command::new(env::current_exe().unwrap());
                command.args(["--exact", "receivers::rust_server::runs", "--ignored", "--nocapture"]);
                Some(command)
            }
        }
    }
}

/// What `go run server.go verify.go` builds, built once.
fn go_server(verify: &Path) -> Option<PathBuf> {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let go = tool("go")?;
    let folder = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(go);
        command.args(["build", "-o"]).arg(folder.path().join("server")).args(["server.go", "verify.go"]);
        // Nothing of the machine's own settings, and nothing from elsewhere.
        command.current_dir(verify).env("GOCACHE", folder.path().join("cache")).env("GOPROXY", "off");
        assert!(command.status().unwrap().success(), "go builds docs/verify");
        folder
    });
    Some(folder.path().join("server"))
}

/// One of them, running.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Started with these keys, and ready; `None` where a tool is missing.
    pub(crate) fn start(language: Language, keys: &str) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), language, keys)
    }

    /// Killed, and started again where it was.
    pub(crate) fn restart(mut self, language: Language, keys: &str) -> Option<Self> {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        Self::start_in(folder, language, keys)
    }

    fn start_in(folder: TempDir, language: Language, keys: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = language.command(folder.path())?;
        let output = fs::File::options().create(true).append(true).open(folder.path().join("out")).unwrap();
        let child = command
            .current_dir(folder.path())
            .env("PORT", port.to_string())
            .env("WEBHOOK_SECRETS", keys)
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .unwrap();
        let mut server = Self { port, folder, child };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{language:?} ended: {ended:?}\n{}", server.output());
            assert!(started.elapsed() < Duration::from_secs(30), "{language:?} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    /// What it has printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// The answer to a request: status and body.
    pub(crate) fn post(&self, request: &Received) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".to_owned();
        for (name, value) in request.headers.iter().filter(|(name, _)| name.starts_with("webhook-")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", request.body.len()));
        stream.write_all(&[head.as_bytes(), &request.body].concat()).unwrap();
        let mut answer = Vec::new();
        // A receiver that will not read all may reset the connection behind its answer.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), body.to_owned())
    }
}

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// Takes one request, and answers 204.
pub(crate) fn receive(listener: &TcpListener) -> Received {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut headers = HashMap::new();
    for line in reader.by_ref().lines().skip(1) {
        let line = line.unwrap();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    Received { headers, body }
}
