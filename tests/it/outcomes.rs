//! The outcome table, row by row: what an attempt's end means for the delivery and for its target.

use std::collections::BTreeSet;

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE, Stored, header};
use crate::support::faults::Fault;
use crate::support::{
    Answer, Broker, Config, Connector, Receiver, certs::Certs, free_port, millis, secs, throughout, until,
};

const DELIVERED: [u16; 7] = [200, 201, 202, 203, 204, 226, 299];
const PERMANENT: [u16; 21] =
    [400, 402, 406, 411, 412, 413, 414, 415, 416, 417, 418, 422, 423, 424, 426, 428, 431, 451, 499, 501, 505];
const TRANSIENT: [u16; 30] = [
    101, 300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407, 408, 409, 410, 421, 425, 429, 500, 502,
    503, 504, 506, 507, 508, 511, 520, 599, 999,
];

#[tokio::test]
async fn every_status_has_its_outcome() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut config = Config::on(&broker).and("[defaults]\nretry = { delays = [\"1h\"] }");
    let all = || DELIVERED.iter().chain(&PERMANENT).chain(&TRANSIENT);
    for status in all() {
        let path = format!("/{status}");
        receiver.always(&path, Answer::status(*status).header("Location", &receiver.url("/elsewhere")));
        config = config.target(&format!("s{status}"), &format!("s.{status}"), &receiver.url(&path), "");
    }
    let _connector = Connector::start(&config).await;

    for status in all() {
        broker.publish(&format!("s.{status}"), "{}").await;
    }

    let targets = |statuses: &[u16], kind: &str| -> BTreeSet<String> {
        statuses.iter().map(|status| format!("natshook.{kind}.s{status}")).collect()
    };
    let dead = broker.wait_for_dead_letters(PERMANENT.len() as u64).await;
    let retried = broker.wait_for_retries(TRANSIENT.len() as u64).await;
    for status in all() {
        let consumer = format!("natshook-s{status}");
        until("the source is acked", secs(10), async || {
            broker.outstanding("EVENTS", &consumer).await == Some((0, 0))
        })
        .await;
        assert_eq!(receiver.count(&format!("/{status}")), 1, "{status}");
    }
    let subjects = |messages: &[Stored]| -> BTreeSet<String> {
        messages.iter().map(|message| message.subject.clone()).collect()
    };
    assert_eq!(subjects(&dead), targets(&PERMANENT, "dead-letter"));
    assert_eq!(subjects(&retried), targets(&TRANSIENT, "retry"));
    for letter in &dead {
        assert_eq!(header(letter, "Natshook-Reason").as_deref(), Some("permanent_status"));
        assert_eq!(header(letter, "Natshook-Attempts").as_deref(), Some("1"));
    }
    assert_eq!(receiver.count("/elsewhere"), 0, "a redirect is never followed");
}

#[tokio::test]
async fn a_target_may_judge_a_status_otherwise() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/retry", Answer::status(422));
    receiver.always("/dead", Answer::status(503));
    let later = "retry = { delays = [\"1h\"] }";
    let config = Config::on(&broker)
        .target(
            "retry",
            "r",
            &receiver.url("/retry"),
            &format!("outcomes = {{ transient = [422] }}\n{later}"),
        )
        .target("dead", "d", &receiver.url("/dead"), &format!("outcomes = {{ permanent = [503] }}\n{later}"));
    let _connector = Connector::start(&config).await;

    broker.publish("r", "1").await;
    broker.publish("d", "2").await;

    assert_eq!(broker.wait_for_retries(1).await[0].subject, "natshook.retry.retry");
    assert_eq!(broker.wait_for_dead_letters(1).await[0].subject, "natshook.dead-letter.dead");
}

/// The error that the only attempt of a message ends with, taken from its dead letter.
async fn error_of(url: &str, receiver_fault: Option<(&Receiver, Answer)>) -> String {
    error_with(url, receiver_fault, "allow = [\"127.0.0.0/8\"]\nallow_http = true").await
}

async fn error_with(url: &str, receiver_fault: Option<(&Receiver, Answer)>, egress: &str) -> String {
    let broker = Broker::start().await;
    if let Some((receiver, answer)) = receiver_fault {
        receiver.always("/hook", answer);
    }
    let more = "timeout = \"2s\"\nretry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 1 }";
    let config = Config::on(&broker).egress_instead(egress).target("policy", "a", url, more);
    let _connector = Connector::start(&config).await;
    broker.publish("a", "{}").await;
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("attempts_exhausted"));
    assert_eq!(header(&dead[0], "Natshook-Last-Status"), None);
    header(&dead[0], "Natshook-Last-Error").expect("the dead letter says what went wrong")
}

async fn error_of_fault(fault: Fault) -> String {
    let receiver = Receiver::start().await;
    error_of(&receiver.url("/hook"), Some((&receiver, Answer::fault(fault)))).await
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_a_timeout() {
    let error = error_of_fault(Fault::NeverAnswer).await;
    assert!(error.contains("timeout"), "{error}");
    assert!(error.contains("2s"), "{error}");
}

#[tokio::test]
async fn a_connection_closed_before_the_answer_is_transient() {
    let error = error_of_fault(Fault::CloseBeforeAnswer).await;
    assert!(error.contains("connection lost"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_transient() {
    let error = error_of_fault(Fault::Garbage).await;
    assert!(error.contains("connection lost"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_transient() {
    let error = error_of(&format!("http://127.0.0.1:{}/", free_port()), None).await;
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_name_without_an_address_is_transient() {
    let error = error_of("http://receiver.invalid/hook", None).await;
    assert!(error.contains("dns"), "{error}");
    assert!(error.contains("receiver.invalid"), "{error}");
}

#[tokio::test]
async fn an_untrusted_certificate_is_transient() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start_tls(Certs::in_folder(dir.path()).server_config()).await;
    let error = error_of(&receiver.url("/hook"), None).await;
    assert!(error.contains("tls"), "{error}");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_name_that_leads_to_an_address_that_is_not_allowed_is_refused_with_the_setting() {
    let receiver = Receiver::start().await;
    let url = format!("http://localhost:{}/hook", receiver.port);
    let egress = format!("allow_http = true\nports = [{}]", receiver.port);
    let error = error_with(&url, None, &egress).await;
    for word in ["egress", "127.0.0.1", "localhost", "egress.allow"] {
        assert!(error.contains(word), "{word} is missing: {error}");
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_name_is_reached_at_the_address_that_is_allowed() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = format!("http://localhost:{}/hook", receiver.port);
    let config = Config::on(&broker).target("policy", "a", &url, "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "{}").await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("host"), Some(format!("localhost:{}", receiver.port)));
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(Fault::EarlyHints));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "{}").await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Last-Status").as_deref(), Some("422"));
}

#[tokio::test]
async fn an_answer_of_2xx_counts_even_if_its_body_breaks_off_or_never_ends() {
    for fault in [Fault::CloseMidBody, Fault::SlowBody] {
        let broker = Broker::start().await;
        let receiver = Receiver::start().await;
        receiver.always("/hook", Answer::fault(fault));
        let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "timeout = \"1s\"");
        let _connector = Connector::start(&config).await;

        broker.publish("a", "{}").await;

        receiver.wait_for("/hook", 1).await;
        broker.wait_until_settled("policy").await;
        assert_eq!(receiver.count("/hook"), 1, "{fault:?}");
        assert_eq!(broker.count(DEAD_LETTERS).await, 0, "{fault:?}");
    }
}

/// Publishes ten messages to a target that answers `status`, one at a time: how many requests it got
/// before its breaker opened.
async fn requests_until_open(status: u16) -> usize {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/sick", Answer::status(status));
    let more = "concurrency = 1\nretry = { delays = [\"1h\"] }";
    let config = Config::on(&broker).target("sick", "a", &receiver.url("/sick"), more).target(
        "healthy",
        "a",
        &receiver.url("/healthy"),
        "",
    );
    let connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..15).await;

    connector.wait_for_line(&["breaker", "sick"]).await;
    let before = receiver.count("/sick");
    receiver.wait_for("/healthy", 15).await;
    throughout("an open breaker sends nothing", secs(2), async || receiver.count("/sick") == before).await;
    let waiting = broker.outstanding("EVENTS", "natshook-sick").await.unwrap();
    let left = waiting.0 as usize + waiting.1;
    assert_eq!(left, 15 - before, "what was not attempted waits in the source stream");
    assert_eq!(
        broker.count(RETRY_QUEUE).await as usize,
        before,
        "what was attempted waits in the retry queue"
    );
    before
}

#[tokio::test]
async fn ten_failures_open_the_breaker() {
    assert_eq!(requests_until_open(500).await, 10);
}

#[tokio::test]
async fn three_faults_of_the_target_open_the_breaker() {
    assert_eq!(requests_until_open(404).await, 3);
}

#[tokio::test]
async fn one_410_opens_the_breaker() {
    assert_eq!(requests_until_open(410).await, 1);
}

#[tokio::test]
async fn after_its_wait_an_open_breaker_lets_one_probe_through_and_closes_when_it_succeeds() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", (0..3).map(|_| Answer::status(404)));
    receiver.next("/hook", [Answer::ok().after(millis(500))]);
    let more = "concurrency = 8\nretry = { delays = [\"4s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let connector = Connector::start(&config).await;
    for i in 0..3 {
        broker.publish("a", i.to_string()).await;
        receiver.wait_for("/hook", i + 1).await;
    }
    connector.wait_for_line(&["breaker opened"]).await;

    broker.publish_numbered("a", 3..30).await;

    let opened = receiver.at("/hook")[2].at;
    until("everything is delivered", secs(30), async || receiver.count("/hook") == 33).await;
    let seen = receiver.at("/hook");
    assert!(seen[3].at - opened >= secs(9), "the first wait is 10 s, was {:?}", seen[3].at - opened);
    assert!(seen[4].at - seen[3].at >= millis(450), "the probe travels alone");
    // The three that failed were charged one attempt each, although they waited for the breaker.
    let second: Vec<_> =
        seen.iter().filter(|r| r.header("natshook-attempt").as_deref() == Some("2")).collect();
    assert_eq!(second.len(), 3);
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}
