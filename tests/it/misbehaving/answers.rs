//! What a receiver can do wrong once it has read a request, over TCP and over TLS.

use super::{BOUND, Case, Expected, Run};
use crate::support::broker::{DEAD_LETTERS, header};
use crate::support::faults::Fault;
use crate::support::{Answer, Broker, Receiver, certs::Certs, secs};

const LOST: Expected = Expected::Broken(&["connection lost: "]);
const LATE: Expected = Expected::Broken(&["timeout: no answer within 1s"]);

/// The status decides: once a 2xx has come with its headers, nothing that follows takes it back.
const TABLE: [(&str, Fault, Expected); 18] = [
    ("never-answer", Fault::NeverAnswer, LATE),
    ("close-before-answer", Fault::CloseBeforeAnswer, LOST),
    ("reset-before-answer", Fault::ResetBeforeAnswer, LOST),
    ("half-close-before-answer", Fault::HalfCloseBeforeAnswer, LOST),
    ("close-mid-headers", Fault::CloseMidHeaders, LOST),
    ("close-mid-body", Fault::CloseMidBody, Expected::Delivered),
    ("reset-mid-body", Fault::ResetMidBody, Expected::Delivered),
    ("close-after-answer", Fault::CloseAfterAnswer, Expected::Delivered),
    ("half-close-as-end", Fault::HalfCloseAsEnd, Expected::Delivered),
    ("half-close-reading", Fault::HalfCloseReading, Expected::Delivered),
    ("http10", Fault::Http10, Expected::Delivered),
    ("huge-chunk", Fault::HugeChunk, Expected::Delivered),
    ("gzip-bomb", Fault::GzipBomb, Expected::Answered(422)),
    ("slow-headers", Fault::SlowHeaders, LATE),
    ("slow-body", Fault::SlowBody, Expected::Delivered),
    ("garbage", Fault::Garbage, LOST),
    ("two-lengths", Fault::TwoLengths, LOST),
    ("early-hints", Fault::EarlyHints, Expected::Answered(422)),
];

/// As much and as fast as natshook takes it.
const FLOODS: [(&str, Fault, Expected); 4] = [
    ("endless-headers", Fault::EndlessHeaders, LOST),
    ("endless-header", Fault::EndlessHeader, LOST),
    (
        "endless-interim",
        Fault::EndlessInterim,
        Expected::Broken(&["connection lost: the receiver sent more than 4194304 bytes"]),
    ),
    ("huge-body", Fault::HugeBody, Expected::Delivered),
];

/// Every fault over TCP and over TLS, each with a target and a receiver of its own: targets of one receiver share kept
/// connections, and one that a fault is about to close would take another's request along.
async fn receivers(certs: &Certs, faults: &[(&str, Fault, Expected)]) -> (Vec<Receiver>, Vec<Case>) {
    let (mut receivers, mut cases) = (Vec::new(), Vec::new());
    for how in ["tcp", "tls"] {
        for (name, fault, expected) in faults {
            let receiver = match how {
                "tcp" => Receiver::start().await,
                _ => Receiver::start_tls(certs.server_config()).await,
            };
            receiver.always("/hook", Answer::fault(*fault));
            cases.push(Case::new(format!("{name}-{how}"), receiver.url("/hook"), expected.clone()));
            receivers.push(receiver);
        }
    }
    (receivers, cases)
}

#[tokio::test]
async fn whatever_is_answered_each_attempt_ends_as_it_should_in_time_and_in_little_memory() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let (receivers, cases) = receivers(&certs, &TABLE).await;
    let run = Run::start(broker, &certs, cases).await;

    run.judge(BOUND).await;

    for (receiver, (name, ..)) in receivers.iter().zip(TABLE.iter().cycle()) {
        assert_eq!(receiver.count("/hook"), 1, "{name} was sent once");
    }
    let letters = run.broker.stored(DEAD_LETTERS).await;
    let bomb = letters.iter().find(|letter| letter.subject.ends_with("gzip-bomb-tcp")).unwrap();
    let kept = header(bomb, "Natshook-Response").unwrap();
    assert!(!kept.contains("xxxx") && kept.len() < 8 * 1024, "kept as it came: {kept:?}");
    run.assert_memory_bounded();
}

#[tokio::test]
async fn a_flood_ends_in_time_fills_no_memory_and_leaves_room_for_others() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let (_receivers, mut cases) = receivers(&certs, &FLOODS).await;
    let healthy = Receiver::start().await;
    cases.extend((0..10).map(|i| Case::delivered(format!("healthy-{i}"), healthy.url("/hook"))));
    // Not the timeout is to end them, which a debug build on a busy machine could reach first.
    let run = Run::start_with(broker, &certs, cases, secs(10)).await;

    run.judge(secs(12)).await;

    assert_eq!(healthy.count("/hook"), 10);
    run.assert_memory_bounded();
}
