//! The receiver of webhooks: records every request and answers as the test scripted it, per path.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::faults::{Fault, Wire};
use super::http::{Parsed, read_message};
use super::{free_port, until};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) at: Instant,
    parsed: Parsed,
}

impl Deref for Received {
    type Target = Parsed;
    fn deref(&self) -> &Parsed {
        &self.parsed
    }
}

/// What the receiver does with one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    delay: Duration,
    gate: Option<watch::Receiver<bool>>,
    workers: Option<Arc<Semaphore>>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Http { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    Fault(Fault),
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            delay: Duration::ZERO,
            gate: None,
            workers: None,
            kind: Kind::Http { status, headers: vec![], body: vec![] },
        }
    }

    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    pub(crate) fn fault(fault: Fault) -> Self {
        Self { kind: Kind::Fault(fault), ..Self::ok() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Http { headers, .. } = &mut self.kind {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn body(mut self, text: impl Into<Vec<u8>>) -> Self {
        if let Kind::Http { body, .. } = &mut self.kind {
            *body = text.into();
        }
        self
    }

    /// Waits before it answers.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Works on so many of these at a time; others wait.
    pub(crate) fn by_workers(mut self, n: usize) -> Self {
        self.workers = Some(Arc::new(Semaphore::new(n)));
        self
    }

    /// Answers only once the gate is open.
    pub(crate) fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.0.subscribe());
        self
    }
}

/// Holds answers back until the test opens it.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

#[derive(Default)]
struct Script {
    queued: VecDeque<Answer>,
    judge: Option<Judge>,
    then: Option<Answer>,
}

/// Decides on an answer by what came.
type Judge = Box<dyn Fn(&Received) -> Answer + Send>;

impl Script {
    fn answer(&mut self, received: &Received) -> Answer {
        let queued = self.queued.pop_front();
        let judged = || self.judge.as_ref().map(|judge| judge(received));
        queued.or_else(judged).or_else(|| self.then.clone()).unwrap_or_else(Answer::ok)
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script")
            .field("queued", &self.queued)
            .field("then", &self.then)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    scripts: HashMap<String, Script>,
    in_flight: HashMap<String, usize>,
    most_in_flight: HashMap<String, usize>,
    connections: usize,
    huge_bytes: usize,
}

/// A listening receiver. It stops with the value.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_on(free_port(), None).await
    }

    pub(crate) async fn start_tls(config: Arc<tokio_rustls::rustls::ServerConfig>) -> Self {
        Self::start_on(free_port(), Some(TlsAcceptor::from(config))).await
    }

    pub(crate) async fn start_on(port: u16, tls: Option<TlsAcceptor>) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, port).into(), tls).await
    }

    /// A plain receiver on an address of the test's own network.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, None).await
    }

    async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let port = address.port();
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let state = Arc::new(Mutex::new(State::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { port, scheme, state, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// The next requests on `path` get these answers, one each; later ones get what [`Self::always`] set.
    pub(crate) fn next(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.lock().scripts.entry(path.to_owned()).or_default().queued.extend(answers);
    }

    /// The answer when no other is queued; a 200 unless set.
    pub(crate) fn always(&self, path: &str, answer: Answer) {
        self.lock().scripts.entry(path.to_owned()).or_default().then = Some(answer);
    }

    /// The answer when no other is queued, by what came.
    pub(crate) fn judge(&self, path: &str, judge: impl Fn(&Received) -> Answer + Send + 'static) {
        self.lock().scripts.entry(path.to_owned()).or_default().judge = Some(Box::new(judge));
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    pub(crate) fn at(&self, path: &str) -> Vec<Received> {
        self.lock().received.iter().filter(|r| r.path == path).cloned().collect()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.lock().received.iter().filter(|r| r.path == path).count()
    }

    /// Bodies seen on a path, as text, sorted.
    pub(crate) fn bodies(&self, path: &str) -> Vec<String> {
        let mut bodies: Vec<String> =
            self.at(path).iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
        bodies.sort();
        bodies
    }

    /// Waits until `n` requests have come to `path`, and returns what came.
    pub(crate) async fn wait_for(&self, path: &str, n: usize) -> Vec<Received> {
        self.wait_long_for(path, n, Duration::from_secs(15)).await
    }

    pub(crate) async fn wait_long_for(&self, path: &str, n: usize, within: Duration) -> Vec<Received> {
        let seen = std::cell::Cell::new(0);
        let what = format!("{n} requests on {path}");
        until(&what, within, async || {
            seen.set(self.count(path));
            seen.get() >= n
        })
        .await;
        self.at(path)
    }

    /// The most requests that were being answered at the same time.
    pub(crate) fn most_in_flight(&self, path: &str) -> usize {
        self.lock().most_in_flight.get(path).copied().unwrap_or_default()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    /// How many bytes of huge bodies were taken off our hands.
    pub(crate) fn huge_bytes(&self) -> usize {
        self.lock().huge_bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock held")
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        state.lock().expect("lock").connections += 1;
        connections.spawn(async move {
            let _ = tcp.set_nodelay(true);
            match tls {
                None => serve(tcp, &state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        serve(stream, &state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl Wire, state: &Mutex<State>) {
    let mut stream = BufStream::new(stream);
    while let Ok(Some(parsed)) = read_message(&mut stream).await {
        let mut words = parsed.first_line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let answer = {
            let mut state = state.lock().expect("lock");
            let received = Received { method, path: path.clone(), at: Instant::now(), parsed };
            state.received.push(received.clone());
            let now = state.in_flight.entry(path.clone()).or_default();
            *now += 1;
            let now = *now;
            let most = state.most_in_flight.entry(path.clone()).or_default();
            *most = now.max(*most);
            let script = state.scripts.entry(path.clone()).or_default();
            script.answer(&received)
        };
        let goes_on = give(&mut stream, answer, state).await;
        *state.lock().expect("lock").in_flight.entry(path).or_default() -= 1;
        if !matches!(goes_on, Ok(true)) {
            return;
        }
    }
}

/// Sends the answer; `true` when the connection can be used again.
async fn give(
    stream: &mut BufStream<impl Wire>,
    answer: Answer,
    state: &Mutex<State>,
) -> std::io::Result<bool> {
    let _worker = match &answer.workers {
        Some(workers) => Some(workers.acquire().await.expect("never closed")),
        None => None,
    };
    tokio::time::sleep(answer.delay).await;
    if let Some(mut gate) = answer.gate {
        let _ = gate.wait_for(|open| *open).await;
    }
    match answer.kind {
        Kind::Fault(fault) => {
            let taken = |bytes| state.lock().expect("lock").huge_bytes += bytes;
            fault.commit(stream, taken).await.map(|()| false)
        }
        Kind::Http { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            if status != 204 && status != 304 {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.flush().await?;
            Ok(true)
        }
    }
}
