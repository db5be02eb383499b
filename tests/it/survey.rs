//! What waits for a target, and how old it is: asked of the broker seldom, and true.

use std::collections::HashMap;

use futures_util::StreamExt;

use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

async fn metric(connector: &Connector, name: &str, target: &str) -> Option<f64> {
    let (_, text) = connector.get("/metrics").await;
    let line = format!("natshook_{name}{{target=\"{target}\"}}");
    text.lines().find_map(|l| l.strip_prefix(&line)?.trim().parse().ok())
}

#[tokio::test]
async fn the_backlog_of_a_sick_target_and_its_age_are_known() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/sick", Answer::status(404));
    let retry = "retry = { delays = [\"1h\"] }\nconcurrency = 4";
    let config = Config::on(&broker).target("sick", "b, c.*", &receiver.url("/sick"), retry).target(
        "fine",
        "a",
        &receiver.url("/fine"),
        "",
    );
    let connector = Connector::start(&config).await;
    // Older than anything that waits for the sick target, and in the same stream.
    broker.publish_numbered("a", 0..20).await;
    broker.publish_numbered("b", 0..20).await;
    broker.publish_numbered("c.d", 0..20).await;
    let published = std::time::Instant::now();
    connector.wait_for_line(&["breaker opened", "sick"]).await;

    let age = async || metric(&connector, "oldest_undelivered_age_seconds", "sick").await.unwrap_or_default();
    until("the age is known, and grows", secs(60), async || age().await > 20.0).await;

    let (real, told) = (published.elapsed().as_secs_f64(), age().await);
    assert!((real - told).abs() < 5.0, "{real} {told}");
    assert!(metric(&connector, "pending_messages", "sick").await.unwrap_or_default() >= 30.0);
    assert_eq!(metric(&connector, "pending_messages", "fine").await, Some(0.0));
    assert_eq!(metric(&connector, "oldest_undelivered_age_seconds", "fine").await, Some(0.0));
    assert!(metric(&connector, "retry_queue_messages", "sick").await.unwrap_or_default() >= 3.0);
    assert_eq!(metric(&connector, "source_max_age_seconds", "sick").await, None, "the stream keeps all");

    receiver.always("/sick", Answer::ok());
    until("nothing waits any more", secs(90), async || {
        metric(&connector, "pending_messages", "sick").await == Some(0.0) && age().await == 0.0
    })
    .await;
}

#[tokio::test]
async fn the_broker_is_asked_about_a_target_once_in_15_seconds_at_most() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/sick", Answer::status(404));
    let mut config = Config::on(&broker);
    for target in ["one", "two", "three"] {
        let retry = "retry = { delays = [\"1h\"] }\nconcurrency = 2";
        config = config.target(target, "b", &receiver.url("/sick"), retry);
    }
    let connector = Connector::start(&config).await;
    broker.publish_numbered("b", 0..20).await;
    until("what waits is known", secs(40), async || {
        metric(&connector, "pending_messages", "three").await.is_some_and(|pending| pending > 0.0)
    })
    .await;
    let client = broker.client().await;
    let mut asked = client.subscribe("$JS.API.>").await.unwrap();
    client.flush().await.unwrap();

    let mut counts: HashMap<String, usize> = HashMap::new();
    let listening = async {
        while let Some(message) = asked.next().await {
            *counts.entry(message.subject.to_string()).or_default() += 1;
        }
    };
    let _ = tokio::time::timeout(secs(46), listening).await;

    let count = |words: &[&str]| {
        let asked = counts.iter().filter(|(subject, _)| words.iter().any(|word| subject.contains(word)));
        asked.map(|(_, n)| n).sum::<usize>()
    };
    // How far its consumer is, and how old the oldest message is where that has moved: three targets in three spans.
    let about_targets = count(&["CONSUMER.INFO.EVENTS.", "STREAM.MSG.GET.EVENTS"]);
    assert!((3..=3 * 4).contains(&about_targets), "{counts:?}");
    // Beside that, what natshook's own two streams hold and the source stream's limits, and nothing else.
    assert!(count(&["STREAM.INFO."]) <= 2 * 4 + 1, "{counts:?}");
    assert!(!counts.keys().any(|subject| subject.contains("STREAM.NAMES")), "{counts:?}");
}
