//! What a receiver can do wrong before there is an answer: while the connection is made, and while the request
//! is being sent.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BOUND, Case, Expected, Run};
use crate::support::certs::{Certs, Flaw};
use crate::support::http::read_to_close;
use crate::support::peer::Peer;
use crate::support::{Broker, free_port, secs};

/// More than the buffers of a connection hold before its receiver reads.
const LARGE: usize = 900_000;

const TLS_1_0_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 70];

/// A ServerHello of TLS 1.0: no extensions, `TLS_RSA_WITH_AES_128_CBC_SHA`.
const TLS_1_0_HELLO: &[u8] = &{
    let mut hello = [7; 5 + 4 + 38];
    let head = [22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    let tail = [0, 0, 0x2f, 0];
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    at = 0;
    while at < tail.len() {
        hello[hello.len() - tail.len() + at] = tail[at];
        at += 1;
    }
    hello
};

/// Reads the head of a request, not its body.
async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.is_ok_and(|n| n == 0) {
            return;
        }
    }
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused_and_named() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let mut cases = Vec::new();
    let mut peers = Vec::new();
    for (name, flaw, words) in [
        ("expired", Flaw::Expired, &["tls: ", "expired"][..]),
        ("not-yet-valid", Flaw::NotYetValid, &["tls: ", "not valid yet"]),
        ("wrong-host", Flaw::WrongHost, &["tls: ", "not valid for name"]),
        ("self-signed", Flaw::SelfSigned, &["tls: ", "UnknownIssuer"]),
    ] {
        let peer = Peer::start_tls(certs.flawed_config(flaw), |_, _| async {
            panic!("the handshake must not succeed");
        })
        .await;
        cases.push(Case::broken(name, peer.https(), words));
        peers.push(peer);
    }
    let run = Run::start(broker, &certs, cases).await;

    run.judge(BOUND).await;

    for peer in &peers {
        assert_eq!(peer.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_fails_before_the_request_is_told_apart() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let plain = Peer::saying(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let alert = Peer::saying(TLS_1_0_ALERT).await;
    let hello = Peer::saying(TLS_1_0_HELLO).await;
    let silent = Peer::saying(b"").await;
    let closing = Peer::start(|_, _| async {}).await;
    let resetting = Peer::start(|tcp, _| async move { tcp.set_zero_linger().expect("it can be set") }).await;
    let corrupt = Peer::start_tls(certs.server_config(), |mut stream, _| async move {
        let _ = stream.get_mut().0.write_all(&[23, 3, 3, 0, 4, 1, 2, 3, 4]).await;
        read_to_close(stream.get_mut().0).await;
    })
    .await;
    let cases = vec![
        Case::broken("plain-on-tls-port", plain.https(), &["tls: "]),
        Case::broken("tls-1-0-alert", alert.https(), &["tls: ", "ProtocolVersion"]),
        Case::broken("tls-1-0-hello", hello.https(), &["tls: "]),
        Case::broken("corrupt-record", corrupt.https(), &["tls: "]),
        Case::broken("hanging-handshake", silent.https(), &["timeout: "]),
        Case::broken("closing-tls", closing.https(), &["connection lost: "]),
        Case::broken("resetting-tls", resetting.https(), &["connection lost: "]),
        Case::broken("closing", closing.http(), &["connection lost: "]),
        Case::broken("resetting", resetting.http(), &["connection lost: "]),
        Case::broken("closed-port", format!("http://127.0.0.1:{}/", free_port()), &["connection refused: "]),
        Case::broken(
            "closed-port-tls",
            format!("https://127.0.0.1:{}/", free_port()),
            &["connection refused: "],
        ),
    ];
    let run = Run::start(broker, &certs, cases).await;

    run.judge(BOUND).await;
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_five_seconds_to_make_is_given_up() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let silent = Peer::saying(b"").await;
    let cases = vec![Case::broken("hanging-handshake", silent.https(), &["timeout: ", "within 5s"])];
    let run = Run::start_with(broker, &certs, cases, secs(25)).await;
    let started = Instant::now();

    run.judge(secs(5) + BOUND).await;

    assert!(started.elapsed() >= secs(5));
}

#[tokio::test]
async fn a_request_that_is_not_read_to_its_end_has_the_outcome_that_the_receiver_gives_it() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let unread = Peer::start(|tcp, _| async move {
        let _held = tcp;
        std::future::pending().await
    })
    .await;
    let cut = Peer::start(|mut tcp, _| async move { read_head(&mut tcp).await }).await;
    let cut_tls =
        Peer::start_tls(certs.server_config(), |mut stream, _| async move { read_head(&mut stream).await })
            .await;
    let early = Peer::start(|mut tcp, _| async move {
        read_head(&mut tcp).await;
        let _ = tcp.write_all(b"HTTP/1.1 413 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        read_to_close(&mut tcp).await;
    })
    .await;
    let cases = vec![
        Case::broken("unread", unread.http(), &["timeout: "]).with_payload(LARGE),
        Case::broken("cut", cut.http(), &["connection lost: "]).with_payload(LARGE),
        Case::broken("cut-tls", cut_tls.https(), &["connection lost: "]).with_payload(LARGE),
        Case::new("early", early.http(), Expected::Answered(413)).with_payload(LARGE),
    ];
    let run = Run::start(broker, &certs, cases).await;

    run.judge(BOUND).await;
}
