//! Lets the client of testcontainers speak with an engine older than itself. The client names the version of the API
//! that it was written for in every request and cannot be told another; an older engine refuses the number, although it
//! understands all that these tests ask. Between the two, this puts the engine's own number in its place.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::OnceLock,
    thread,
};

use testcontainers::bollard::API_DEFAULT_VERSION;

/// Where the stand-between listens; kept for the life of the process.
static SOCKET: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();

/// Sees to it that clients of this process reach the engine at `socket`, whatever its version.
pub(crate) fn stand_between(socket: &'static str) {
    let between = SOCKET.get_or_init(|| {
        let asked = API_DEFAULT_VERSION.to_string();
        let spoken = spoken(socket)?;
        if number(&spoken) >= number(&asked) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket in it");
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (asked, spoken) = (format!("/v{asked}/"), format!("/v{spoken}/"));
                thread::spawn(move || pass(client, socket, asked.as_bytes(), spoken.as_bytes()));
            }
        });
        Some((folder, path))
    });
    if let Some((_, path)) = between {
        std::env::set_var("DOCKER_HOST", format!("unix://{}", path.display()));
    }
}

/// The newest version that the engine understands, as it says itself.
fn spoken(socket: &str) -> Option<String> {
    let mut engine = UnixStream::connect(socket).ok()?;
    engine.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    engine.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find_map(|line| line.strip_prefix("Api-Version: "))?;
    Some(line.trim().to_owned())
}

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn pass(mut client: UnixStream, socket: &str, asked: &[u8], spoken: &[u8]) {
    assert_eq!(asked.len(), spoken.len(), "so that no length in a request changes");
    let Ok(mut engine) = UnixStream::connect(socket) else { return };
    let (mut answers, mut back) =
        (engine.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        // The head of a request comes in one piece, and its path stands at its beginning.
        let head = &mut buffer[..read.min(32)];
        if let Some(at) = head.windows(asked.len()).position(|window| window == asked) {
            buffer[at..at + spoken.len()].copy_from_slice(spoken);
        }
        if engine.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = engine.shutdown(std::net::Shutdown::Write);
}
