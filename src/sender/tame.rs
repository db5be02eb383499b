//! A connection that cannot keep the others waiting. All targets share one thread, and an HTTP parser goes on reading
//! as long as bytes come: a receiver that sends without end (interim answers, pings, headers) would hold the thread.
//! So reading pauses in turn, and ends where nobody could have asked for so much.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most bytes that are read before everybody else has had a turn: some 0.1 ms of parsing.
const TURN_MAX: usize = 64 * 1024;
/// The most bytes that may come without our having written any. Of a body 64 KiB are read, and headers are bounded as
/// well, so that an honest answer needs far less; over HTTP/2 the windows, which we write, bound it.
const UNASKED_MAX: usize = 4 * 1024 * 1024;

/// A TCP connection whose reading is bounded.
#[derive(Debug)]
pub(super) struct Tame {
    stream: TcpStream,
    this_turn: usize,
    unasked: usize,
}

impl Tame {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, this_turn: 0, unasked: 0 }
    }

    fn note_written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.unasked = 0;
        }
        written
    }
}

impl AsyncRead for Tame {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unasked > UNASKED_MAX {
            let text = format!("the receiver sent more than {UNASKED_MAX} bytes that nobody asked for");
            return Poll::Ready(Err(io::Error::other(text)));
        }
        if self.this_turn >= TURN_MAX {
            self.this_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match &read {
            Poll::Pending => self.this_turn = 0,
            Poll::Ready(Ok(())) => {
                let bytes = buffer.filled().len() - before;
                self.this_turn += bytes;
                self.unasked += bytes;
            }
            Poll::Ready(Err(_)) => {}
        }
        read
    }
}

impl AsyncWrite for Tame {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connection for Tame {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{cell::Cell, io::Write, net::TcpListener, rc::Rc};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::{LocalSet, yield_now},
    };

    /// Our end of a connection whose other end sends without end.
    async fn flooded() -> Tame {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut theirs, _) = listener.accept().unwrap();
            let chunk = vec![b'x'; 1 << 20];
            while theirs.write_all(&chunk).is_ok() {}
        });
        Tame::new(TcpStream::connect(address).await.unwrap())
    }

    /// Reads until it fails or `limit` bytes have come; how many came, and the error.
    async fn read(stream: &mut Tame, limit: usize) -> (usize, Option<io::Error>) {
        let (mut buffer, mut total) = (vec![0; 16 * 1024], 0);
        while total < limit {
            match stream.read(&mut buffer).await {
                Ok(bytes) => total += bytes,
                Err(error) => return (total, Some(error)),
            }
        }
        (total, None)
    }

    #[tokio::test]
    async fn while_a_flood_is_read_others_have_their_turns() {
        let turns = Rc::new(Cell::new(0));
        let local = LocalSet::new();
        local.spawn_local({
            let turns = Rc::clone(&turns);
            async move {
                loop {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        });
        let (bytes, _) = local.run_until(async { read(&mut flooded().await, 1 << 20).await }).await;
        // A turn each 64 KiB, where tokio's own budget would allow one each 2 MiB.
        assert!(turns.get() >= bytes / TURN_MAX, "{} turns in {bytes} bytes", turns.get());
    }

    #[tokio::test]
    async fn a_flood_ends_where_nobody_asked_for_so_much_and_writing_asks_again() {
        let mut stream = flooded().await;
        let most = UNASKED_MAX / 2;
        assert_eq!(read(&mut stream, most).await.1.map(|e| e.to_string()), None);
        stream.write_all(b"more, please").await.unwrap();
        assert_eq!(read(&mut stream, most + TURN_MAX).await.1.map(|e| e.to_string()), None);
        let (bytes, error) = read(&mut stream, usize::MAX).await;
        assert!(bytes < UNASKED_MAX, "{bytes} more");
        assert!(error.unwrap().to_string().contains("nobody asked for"));
    }
}
