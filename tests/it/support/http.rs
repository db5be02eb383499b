//! Just enough HTTP/1.1, written by hand so that a test sees the bytes as they were sent and can
//! answer with bytes no HTTP library would send.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What stood in a request or an answer: its first line, its headers in order, its body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parsed {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Parsed {
    /// The status of an answer; 0 if its first line has none.
    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The value of a header that must stand there exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let all = self.header_all(name);
        assert!(all.len() <= 1, "{name} stands there {} times: {all:?}", all.len());
        all.into_iter().next()
    }

    /// Every value of a header, in order.
    pub(crate) fn header_all(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// Reads one message; `None` when the other side closed before its first byte.
pub(crate) async fn read_message<R: AsyncBufRead + Unpin>(stream: &mut R) -> io::Result<Option<Parsed>> {
    let mut parsed = Parsed::default();
    let Some(first) = read_line(stream).await? else { return Ok(None) };
    parsed.first_line = String::from_utf8_lossy(&first).into_owned();
    while let Some(line) = read_line(stream).await?.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&b| b == b':').ok_or(io::ErrorKind::InvalidData)?;
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        parsed.headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    if let Some(length) = parsed.header("content-length") {
        parsed.body = vec![0; length.parse().map_err(|_| io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut parsed.body).await?;
    } else if parsed.header("transfer-encoding").is_some() {
        parsed.body = read_chunks(stream).await?;
    }
    Ok(Some(parsed))
}

async fn read_line<R: AsyncBufRead + Unpin>(stream: &mut R) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if stream.take(64 * 1024).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(Some(line.to_vec())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn read_chunks<R: AsyncBufRead + Unpin>(stream: &mut R) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = std::str::from_utf8(&size).map_err(|_| io::ErrorKind::InvalidData)?;
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        read_line(stream).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// `GET http://127.0.0.1:port/path`: status and body, or `None` when nobody answers.
pub(crate) async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let answer = request(port, "GET", path, &[], b"").await?;
    // What has no status is no answer.
    let status = Some(answer.status()).filter(|status| *status > 0)?;
    Some((status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// Any request to `127.0.0.1:port`, or `None` when nobody answers. A `Host` among `headers` is sent instead of the right
/// one.
pub(crate) async fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Parsed> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    read_message(&mut tokio::io::BufReader::new(stream)).await.ok()?
}

/// Reads and forgets until the other side closes.
pub(crate) async fn read_to_close<R: AsyncRead + Unpin>(stream: &mut R) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {}
}
