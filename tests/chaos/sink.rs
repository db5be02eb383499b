//! The receivers of the campaign: they check each request, write it into the ledger, and answer as the message's payload
//! and their own mood say. They keep no request.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::ledger::{Fate, Key, Ledger, Numbered};
use crate::support::free_port;
use crate::support::http::{Parsed, read_message};

/// What every target signs with.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How a receiver behaves at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As the messages say.
    #[default]
    Well,
    /// This status for everything.
    Answers(u16),
    /// As the messages say, but so late.
    Late(Duration),
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    moods: Vec<Mood>,
    /// What was answered 500 once. A second time would be another fault: when a broker hands out anew what failed, it is
    /// all that there is, and ten in a row would open the breaker.
    failed: HashSet<Key>,
    /// After so many more requests, one is read and never answered, and the test is told.
    hold: Option<(usize, oneshot::Sender<()>)>,
}

/// One listener for all targets of a run; `/0` is the first target's path. It stops with the value.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Sink {
    /// Receivers for `targets` targets, which take up to `latency` for each answer.
    pub(crate) async fn start(targets: usize, latency: Duration) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let state = Arc::new(Mutex::new(State { moods: vec![Mood::Well; targets], ..State::default() }));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), latency));
        Self { port, state, accepting }
    }

    /// Reads or writes the ledger.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.state.lock().expect("lock").ledger)
    }

    pub(crate) fn set_mood(&self, target: usize, mood: Mood) {
        self.state.lock().expect("lock").moods[target] = mood;
    }

    /// The request that comes after `n` others is read and never answered. Resolves when it has been read.
    pub(crate) fn hold_after(&self, n: usize) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.state.lock().expect("lock").hold = Some((n, tell));
        told
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, latency: Duration) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let _ = tcp.set_nodelay(true);
            let _ = serve(tcp, &state, latency).await;
        });
    }
}

async fn serve(tcp: TcpStream, state: &Mutex<State>, latency: Duration) -> std::io::Result<()> {
    let mut stream = BufStream::new(tcp);
    while let Some(request) = read_message(&mut stream).await? {
        let Some((target, message)) = note(state, &request) else { return std::future::pending().await };
        tokio::time::sleep(latency.mul_f64(0.2 + 0.8 * fastrand::f64())).await;
        let mood = state.lock().expect("lock").moods[target];
        if let Mood::Late(by) = mood {
            tokio::time::sleep(by).await;
        }
        let status = {
            let mut state = state.lock().expect("lock");
            let key = (target, message.number);
            let status = match (mood, message.fate) {
                (Mood::Answers(status), _) => status,
                (_, Fate::Refused) => 400,
                (_, Fate::FailsOnce) if state.failed.insert(key) => 500,
                (_, Fate::Accepted | Fate::FailsOnce) => 200,
            };
            state.ledger.answered(key, status);
            status
        };
        let answer = format!("HTTP/1.1 {status} Planned\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Checks a request and writes it down; `None` when it is the one to hold, or none of ours.
fn note(state: &Mutex<State>, request: &Parsed) -> Option<(usize, Numbered)> {
    let mut state = state.lock().expect("lock");
    let target = request.first_line.split(' ').nth(1).and_then(|path| path[1..].parse::<usize>().ok());
    let (Some(target), Some(message)) = (target, Numbered::read(&request.body)) else {
        state.ledger.wrong(format!("a request that is none of ours: {}", request.first_line));
        return None;
    };
    if request.header("webhook-id") != Some(message.id()) {
        state.ledger.wrong(format!("{:?} came as {:?}", message, request.header("webhook-id")));
    }
    if !is_signed(request) {
        state.ledger.wrong(format!("the signature of {message:?} for target {target} does not verify"));
    }
    state.ledger.requested((target, message.number), attempt(request));
    match state.hold.take() {
        Some((0, tell)) => {
            let _ = tell.send(());
            return None;
        }
        Some((n, tell)) => state.hold = Some((n - 1, tell)),
        None => {}
    }
    Some((target, message))
}

fn attempt(request: &Parsed) -> u64 {
    request.header("natshook-attempt").and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Signs anew with the `standardwebhooks` crate and compares; its own check also wants the sender's clock to be right,
/// which one of the faults is about.
fn is_signed(request: &Parsed) -> bool {
    let (Some(id), Some(timestamp), Some(signature)) = (
        request.header("webhook-id"),
        request.header("webhook-timestamp").and_then(|text| text.parse().ok()),
        request.header("webhook-signature"),
    ) else {
        return false;
    };
    let webhook = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    webhook.sign(&id, timestamp, &request.body).is_ok_and(|expected| signature == expected)
}
