//! Connections that end between two requests, which is everybody's right (RFC 9112, 9.6).

use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt, BufStream};
use tokio::sync::mpsc;

use super::{Case, Run};
use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::certs::Certs;
use crate::support::faults::Fault;
use crate::support::faults::{Wire, shut_down};
use crate::support::http::{Parsed, read_message};
use crate::support::peer::Peer;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs};

/// How a receiver ends an idle connection.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
    /// The sending half alone.
    HalfClose,
}

/// What came over all connections of a peer, and a word on each connection that ended.
#[derive(Debug, Clone)]
struct Seen {
    requests: Arc<Mutex<Vec<Parsed>>>,
    ended: mpsc::UnboundedSender<()>,
}

impl Seen {
    fn attempts(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("lock");
        requests.iter().map(|request| request.header("natshook-attempt").expect("it is counted")).collect()
    }

    /// Answers one request, and ends the idle connection.
    async fn one_request(self, stream: impl Wire, end: End) {
        let mut stream = BufStream::new(stream);
        let Ok(Some(request)) = read_message(&mut stream).await else { return };
        self.requests.lock().expect("lock").push(request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.flush().await;
        // Long enough for natshook to have read the answer, so that the connection is idle when it ends.
        tokio::time::sleep(millis(50)).await;
        match end {
            End::Close => {}
            End::Reset => stream.get_ref().tcp().set_zero_linger().expect("it can be set"),
            End::HalfClose => shut_down(stream.get_ref().tcp(), Shutdown::Write).expect("it can be"),
        }
        if matches!(end, End::HalfClose) {
            let _ = self.ended.send(());
            let more = read_message(&mut stream).await;
            assert!(
                !matches!(more, Ok(Some(_))),
                "a connection that the receiver has closed is used no more"
            );
        } else {
            drop(stream);
            let _ = self.ended.send(());
        }
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_costs_neither_a_message_nor_an_attempt() {
    const MESSAGES: usize = 30;
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let (mut cases, mut peers) = (Vec::new(), Vec::new());
    for end in [End::Close, End::Reset, End::HalfClose] {
        for tls in [false, true] {
            let (ended, endings) = mpsc::unbounded_channel();
            let seen = Seen { requests: Arc::default(), ended };
            let own = seen.clone();
            let name = format!("{end:?}-{}", if tls { "tls" } else { "tcp" });
            let peer = if tls {
                Peer::start_tls(certs.server_config(), move |tls, _| own.clone().one_request(tls, end)).await
            } else {
                Peer::start(move |tcp, _| own.clone().one_request(tcp, end)).await
            };
            cases.push(Case::delivered(name, if tls { peer.https() } else { peer.http() }));
            peers.push((peer, seen, endings));
        }
    }
    let run = Run::start(broker, &certs, cases).await;

    for _ in 0..MESSAGES {
        for case in &run.cases {
            run.publish(case).await;
        }
        // The moment at which the connections have just ended is the hardest for the next message.
        for (_, _, endings) in &mut peers {
            tokio::time::timeout(secs(10), endings.recv()).await.expect("a request came").expect("open");
        }
    }

    for (case, (_, seen, _)) in run.cases.iter().zip(&peers) {
        assert_eq!(seen.attempts(), vec!["1"; MESSAGES], "{}", case.name);
    }
    run.settle_all(secs(10)).await;
    assert_eq!(run.planned_retries().await, 0, "no attempt was charged");
    assert_eq!(run.dead_letters().await, 0);
}

/// A request that was sent whole on a connection that then ended without a byte of an answer may have been
/// processed or not. Nobody can know, so it is an attempt: charged, and made again after its wait, with the same id.
#[tokio::test]
async fn a_request_lost_on_its_way_is_an_attempt_and_comes_again_under_the_same_id() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let faults = [Fault::CloseBeforeAnswer, Fault::ResetBeforeAnswer];
    let mut config = Config::on(&broker).and("[defaults]\nretry = { delays = [\"1s\"], jitter = 0 }");
    for fault in faults {
        let path = format!("/{fault:?}");
        receiver.next(&path, [Answer::ok(), Answer::fault(fault)]);
        config = config.target(&format!("{fault:?}"), &format!("{fault:?}"), &receiver.url(&path), "");
    }
    let _connector = Connector::start(&config).await;

    for fault in faults {
        broker.publish(&format!("{fault:?}"), "first").await;
        receiver.wait_for(&format!("/{fault:?}"), 1).await;
        broker.publish(&format!("{fault:?}"), "second").await;
    }

    for fault in faults {
        let seen = receiver.wait_for(&format!("/{fault:?}"), 3).await;
        let of = |name: &str| seen.iter().map(|r| r.header(name).unwrap()).collect::<Vec<_>>();
        assert_eq!(of("natshook-attempt"), ["1", "1", "2"], "{fault:?}");
        assert_eq!(of("webhook-id")[1], of("webhook-id")[2], "{fault:?}");
        assert!(seen[2].at - seen[1].at >= millis(900), "{fault:?}: not again at once");
        broker.wait_until_settled(&format!("{fault:?}")).await;
    }
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

/// A receiver that promises to keep each connection and closes it with its answer: the next request may already be
/// on its way. Nothing is lost, and nothing is a dead letter.
#[tokio::test]
async fn a_receiver_that_closes_after_every_answer_gets_everything() {
    const MESSAGES: usize = 200;
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(Fault::CloseAfterAnswer));
    let more = "concurrency = 2\nretry = { delays = [\"1s\", \"1s\", \"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..MESSAGES).await;

    receiver.wait_for("/hook", MESSAGES).await;
    broker.wait_until_settled("policy").await;
    let mut seen: Vec<usize> = receiver.bodies("/hook").iter().map(|body| body.parse().unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    let charged = broker.jetstream_context().await.get_stream(RETRY_QUEUE).await.unwrap();
    println!("requests that crossed a close: {}", charged.cached_info().state.last_sequence);
}
