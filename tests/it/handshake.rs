//! The handshake of CloudEvents webhooks: a receiver that is asked consents before anything is delivered to it.

use std::time::Duration;

use crate::support::receiver::Received;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, throughout};

fn consent(origin: &str, rate: &str) -> Answer {
    Answer::ok().header("WebHook-Allowed-Origin", origin).header("WebHook-Allowed-Rate", rate)
}

fn of_method(receiver: &Receiver, path: &str, method: &str) -> Vec<Received> {
    receiver.at(path).into_iter().filter(|request| request.method == method).collect()
}

fn delivered(receiver: &Receiver) -> Vec<Received> {
    of_method(receiver, "/hook", "POST")
}

/// How long it took from the first of the deliveries to the last.
fn span(deliveries: &[Received]) -> Duration {
    deliveries[deliveries.len() - 1].at - deliveries[0].at
}

#[tokio::test]
async fn a_receiver_is_asked_first_and_every_delivery_names_who_asked() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [consent("events.example.com", "*")]);
    let more = "handshake = { origin = \"events.example.com\" }\nrate = \"2/s\"\nauth = { bearer = \"t0ken\" }\n\
                signing = { secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;

    let seen = receiver.wait_for("/hook", 2).await;
    let [asked, delivered] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((asked.method.as_str(), delivered.method.as_str()), ("OPTIONS", "POST"));
    for request in [asked, delivered] {
        assert_eq!(request.header("webhook-request-origin").as_deref(), Some("events.example.com"));
        assert_eq!(request.header("authorization").as_deref(), Some("Bearer t0ken"));
    }
    assert_eq!(asked.header("webhook-request-rate").as_deref(), Some("120"));
    assert!(asked.body.is_empty() && asked.header("webhook-signature").is_none());
    assert!(delivered.header("webhook-signature").is_some());
    assert_eq!(delivered.header("webhook-request-rate"), None);
}

#[tokio::test]
async fn a_target_that_does_not_ask_says_nothing_of_it_and_one_that_overrides_the_defaults_neither() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/asks", [consent("*", "*")]);
    let config = Config::on(&broker)
        .and("[defaults]\nhandshake = true")
        .target("silent", "a", &receiver.url("/silent"), "handshake = false")
        .target("asks", "a", &receiver.url("/asks"), "");
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;

    let asked = receiver.wait_for("/asks", 2).await;
    assert_eq!(asked[0].header("webhook-request-origin").as_deref(), Some("natshook"), "the instance's name");
    assert_eq!(asked[0].header("webhook-request-rate"), None, "it has no rate of its own");
    let silent = receiver.wait_for("/silent", 1).await;
    assert_eq!(silent[0].method, "POST");
    assert_eq!(silent[0].header("webhook-request-origin"), None);
}

#[tokio::test]
async fn nothing_is_delivered_and_nothing_charged_before_the_receiver_consents() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    receiver.next("/hook", [Answer::status(500)]);
    let more = "retry = { delays = [\"1s\", \"1s\"], jitter = 0 }";
    let mut before = Connector::start(&Config::on(&broker).target("policy", "a", &url, more)).await;
    broker.publish("a", "retried").await;
    broker.wait_for_retries(1).await;
    before.stop().await;
    receiver.always("/hook", Answer::ok());

    let config = Config::on(&broker).target("policy", "a", &url, &format!("{more}\nhandshake = true"));
    let connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..3).await;
    let line =
        connector.wait_for_line(&["ERROR", "does not consent", "without WebHook-Allowed-Origin"]).await;
    assert!(line.contains("answered 200"), "{line}");
    throughout("nothing is delivered", secs(3), async || delivered(&receiver).len() == 1).await;
    assert_eq!(broker.outstanding("EVENTS", "natshook-policy").await, Some((3, 0)), "nothing is taken");

    receiver.always("/hook", consent("natshook", "*"));
    receiver.wait_long_for("/hook", 7, secs(40)).await;
    broker.wait_until_settled("policy").await;
    let attempts: Vec<_> = delivered(&receiver)
        .iter()
        .skip(1)
        .map(|r| (String::from_utf8_lossy(&r.body).into_owned(), r.header("natshook-attempt").unwrap()))
        .collect();
    assert_eq!(attempts.len(), 4);
    for (body, attempt) in attempts {
        assert_eq!(attempt, if body == "retried" { "2" } else { "1" }, "{body}");
    }
}

#[tokio::test]
async fn the_granted_rate_bounds_deliveries() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [consent("*", "300")]);
    let more = "handshake = true\nrate = \"100/s\"";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..8).await;

    receiver.wait_for("/hook", 9).await;
    let span = span(&delivered(&receiver));
    assert!(span >= millis(1300), "300 a minute are 5 a second: {span:?} for 8");
}

#[tokio::test]
async fn a_generous_receiver_does_not_raise_the_target_s_own_rate() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [consent("*", "60000")]);
    let more = "handshake = true\nrate = \"5/s\"";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..8).await;

    receiver.wait_for("/hook", 9).await;
    let span = span(&delivered(&receiver));
    assert!(span >= millis(1300), "{span:?} for 8");
}

#[tokio::test]
async fn a_receiver_that_is_down_is_asked_again_and_core_messages_wait_for_its_consent() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(503)]);
    receiver.always("/hook", consent("*", "*"));
    let config = Config::on(&broker).top("source = \"core\"");
    let config = config.target("policy", "a", &receiver.url("/hook"), "handshake = true");
    let connector = Connector::start(&config).await;
    let client = broker.client().await;
    client.publish("a", "1".into()).await.unwrap();
    client.flush().await.unwrap();

    connector.wait_for_line(&["WARN", "cannot be asked for its consent", "answered 503"]).await;
    let seen = receiver.wait_long_for("/hook", 3, secs(40)).await;
    let methods: Vec<_> = seen.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["OPTIONS", "OPTIONS", "POST"]);
    assert!(seen[1].at - seen[0].at >= secs(8), "not at once");
}
