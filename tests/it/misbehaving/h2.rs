//! What a receiver can do wrong with HTTP/2: streams refused, reset or never served, connections given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{BOUND, Case, Run};
use crate::support::certs::Certs;
use crate::support::faults::Wire;
use crate::support::h2::{self, H2};
use crate::support::http::read_to_close;
use crate::support::peer::Peer;
use crate::support::{Broker, millis, secs, until};

type Connection = H2<TlsStream<TcpStream>>;
type Served = std::io::Result<()>;

/// A receiver of HTTP/2 and the number of requests that reached it.
struct Receiver {
    peer: Peer,
    requests: Arc<AtomicUsize>,
}

impl Receiver {
    /// `serve` gets each connection and its number, from 1, and the counter of requests.
    async fn start<F>(
        certs: &Certs,
        settings: &'static [(u16, u32)],
        serve: impl Fn(Connection, usize, Arc<AtomicUsize>) -> F + Send + Sync + Copy + 'static,
    ) -> Self
    where
        F: Future<Output = Served> + Send + 'static,
    {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let peer = Peer::start_tls(certs.http2_config(), move |stream, number| {
            let count = Arc::clone(&count);
            async move {
                if let Ok(connection) = H2::open(stream, settings).await {
                    let _ = serve(connection, number, count).await;
                }
            }
        })
        .await;
        Self { peer, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The next request, counted.
async fn next(connection: &mut Connection, count: &AtomicUsize) -> std::io::Result<u32> {
    let stream = connection.request().await?;
    count.fetch_add(1, Ordering::Relaxed);
    Ok(stream)
}

/// Answers every request with a 200.
async fn well(mut connection: Connection, count: &AtomicUsize) -> Served {
    loop {
        let stream = next(&mut connection, count).await?;
        connection.ok(stream).await?;
    }
}

/// Gives the first connection up before it has processed anything, and serves the second.
async fn goes_away_unprocessed(mut connection: Connection, number: usize, count: Arc<AtomicUsize>) -> Served {
    if number > 1 {
        return well(connection, &count).await;
    }
    next(&mut connection, &count).await?;
    connection.go_away(0, h2::NO_ERROR).await
}

/// Gives the connection up, and answers what it had already begun.
async fn goes_away_and_finishes(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    let stream = next(&mut connection, &count).await?;
    connection.go_away(stream, h2::NO_ERROR).await?;
    tokio::time::sleep(millis(200)).await;
    connection.ok(stream).await?;
    read_to_close(&mut connection.into_inner()).await;
    Ok(())
}

/// Gives the connection up, and ends it without an answer to what it had begun.
async fn goes_away_and_fails(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    let stream = next(&mut connection, &count).await?;
    connection.go_away(stream, h2::INTERNAL_ERROR).await
}

async fn refuses_once(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    let stream = next(&mut connection, &count).await?;
    if count.load(Ordering::Relaxed) == 1 {
        connection.reset(stream, h2::REFUSED_STREAM).await?;
    } else {
        connection.ok(stream).await?;
    }
    well(connection, &count).await
}

async fn refuses(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    loop {
        let stream = next(&mut connection, &count).await?;
        connection.reset(stream, h2::REFUSED_STREAM).await?;
    }
}

async fn fails(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    loop {
        let stream = next(&mut connection, &count).await?;
        connection.reset(stream, h2::INTERNAL_ERROR).await?;
    }
}

/// Opens the answer and resets it then.
async fn fails_after_the_headers(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    loop {
        let stream = next(&mut connection, &count).await?;
        connection.send(h2::HEADERS, h2::END_HEADERS, stream, h2::STATUS_200).await?;
        connection.reset(stream, h2::INTERNAL_ERROR).await?;
    }
}

async fn never_answers(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    loop {
        next(&mut connection, &count).await?;
    }
}

/// A header block that goes on and on (CVE-2024-27316 and its kin).
async fn never_ends_its_headers(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    let stream = next(&mut connection, &count).await?;
    // A literal header without indexing: `x: ` and 120 letters (RFC 7541, 6.2.2).
    let header = [&[0, 1, b'x', 120][..], &[b'a'; 120]].concat();
    connection.send(h2::HEADERS, 0, stream, h2::STATUS_200).await?;
    loop {
        connection.send(h2::CONTINUATION, 0, stream, &header.repeat(100)).await?;
    }
}

/// As many bytes as the windows allow, and beyond them.
async fn ignores_the_windows(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    let stream = next(&mut connection, &count).await?;
    connection.send(h2::HEADERS, h2::END_HEADERS, stream, h2::STATUS_200).await?;
    loop {
        connection.send(h2::DATA, 0, stream, &[b'x'; 16_384]).await?;
    }
}

async fn sends_pings_for_ever(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
    next(&mut connection, &count).await?;
    loop {
        connection.send(h2::PING, 0, 0, b"ping me!").await?;
    }
}

#[tokio::test]
async fn whatever_http2_allows_a_receiver_to_do_each_attempt_ends_as_it_should() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let zero_window: &[_] = &[(h2::INITIAL_WINDOW_SIZE, 0)];
    let lost: &[&str] = &["connection lost: "];
    let late: &[&str] = &["timeout: no answer within 1s"];
    macro_rules! receiver {
        ($serve:expr) => {
            receiver!($serve, &[])
        };
        ($serve:expr, $settings:expr) => {
            Receiver::start(&certs, $settings, $serve).await
        };
    }
    // What becomes of the message, and how often it was sent. Settings may cross the first request on its way.
    let table = [
        ("goaway-unprocessed", receiver!(goes_away_unprocessed), None, 2..=2),
        ("goaway-finishes", receiver!(goes_away_and_finishes), None, 1..=1),
        ("goaway-fails", receiver!(goes_away_and_fails), Some(lost), 1..=1),
        ("refuses-once", receiver!(refuses_once), None, 2..=2),
        ("refuses", receiver!(refuses), Some(&["connection lost: ", "refused"][..]), 3..=3),
        ("fails", receiver!(fails), Some(lost), 1..=1),
        ("fails-after-headers", receiver!(fails_after_the_headers), None, 1..=1),
        ("never-answers", receiver!(never_answers), Some(late), 1..=1),
        ("zero-window", receiver!(never_answers, zero_window), Some(late), 0..=1),
        ("no-streams", receiver!(never_answers, &[(h2::MAX_CONCURRENT_STREAMS, 0)]), Some(late), 0..=1),
        ("endless-headers", receiver!(never_ends_its_headers), Some(lost), 1..=1),
        ("ignores-windows", receiver!(ignores_the_windows), None, 1..=1),
        ("pings", receiver!(sends_pings_for_ever), Some(late), 1..=1),
    ];
    let cases = table.iter().map(|(name, receiver, words, _)| match words {
        Some(words) => Case::broken(*name, receiver.peer.https(), words),
        None => Case::delivered(*name, receiver.peer.https()),
    });
    let run = Run::start(broker, &certs, cases.collect()).await;

    run.judge(BOUND).await;

    for (name, receiver, _, sent) in &table {
        assert!(sent.contains(&receiver.requests()), "{name}: {} requests", receiver.requests());
    }
    run.assert_memory_bounded();
}

#[tokio::test]
async fn a_receiver_that_ends_a_connection_gracefully_between_requests_costs_no_attempt() {
    const MESSAGES: usize = 20;
    async fn one_each(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
        let stream = next(&mut connection, &count).await?;
        connection.ok(stream).await?;
        connection.go_away(stream, h2::NO_ERROR).await
    }
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start(&certs, &[], one_each).await;
    let run = Run::start(broker, &certs, vec![Case::delivered("graceful", receiver.peer.https())]).await;

    for i in 1..=MESSAGES {
        run.publish(&run.cases[0]).await;
        until("the message is delivered", secs(5), async || receiver.requests() >= i).await;
    }

    run.settle_all(secs(5)).await;
    assert_eq!(receiver.requests(), MESSAGES);
    assert_eq!(receiver.peer.connections(), MESSAGES);
    assert_eq!((run.planned_retries().await, run.dead_letters().await), (0, 0));
}

#[tokio::test]
async fn a_connection_that_breaks_with_twenty_streams_open_costs_each_one_attempt() {
    async fn breaks_at_twenty(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
        let first = next(&mut connection, &count).await?;
        connection.ok(first).await?;
        for _ in 0..20 {
            next(&mut connection, &count).await?;
        }
        connection.into_inner().tcp().set_zero_linger()
    }
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start(&certs, &[], breaks_at_twenty).await;
    let case = Case::broken("twenty", receiver.peer.https(), &["connection lost: "]);
    let run = Run::start_with(broker, &certs, vec![case], secs(10)).await;

    run.warm_up().await;
    for _ in 0..20 {
        run.publish(&run.cases[0]).await;
    }

    run.settle_all(secs(10)).await;
    assert_eq!((receiver.requests(), receiver.peer.connections()), (21, 1));
    assert_eq!(run.dead_letters().await, 20);
    run.check_all().await;
}

#[tokio::test]
async fn a_receiver_that_serves_one_stream_at_a_time_gets_one_at_a_time() {
    async fn one_at_a_time(mut connection: Connection, _: usize, count: Arc<AtomicUsize>) -> Served {
        loop {
            let stream = next(&mut connection, &count).await?;
            let early = tokio::time::timeout(millis(20), connection.frame()).await;
            assert!(early.is_err(), "another stream was opened: {early:?}");
            connection.ok(stream).await?;
        }
    }
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start(&certs, &[(h2::MAX_CONCURRENT_STREAMS, 1)], one_at_a_time).await;
    let case = Case::delivered("one", receiver.peer.https());
    let run = Run::start_with(broker, &certs, vec![case], secs(10)).await;

    run.warm_up().await;
    for _ in 0..20 {
        run.publish(&run.cases[0]).await;
    }

    run.settle_all(secs(10)).await;
    assert_eq!(receiver.requests(), 21);
    assert_eq!((run.planned_retries().await, run.dead_letters().await), (0, 0));
}

/// The peer's process hangs, or the way to it is cut without a word: nothing but silence on a connection that
/// serves all requests of the target.
#[tokio::test]
async fn a_connection_that_has_gone_silent_is_replaced() {
    async fn silent_after_one(mut connection: Connection, number: usize, count: Arc<AtomicUsize>) -> Served {
        if number > 1 {
            return well(connection, &count).await;
        }
        let stream = next(&mut connection, &count).await?;
        connection.ok(stream).await?;
        let _held = connection.into_inner();
        std::future::pending().await
    }
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start(&certs, &[], silent_after_one).await;
    let case = Case::delivered("silent", receiver.peer.https());
    let run = Run::start_with(broker, &certs, vec![case], secs(2)).await;
    run.warm_up().await;

    until("a new connection is made", secs(40), async || {
        run.publish(&run.cases[0]).await;
        run.settle_all(secs(5)).await;
        receiver.peer.connections() == 2
    })
    .await;
    run.publish(&run.cases[0]).await;
    until("the new connection serves", secs(5), async || receiver.requests() >= 2).await;
}

#[tokio::test]
async fn a_connection_given_up_finishes_what_it_has_while_a_new_one_takes_what_comes() {
    async fn goes_away_then_waits(
        mut connection: Connection,
        number: usize,
        count: Arc<AtomicUsize>,
    ) -> Served {
        if number > 1 {
            return well(connection, &count).await;
        }
        let first = next(&mut connection, &count).await?;
        connection.go_away(first, h2::NO_ERROR).await?;
        while count.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(millis(10)).await;
        }
        connection.ok(first).await?;
        read_to_close(&mut connection.into_inner()).await;
        Ok(())
    }
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start(&certs, &[], goes_away_then_waits).await;
    let case = Case::delivered("both", receiver.peer.https());
    let run = Run::start_with(broker, &certs, vec![case], secs(10)).await;

    run.publish(&run.cases[0]).await;
    until("the first is under way", secs(5), async || receiver.requests() == 1).await;
    run.publish(&run.cases[0]).await;

    run.settle_all(secs(5)).await;
    assert_eq!((receiver.requests(), receiver.peer.connections()), (2, 2));
    assert_eq!((run.planned_retries().await, run.dead_letters().await), (0, 0));
}
