//! The webhook at the other end: HTTP/1.1 with keep-alive on one thread, answers 200 at once, and
//! notes which message came and how long it was under way. `/K/N` is the Kth of N targets: the same
//! message at each of them counts apart. `/sick/…` is a target that is never well. `GET /stats?skip=N`
//! reports (see `Seen`), leaving the first N out of the latencies. Prints its address, then serves for ever.
//! `receiver HOSTS` also listens on that many further loopback addresses (see `host`), so that each target can have
//! connections of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use natshook_load::{Seen, host, payload};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Journal {
    /// Publish to answer in microseconds by message number; `None` until it came.
    latencies: Vec<Option<u32>>,
    received: u64,
    distinct: u64,
    first: Option<Instant>,
    newest: Option<Instant>,
}

impl Journal {
    fn note(&mut self, body: &[u8], (target, targets): (u64, u64)) {
        let Some((number, published)) = payload::read(body) else {
            return;
        };
        let number = number * targets + target;
        let now = Instant::now();
        self.received += 1;
        self.first.get_or_insert(now);

        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if index >= self.latencies.len() {
            self.latencies.resize((index + 1).next_power_of_two(), None);
        }
        if self.latencies[index].is_none() {
            let micros = payload::now_ns().saturating_sub(published) / 1_000;
            self.latencies[index] = Some(u32::try_from(micros).unwrap_or(u32::MAX));
            self.distinct += 1;
            self.newest = Some(now);
        }
    }

    fn seen(&self, skip: usize) -> Seen {
        // Sorting a million latencies would show up in the measurement: only asked for with skip.
        let mut counted: Vec<u32> = match skip {
            0 => Vec::new(),
            _ => self.latencies.iter().skip(skip).copied().flatten().collect(),
        };
        counted.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (counted.len() * percent).div_ceil(100).saturating_sub(1);
            counted.get(rank).copied().map_or(0, u64::from)
        };
        let span = match (self.first, self.newest) {
            (Some(first), Some(newest)) => newest - first,
            _ => Default::default(),
        };
        Seen {
            received: self.received,
            distinct: self.distinct,
            span_ns: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
            p50_us: percentile(50),
            p99_us: percentile(99),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let hosts: usize = std::env::args().nth(1).map_or(Ok(0), |hosts| hosts.parse())?;

    let journal = Rc::new(RefCell::new(Journal::default()));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for number in 0..hosts {
                let listener = TcpListener::bind((host(number), address.port())).await?;
                tokio::task::spawn_local(listen(listener, journal.clone()));
            }
            println!("{address}");
            listen(listener, journal).await
        })
        .await
}

async fn listen(listener: TcpListener, journal: Rc<RefCell<Journal>>) -> anyhow::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        tokio::task::spawn_local(serve(connection, journal.clone()));
    }
}

async fn serve(connection: TcpStream, journal: Rc<RefCell<Journal>>) {
    let service = service_fn(|request| answer(request, journal.clone()));
    // A connection that breaks is the client's business: it counts what it could not deliver.
    let _ =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

async fn answer(
    request: Request<Incoming>,
    journal: Rc<RefCell<Journal>>,
) -> Result<Response<Full<Bytes>>, Sick> {
    if request.method() == Method::GET {
        let query = request.uri().query().unwrap_or_default();
        let skip = query.strip_prefix("skip=").and_then(|n| n.parse().ok());
        let seen = journal.borrow().seen(skip.unwrap_or(0));
        return Ok(Response::new(Full::from(serde_json::to_vec(&seen).unwrap_or_default())));
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await;
    if let Some(sickness) = path.strip_prefix("/sick/") {
        return be_sick(sickness).await;
    }
    if let Ok(body) = body {
        journal.borrow_mut().note(&body.to_bytes(), place(&path));
    }
    Ok(Response::new(Full::default()))
}

/// Which of how many targets `/K/N` is; any other path is the only one.
fn place(path: &str) -> (u64, u64) {
    let numbers = path.trim_start_matches('/').split_once('/');
    let place = numbers.and_then(|(target, targets)| Some((target.parse().ok()?, targets.parse().ok()?)));
    place.unwrap_or((0, 1))
}

async fn be_sick(sickness: &str) -> Result<Response<Full<Bytes>>, Sick> {
    let mut response = Response::new(Full::default());
    match sickness {
        "429" => *response.status_mut() = StatusCode::TOO_MANY_REQUESTS,
        "500" => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        "slow" => tokio::time::sleep(Duration::from_secs(5)).await,
        "close" => return Err(Sick),
        _ => std::future::pending().await,
    }
    Ok(response)
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct Sick;

impl std::fmt::Display for Sick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a sick target ends the connection")
    }
}

impl std::error::Error for Sick {}
