//! What the log says of deliveries that fail: each once, and many of them together.

use serde_json::Value;

use crate::support::broker::DEAD_LETTERS;
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

/// The lines that an operator sees with `--log info`.
fn lines(connector: &Connector) -> Vec<Value> {
    let lines = connector.output();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    lines.filter(|line| line["level"] != "DEBUG").collect()
}

fn with<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

fn sum(lines: &[&Value], field: &str) -> u64 {
    lines.iter().map(|line| line[field].as_u64().expect("a number")).sum()
}

#[tokio::test]
async fn a_failure_is_a_line_with_everything_that_is_known_and_a_success_is_none() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.next("/hook", [Answer::status(503), Answer::ok(), Answer::status(422)]);
    let config = Config::on(&broker).target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "retry = { delays = [\"1s\"], jitter = 0 }",
    );
    let mut connector = Connector::start(&config).await;
    let first = broker.publish("PolicyUpdated", "1").await;
    receiver.wait_for("/hook", 2).await;
    broker.wait_until_settled("policy").await;
    let second = broker.publish("PolicyUpdated", "2").await;
    broker.wait_for_dead_letters(1).await;
    broker.wait_until_settled("policy").await;
    connector.stop().await;

    let lines = lines(&connector);
    let told: Vec<_> = lines.iter().filter(|line| !line["subject"].is_null()).collect();
    let [retried, given_up] = &told[..] else { panic!("{told:#?}") };
    for (line, level, message, sequence, status) in [
        (retried, "INFO", "attempt failed", first, 503),
        (given_up, "WARN", "given up: stored as a dead letter", second, 422),
    ] {
        assert_eq!([&line["level"], &line["message"]], [level, message]);
        for (field, value) in [
            ("target", Value::from("policy")),
            ("subject", "PolicyUpdated".into()),
            ("stream", "EVENTS".into()),
            ("sequence", sequence.into()),
            ("id", format!("EVENTS-{sequence}").into()),
            ("attempt", 1.into()),
            ("status", status.into()),
            ("error", format!("answered {status}").into()),
        ] {
            assert_eq!(line[field], value, "{field} of {line}");
        }
    }
    assert!(retried["next_attempt"].is_string(), "{retried}");
    assert_eq!(given_up["reason"], "permanent_status");
}

#[tokio::test]
async fn ten_thousand_failures_are_fewer_than_fifty_lines_that_account_for_each() {
    const MESSAGES: usize = 5_000;
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    // Every message ends with a 400, so that all answers are used up: as many failures as answers.
    let answers = std::iter::repeat_n([Answer::status(500), Answer::status(400)], MESSAGES);
    receiver.next("/hook", answers.flatten());
    let config = Config::on(&broker).target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "retry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 50, jitter = 0 }",
    );
    let mut connector = Connector::start(&config).await;
    let began = std::time::Instant::now();
    for thousand in 0..MESSAGES / 1_000 {
        broker.publish_numbered("PolicyUpdated", thousand * 1_000..(thousand + 1) * 1_000).await;
    }
    until("everything is given up", secs(55), async || broker.count(DEAD_LETTERS).await == MESSAGES as u64)
        .await;
    broker.wait_until_settled("policy").await;
    assert!(began.elapsed() < secs(60), "{:?}", began.elapsed());
    connector.stop().await;

    assert_eq!(receiver.count("/hook"), 2 * MESSAGES);
    let lines = lines(&connector);
    assert!(lines.len() < 50, "{} lines", lines.len());
    let sums = with(&lines, "more failures, summed up");
    assert!(!sums.is_empty());
    let retried = with(&lines, "attempt failed").len() as u64 + sum(&sums, "retried");
    let given_up =
        with(&lines, "given up: stored as a dead letter").len() as u64 + sum(&sums, "dead_lettered");
    assert_eq!((retried, given_up), (MESSAGES as u64, MESSAGES as u64), "{sums:#?}");
    for line in sums {
        assert_eq!(
            (&line["level"], &line["target"], &line["stream"]),
            (&"WARN".into(), &"policy".into(), &"EVENTS".into())
        );
        assert!(["answered 500", "answered 400"].contains(&line["error"].as_str().expect("text")), "{line}");
        let [first, last] =
            ["first_sequence", "last_sequence"].map(|field| line[field].as_u64().expect("a number"));
        assert!(1 <= first && first <= last && last <= MESSAGES as u64, "{line}");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_over_and_over_is_summed_up_too() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).and("[dead_letter]\nmax_bytes = 1024").target(
        "policy",
        "PolicyUpdated",
        &receiver.url("/hook"),
        "",
    );
    let mut connector = Connector::start(&config).await;
    broker.publish_numbered("PolicyUpdated", 0..500).await;
    connector.wait_for_line(&["cannot store what was not delivered, summed up"]).await;
    connector.stop().await;

    let lines = lines(&connector);
    assert!(lines.len() < 50, "{} lines", lines.len());
    let sums = with(&lines, "cannot store what was not delivered, summed up");
    assert!(sums.iter().all(|line| line["level"] == "ERROR" && line["target"] == "policy"), "{sums:#?}");
    assert!(sum(&sums, "dead_letters") > 100, "{sums:#?}");
    assert_eq!(sum(&sums, "retries"), 0);
}
