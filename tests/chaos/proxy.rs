//! A TCP proxy that does to a connection what networks do: delays and thins it, cuts it, resets it, or leaves it standing
//! with nobody behind it. What it does can be changed at any time. With a filter it knows the frames of NATS and can
//! lose or delay single ones.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::frames::{Filter, Frames, Verdict};
use crate::support::free_port;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Passes,
    /// Every byte comes late, and no more than so many in a second.
    Slow {
        latency: Duration,
        bytes_per_second: u32,
    },
    /// Ended in order, with a FIN; new ones as soon as they are made.
    Cut,
    /// Ended by an RST; new ones as soon as they are made.
    Reset,
    /// They stay, and nothing that is sent arrives any more. A connection that once was half open stays so.
    HalfOpen,
}

impl Link {
    fn ends_connections(self) -> bool {
        matches!(self, Self::Cut | Self::Reset | Self::HalfOpen)
    }
}

/// Which way a filter looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A listening proxy. It stops with the value.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    link: watch::Sender<Link>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What each connection is carried with.
#[derive(Clone)]
struct Rules {
    to: u16,
    link: watch::Receiver<Link>,
    filter: Option<(Way, Filter)>,
}

impl Proxy {
    /// A way to the port `to` of this machine.
    pub(crate) async fn start(to: u16) -> Self {
        Self::listen(free_port(), to, None).await
    }

    /// The same, where nobody has listened so far.
    pub(crate) async fn start_on(port: u16, to: u16) -> Self {
        Self::listen(port, to, None).await
    }

    /// A way to a nats-server on which single frames can be lost or delayed.
    pub(crate) async fn filtering(to: u16, way: Way, filter: Filter) -> Self {
        Self::listen(free_port(), to, Some((way, filter))).await
    }

    async fn listen(port: u16, to: u16, filter: Option<(Way, Filter)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let link = watch::Sender::new(Link::Passes);
        let rules = Rules { to, link: link.subscribe(), filter };
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(client, rules.clone()));
            }
        });
        Self { port, link, accepting }
    }

    /// From now on, for connections that stand as well.
    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn carry(client: TcpStream, mut rules: Rules) {
    let now = *rules.link.borrow_and_update();
    if now.ends_connections() {
        let (read, write) = client.into_split();
        return end(now, vec![read], vec![write]).await;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", rules.to)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client_reads, client_writes) = client.into_split();
    let (mut server_reads, server_writes) = server.into_split();
    let filter =
        |way| rules.filter.as_ref().filter(|(looks, _)| *looks == way).map(|(_, filter)| filter.clone());
    let (up, up_queue) = mpsc::unbounded_channel();
    let (down, down_queue) = mpsc::unbounded_channel();
    let (mut client_writes, mut server_writes) = (client_writes, server_writes);
    let mut link = rules.link.clone();
    let ended_as = tokio::select! {
        ended = link.wait_for(|link| link.ends_connections()) => match ended {
            Ok(link) => *link,
            Err(_) => return,
        },
        () = read(&mut client_reads, up, rules.link.clone(), filter(Way::Up)) => Link::Cut,
        () = read(&mut server_reads, down, rules.link.clone(), filter(Way::Down)) => Link::Cut,
        () = write(&mut server_writes, up_queue) => Link::Cut,
        () = write(&mut client_writes, down_queue) => Link::Cut,
    };
    end(ended_as, vec![client_reads, server_reads], vec![client_writes, server_writes]).await;
}

type Late = (Instant, Vec<u8>);

/// Reads to the end of the connection and hands on what came, with the time at which it may arrive.
async fn read(
    from: &mut OwnedReadHalf,
    to: mpsc::UnboundedSender<Late>,
    link: watch::Receiver<Link>,
    filter: Option<Filter>,
) {
    let mut buffer = vec![0; 4096];
    let mut frames = Frames::default();
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let mut due = Instant::now();
        let now = *link.borrow();
        if let Link::Slow { latency, bytes_per_second } = now {
            sleep(Duration::from_secs(1) * n as u32 / bytes_per_second).await;
            due = Instant::now() + latency;
        }
        match &filter {
            None => drop(to.send((due, buffer[..n].to_vec()))),
            Some(filter) => {
                for frame in frames.push(&buffer[..n]) {
                    match filter(&frame) {
                        Verdict::Pass => drop(to.send((due, frame.bytes))),
                        Verdict::Lose => {}
                        Verdict::Hold(wait) => {
                            let to = to.clone();
                            tokio::spawn(async move {
                                sleep(wait).await;
                                let _ = to.send((Instant::now(), frame.bytes));
                            });
                        }
                    }
                }
            }
        }
    }
    // What is still under way arrives before the end does: the writer ends when it has no more to come.
    drop(to);
    std::future::pending().await
}

async fn write(to: &mut OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Late>) {
    while let Some((due, bytes)) = queue.recv().await {
        sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn end(link: Link, mut reads: Vec<OwnedReadHalf>, mut writes: Vec<OwnedWriteHalf>) {
    match link {
        Link::Reset => {
            for half in &writes {
                let _ = half.as_ref().set_zero_linger();
            }
        }
        Link::Passes | Link::Slow { .. } | Link::Cut => {
            for half in &mut writes {
                let _ = half.shutdown().await;
            }
            // To close with bytes unread would send an RST.
            let drained = futures_util::future::join_all(reads.iter_mut().map(swallow));
            let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
        }
        Link::HalfOpen => {
            futures_util::future::join_all(reads.iter_mut().map(swallow)).await;
            // The other side gave up; this one is not told.
            std::future::pending().await
        }
    }
}

async fn swallow(half: &mut OwnedReadHalf) {
    let mut buffer = [0; 4096];
    while matches!(half.read(&mut buffer).await, Ok(1..)) {}
}
