//! Hostile messages and hostile receivers: each ends classified, in bounded memory, and is named.

use crate::support::broker::{DEAD_LETTERS, EVENTS, header, publish_raw};
use crate::support::faults::Fault;
use crate::support::receiver::Gate;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

const ONCE: &str = "timeout = \"2s\"\nretry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 1 }";

#[tokio::test]
async fn hostile_subjects_arrive_as_what_they_are() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "in.>", &receiver.url("/hook"), "concurrency = 1");
    let _connector = Connector::start(&config).await;
    let subjects = [
        "in.$SYS.x",
        "in.a/%2e%2e/b?c=d#e",
        "in.naïve.日本",
        "in.%0d%0aHost:evil",
        "in.\u{7f}\u{1b}[31m",
        "in.'\"<script>",
        &format!("in.{}", "x".repeat(2_000)),
        &format!("in{}", ".y".repeat(200)),
    ];

    for subject in subjects {
        broker.publish(subject, subject).await;
    }

    let seen = receiver.wait_for("/hook", subjects.len()).await;
    for (request, subject) in seen.iter().zip(subjects) {
        assert_eq!(request.body, subject.as_bytes());
        let named = request.header("natshook-subject").expect("the subject is named");
        assert!(named.is_ascii(), "{named:?}");
        let decoded = percent_encoding::percent_decode_str(&named).decode_utf8_lossy();
        assert!(named == subject || decoded == subject, "{subject:?} became {named:?}");
        assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", receiver.port)));
    }
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn hostile_header_values_neither_split_the_request_nor_lose_the_message() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let more = "pass_headers = [\"X-Own\", \"X-Many\"]\nconcurrency = 1";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    // Written by hand: a client library would refuse to send most of these.
    let long = format!("X-Own: {}", "x".repeat(60_000));
    let many = (0..2_000).map(|i| format!("X-Many: {i}\r\n")).collect::<String>();
    let blocks = [
        "X-Own: caf\u{e9} \u{1f980}",
        "X-Own: a\x00b\x07c\x1b[31m",
        "X-Own: one\r\nX-Own: two",
        "Content-Type: a/b\r\nContent-Type: c/d",
        "Nats-Msg-Id: \u{1f980}.%.\x01",
        "traceparent: \x00",
        "ce-type: \u{e9}",
        "ce-\u{e9}: x",
        "X Own: space in name",
        ": no name",
        &long,
        many.trim_end(),
    ];
    for (i, block) in blocks.iter().enumerate() {
        publish_raw(&broker, "a", block.as_bytes(), i.to_string().as_bytes()).await;
    }
    publish_raw(&broker, "a", b"X-Own: \xff\xfe\xc3\x28", b"not utf-8").await;
    broker.publish("a", "honest").await;

    // What the broker had sent along with a message that breaks the connection comes again after `ack_wait`.
    let arrived = async || receiver.bodies("/hook").contains(&"honest".to_owned());
    until("the honest message arrives", secs(45), arrived).await;
    broker.wait_until_settled("policy").await;
    let dead = broker.stored(DEAD_LETTERS).await;
    let unreadable: Vec<_> = dead.iter().map(|d| (header(d, "Natshook-Reason"), d.payload.clone())).collect();
    let ended = receiver.received().len() + dead.len();
    assert_eq!(ended, blocks.len() + 2, "each is delivered or dead-lettered: {unreadable:?}");
    for request in receiver.received() {
        assert_eq!(request.first_line, "POST /hook HTTP/1.1");
        for (name, value) in &request.headers {
            let legal = value.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t');
            assert!(legal, "{name}: {:?}", String::from_utf8_lossy(value));
        }
        assert!(request.header_all("content-type").len() == 1);
    }
    let twice = receiver.received().into_iter().find(|r| r.body == b"2").expect("duplicate headers are fine");
    assert_eq!(twice.header_all("x-own"), ["one", "two"]);
}

#[tokio::test]
async fn payloads_of_8_mb_are_delivered_or_dead_lettered_in_bounded_memory() {
    let broker = Broker::start_with("max_payload: 9MB", async_nats::ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("small", "a", &receiver.url("/small"), "").target(
        "large",
        "a",
        &receiver.url("/large"),
        "max_payload_bytes = 10000000",
    );
    let connector = Connector::start(&config).await;

    for i in 0..10_u8 {
        broker.publish("a", vec![i; 8 * 1024 * 1024]).await;
    }

    let seen = receiver.wait_long_for("/large", 10, secs(30)).await;
    assert!(seen.iter().all(|r| r.body.len() == 8 * 1024 * 1024 && r.body.iter().all(|b| *b == r.body[0])));
    let dead = broker.wait_for_dead_letters(10).await;
    assert!(dead.iter().all(|d| header(d, "Natshook-Reason").as_deref() == Some("message_too_large")));
    assert_eq!(receiver.count("/small"), 0);
    let peak = connector.peak_memory_mib();
    assert!(peak < 200, "{peak} MiB at the peak");
}

#[tokio::test]
async fn endless_headers_end_classified_in_bounded_memory() {
    hostile_answer(Fault::EndlessHeaders, 80).await;
}

#[tokio::test]
async fn a_status_line_that_drips_is_a_timeout() {
    let error = hostile_answer(Fault::SlowHeaders, 80).await;
    assert!(error.contains("timeout"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_off_in_its_headers_is_a_lost_connection() {
    let error = hostile_answer(Fault::CloseMidHeaders, 80).await;
    assert!(error.contains("connection lost"), "{error}");
}

/// A receiver that does this on twenty messages: the error of their dead letters, which must all be alike.
async fn hostile_answer(fault: Fault, memory_mib: u64) -> String {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(fault));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), ONCE).target(
        "healthy",
        "a",
        &receiver.url("/healthy"),
        "",
    );
    let connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..8).await;

    receiver.wait_for("/healthy", 8).await;
    let dead = broker.wait_for_dead_letters(8).await;
    let peak = connector.peak_memory_mib();
    assert!(peak < memory_mib, "{peak} MiB at the peak");
    for letter in &dead {
        assert_eq!(header(letter, "Natshook-Target").as_deref(), Some("policy"));
        assert_eq!(header(letter, "Natshook-Reason").as_deref(), Some("attempts_exhausted"));
    }
    header(&dead[0], "Natshook-Last-Error").expect("the cause is named")
}

#[tokio::test]
async fn a_body_of_256_mib_costs_neither_memory_nor_the_delivery() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(Fault::HugeBody));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..8).await;

    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 8);
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    // natshook reads 64 KiB; the rest is what the kernel's buffers hold.
    let taken = receiver.huge_bytes() / 1024 / 1024;
    assert!(taken < 8 * 16, "{taken} MiB of eight bodies were taken");
    let peak = connector.peak_memory_mib();
    assert!(peak < 80, "{peak} MiB at the peak");
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_no_other_target() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hangs", Answer::fault(Fault::NeverAnswer));
    let config = Config::on(&broker)
        .target("hangs", "a", &receiver.url("/hangs"), "concurrency = 4\ntimeout = \"30s\"")
        .target("healthy", "a", &receiver.url("/healthy"), "concurrency = 4");
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..200).await;

    receiver.wait_long_for("/healthy", 200, secs(5)).await;
    assert_eq!(receiver.count("/hangs"), 4);
    let (pending, unacked) = broker.outstanding(EVENTS, "natshook-hangs").await.unwrap();
    assert!(unacked <= 8 && pending >= 192, "permit before pull: {unacked} taken, {pending} left");
}

#[tokio::test]
async fn a_rate_limit_is_kept_and_nothing_is_lost() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "rate = \"20/s\"");
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..80).await;

    let seen = receiver.wait_for("/hook", 80).await;
    // A limiter may let a burst of one second's worth through at first.
    let span = seen[79].at - seen[0].at;
    assert!(span >= millis(2_800), "80 requests within {span:?}");
    for start in &seen {
        let within = seen.iter().filter(|r| r.at >= start.at && r.at < start.at + secs(1)).count();
        assert!(within <= 41, "{within} requests within a second");
    }
}

#[tokio::test]
async fn concurrency_is_the_most_that_is_in_flight() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.always("/hook", Answer::ok().behind(&gate));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 5");
    let _connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..50).await;
    receiver.wait_for("/hook", 5).await;

    gate.open();

    receiver.wait_for("/hook", 50).await;
    assert_eq!(receiver.most_in_flight("/hook"), 5);
}
