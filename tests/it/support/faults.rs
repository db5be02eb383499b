//! Answers that no honest receiver gives, byte by byte. Each begins once the request has been read to its end;
//! what goes wrong before that is for `peer`.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::http::read_to_close;

/// What an honest receiver never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection stays open, and nothing is ever sent.
    NeverAnswer,
    /// The connection is closed after the request was read.
    CloseBeforeAnswer,
    /// The same with a reset (RST) instead of an orderly end.
    ResetBeforeAnswer,
    /// Only the sending half is closed; what natshook sends is still read.
    HalfCloseBeforeAnswer,
    /// Closed within the status line and headers of a 200.
    CloseMidHeaders,
    /// A 200 that promises 1,000 bytes and closes after ten.
    CloseMidBody,
    /// The same with a reset.
    ResetMidBody,
    /// A whole 200 that promises to keep the connection, which is closed all the same.
    CloseAfterAnswer,
    /// A 200 without a length, whose end is that of the sending half.
    HalfCloseAsEnd,
    /// The receiving half is closed before a 200 is sent.
    HalfCloseReading,
    /// A 200 as HTTP/1.0 gave them: its body ends with the connection.
    Http10,
    /// A 200 whose headers never end.
    EndlessHeaders,
    /// A 200 with one header that never ends.
    EndlessHeader,
    /// 103 after 103, for ever.
    EndlessInterim,
    /// A 200 with a body of 256 MiB.
    HugeBody,
    /// A 200 in a chunk that calls itself larger than memory.
    HugeChunk,
    /// A 422 with a gzip body: 2 MiB that hold 317 MiB.
    GzipBomb,
    /// The status line of a 200, one byte every 200 ms.
    SlowHeaders,
    /// A 200 at once, whose body then drips for ever.
    SlowBody,
    /// What is sent is not HTTP.
    Garbage,
    /// A 200 with two lengths that differ.
    TwoLengths,
    /// A 103 before the real answer, a 422.
    EarlyHints,
}

/// A connection whose TCP side can be reached, TLS or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

impl Fault {
    /// Sends the answer; `taken` hears of every piece of a body without end that was taken off our hands.
    pub(crate) async fn commit(
        self,
        stream: &mut BufStream<impl Wire>,
        taken: impl FnMut(usize),
    ) -> io::Result<()> {
        match self {
            Self::NeverAnswer => read_to_close(stream).await,
            Self::CloseBeforeAnswer => {}
            Self::ResetBeforeAnswer => stream.get_ref().tcp().set_zero_linger()?,
            Self::HalfCloseBeforeAnswer => {
                shut_down(stream.get_ref().tcp(), Shutdown::Write)?;
                read_to_close(stream).await;
            }
            Self::CloseMidHeaders => send(stream, &[OK, b"content-le"]).await?,
            Self::CloseMidBody => send(stream, &[OK, b"content-length: 1000\r\n\r\n0123456789"]).await?,
            Self::ResetMidBody => {
                send(stream, &[OK, b"content-length: 1000\r\n\r\n0123456789"]).await?;
                // The reset must not overtake what was sent.
                tokio::time::sleep(Duration::from_millis(100)).await;
                stream.get_ref().tcp().set_zero_linger()?;
            }
            Self::CloseAfterAnswer => {
                send(stream, &[OK, b"connection: keep-alive\r\ncontent-length: 2\r\n\r\nok"]).await?;
            }
            Self::HalfCloseAsEnd => {
                send(stream, &[OK, b"\r\nok"]).await?;
                shut_down(stream.get_ref().tcp(), Shutdown::Write)?;
                read_to_close(stream).await;
            }
            Self::HalfCloseReading => {
                shut_down(stream.get_ref().tcp(), Shutdown::Read)?;
                send(stream, &[OK, b"content-length: 2\r\n\r\nok"]).await?;
            }
            Self::Http10 => send(stream, &[b"HTTP/1.0 200 OK\r\n\r\nok"]).await?,
            Self::TwoLengths => {
                send(stream, &[OK, b"content-length: 1\r\ncontent-length: 2\r\n\r\nok"]).await?;
                read_to_close(stream).await;
            }
            Self::Garbage => send(stream, &[b"\x00\xff\xfe lorem ipsum\r\n\r\n"]).await?,
            Self::EarlyHints => {
                send(stream, &[b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"]).await?;
                send(stream, &[b"HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n"]).await?;
            }
            Self::HugeChunk => {
                send(stream, &[OK, b"transfer-encoding: chunked\r\n\r\nfffffffffffffff\r\nxxxx"]).await?;
                read_to_close(stream).await;
            }
            Self::GzipBomb => {
                let head = b"HTTP/1.1 422 No\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
                send(stream, &[head, &gzip_bomb()]).await?;
            }
            Self::EndlessHeaders | Self::EndlessHeader | Self::EndlessInterim | Self::HugeBody => {
                self.flood(stream, taken).await?;
            }
            Self::SlowBody | Self::SlowHeaders => self.drip(stream).await?,
        }
        stream.flush().await
    }

    /// As fast as it is taken.
    async fn flood(self, stream: &mut BufStream<impl Wire>, mut taken: impl FnMut(usize)) -> io::Result<()> {
        let (head, again): (&[u8], &[u8]) = match self {
            Self::EndlessHeader => (b"HTTP/1.1 200 OK\r\nx-again: ", b"and again "),
            Self::EndlessInterim => (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n"),
            Self::HugeBody => (b"HTTP/1.1 200 OK\r\ncontent-length: 268435456\r\n\r\n", b"x"),
            _ => (OK, b"x-again: and again and again and again\r\n"),
        };
        let piece = again.repeat(64 * 1024 / again.len());
        stream.write_all(head).await?;
        let mut sent = 0;
        while self != Self::HugeBody || sent < 256 * 1024 * 1024 {
            stream.write_all(&piece).await?;
            sent += piece.len();
            taken(piece.len());
            if self == Self::EndlessInterim {
                // Nothing ends this but the timeout, so it comes at the speed of a line (50 Mbit/s) and not of
                // this machine's memory, for which an unoptimised build is no match.
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// One byte every 200 ms.
    async fn drip(self, stream: &mut BufStream<impl Wire>) -> io::Result<()> {
        let mut left: &[u8] = b"HTTP/1.1 200 OK\r\nx-slow: a header that takes its time\r\n\r\n";
        if self == Self::SlowBody {
            send(stream, &[OK, b"content-length: 1000000\r\n\r\n"]).await?;
            left = &[b'x'; 1_000];
        }
        for byte in left {
            send(stream, &[&[*byte]]).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

async fn send(stream: &mut BufStream<impl Wire>, parts: &[&[u8]]) -> io::Result<()> {
    stream.write_all(&parts.concat()).await?;
    stream.flush().await
}

/// One half of the connection, below TLS.
pub(crate) fn shut_down(tcp: &TcpStream, half: Shutdown) -> io::Result<()> {
    std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?).shutdown(half)
}

/// A gzip file of 2 MiB: one `x`, and the instruction to repeat it 258 times over and over (RFC 1951, 3.2.6:
/// length 285 is `11000101` and distance 1 is `00000` in the fixed code, 13 bits).
fn gzip_bomb() -> Vec<u8> {
    let mut bits = vec![1, 1, 0];
    // The literal `x` is 0x30 + 120 in eight bits, the highest first.
    bits.extend((0..8).rev().map(|bit| (0x30_u8 + b'x') >> bit & 1));
    bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0].repeat(9));
    let bytes: Vec<u8> =
        bits.chunks_exact(8).map(|byte| byte.iter().rev().fold(0, |all, bit| all << 1 | bit)).collect();
    // 13 bits again and again are the same 13 bytes again and again.
    let again = bytes[2..15].repeat(2 * 1024 * 1024 / 13);
    [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", &bytes[..2], &again].concat()
}

#[test]
fn the_gzip_bomb_is_one() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    // It has no end, so gzip complains of that, after it has written what there is.
    let mut gzip = Command::new("sh")
        .args(["-c", "gzip -dc 2>/dev/null | head -c 100000000 | wc -c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let _ = gzip.stdin.take().expect("piped").write_all(&gzip_bomb());
    let output = gzip.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100000000");
}
