//! Just enough HTTP/2 (RFC 9113), frame by frame and by hand, so that a test can break every rule of it. Header
//! blocks are not decoded: a request is known by its stream, and an answer is the static table's `:status: 200`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113, 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;

/// Settings (RFC 9113, 6.5.2).
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// The block `:status: 200` (RFC 7541, appendix A, index 8).
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// One frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The server's side of one connection.
#[derive(Debug)]
pub(crate) struct H2<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> H2<S> {
    /// Reads the client's preface and sends `settings`.
    pub(crate) async fn open(mut stream: S, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut own = Self(stream);
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        own.send(SETTINGS, 0, 0, &settings).await?;
        Ok(own)
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("fits");
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await?;
        self.0.flush().await
    }

    /// The next frame; settings and pings are confirmed on the way.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[]).await?,
                (PING, 0) => self.send(PING, ACK, 0, &frame.payload).await?,
                (SETTINGS | PING, _) => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Waits for the end of the next request; its stream.
    pub(crate) async fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.frame().await?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Ok(frame.stream);
            }
        }
    }

    /// A 200 without a body.
    pub(crate) async fn ok(&mut self, stream: u32) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200).await
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await
    }

    /// Streams above `last` have not been processed, and will not be.
    pub(crate) async fn go_away(&mut self, last: u32, code: u32) -> io::Result<()> {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await
    }

    pub(crate) fn into_inner(self) -> S {
        self.0
    }
}
