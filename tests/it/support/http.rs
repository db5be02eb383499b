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
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut stream = tokio::io::BufReader::new(stream);
    let answer = read_message(&mut stream).await.ok()??;
    let status = answer.first_line.split(' ').nth(1)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// Reads and forgets until the other side closes.
pub(crate) async fn read_to_close<R: AsyncRead + Unpin>(stream: &mut R) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {}
}
