//! Start, readiness and the end.

use std::collections::HashSet;
use std::time::Instant;

use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE};
use crate::support::faults::Fault;
use crate::support::receiver::Gate;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

#[tokio::test]
async fn a_drain_under_load_loses_nothing_and_repeats_nothing() {
    for (signal, concurrency) in [("TERM", 64), ("INT", 3)] {
        let broker = Broker::start().await;
        let receiver = Receiver::start().await;
        receiver.always("/hook", Answer::ok().after(millis(30)));
        let more = format!("concurrency = {concurrency}");
        let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
        let mut connector = Connector::start(&config).await;
        broker.publish_numbered("a", 0..1_000).await;

        // Stopped and started again in the middle, twice.
        for stopped_after in [100, 300] {
            receiver.wait_for("/hook", stopped_after).await;
            connector.signal(signal);
            let status = connector.wait_for_exit(secs(10)).await;
            assert_eq!(status.code(), Some(0), "{signal}");
            // What it had taken and not begun is given back, and so is not lost to the next one.
            until("every message is either settled or waits", secs(5), async || {
                let (pending, unacked) = broker.outstanding(EVENTS, "natshook-policy").await.unwrap();
                pending as usize + unacked + receiver.count("/hook") == 1_000
            })
            .await;
            connector = Connector::start(&config).await;
        }

        receiver.wait_for("/hook", 1_000).await;
        broker.wait_until_settled("policy").await;
        let bodies = receiver.bodies("/hook");
        let distinct: HashSet<_> = bodies.iter().collect();
        assert_eq!((bodies.len(), distinct.len()), (1_000, 1_000), "every message exactly once");
    }
}

#[tokio::test]
async fn a_rolling_restart_loses_nothing_and_repeats_nothing() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(20)));
    let config = || Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 4");
    let mut replicas = [Connector::start(&config()).await, Connector::start(&config()).await];
    broker.publish_numbered("a", 0..800).await;

    for i in [0, 1, 0] {
        let seen = receiver.count("/hook");
        receiver.wait_for("/hook", seen + 50).await;
        replicas[i].stop().await;
        replicas[i] = Connector::start(&config()).await;
    }

    receiver.wait_for("/hook", 800).await;
    broker.wait_until_settled("policy").await;
    let bodies = receiver.bodies("/hook");
    let distinct: HashSet<_> = bodies.iter().collect();
    assert_eq!((bodies.len(), distinct.len()), (800, 800), "every message exactly once");
}

#[tokio::test]
async fn a_drain_waits_for_the_answers_that_are_on_their_way() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.always("/hook", Answer::ok().behind(&gate));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 200");
    let mut connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..200).await;
    receiver.wait_for("/hook", 200).await;

    connector.signal("TERM");
    connector.wait_for_line(&["drain"]).await;
    assert!(connector.exited().is_none(), "it waits");
    gate.open();

    assert_eq!(connector.wait_for_exit(secs(10)).await.code(), Some(0));
    let settled = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0));
    until("every answer is acked", secs(2), settled).await;
}

#[tokio::test]
async fn a_draining_natshook_is_not_ready() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(Fault::NeverAnswer));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;

    connector.signal("TERM");

    until("not ready any more", secs(5), async || connector.get("/readyz").await.0 == 503).await;
}

#[tokio::test]
async fn what_a_drain_cannot_finish_goes_back_to_the_broker() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::fault(Fault::NeverAnswer)]);
    let config = Config::on(&broker)
        .target("policy", "a", &receiver.url("/hook"), "")
        .and("[shutdown]\ngrace_period = \"2s\"");
    let mut connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;

    let asked = Instant::now();
    connector.stop().await;
    assert!(asked.elapsed() >= millis(1_500) && asked.elapsed() < secs(5), "{:?}", asked.elapsed());
    let _connector = Connector::start(&config).await;

    // Much sooner than `ack_wait`, which is 20 s.
    let seen = receiver.wait_long_for("/hook", 2, secs(8)).await;
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("1"));
    assert_eq!(broker.count(RETRY_QUEUE).await + broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::fault(Fault::NeverAnswer));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
    connector.signal("TERM");
    connector.wait_for_line(&["drain"]).await;
    assert!(connector.exited().is_none());

    connector.signal("TERM");

    let status = connector.wait_for_exit(secs(2)).await;
    assert_ne!(status.code(), Some(0), "it says that it did not finish");
    assert_eq!(broker.outstanding(EVENTS, "natshook-policy").await, Some((0, 1)), "nothing is acked");
}

#[tokio::test]
async fn natshook_waits_for_a_broker_that_is_not_there_yet() {
    let mut broker = Broker::prepare("", async_nats::ConnectOptions::new());
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::spawn(&config, &[]);
    assert_eq!(connector.get("/healthz").await.0, 200);
    assert_eq!(connector.get("/readyz").await.0, 503);
    let line = connector.wait_for_line(&["WARN", &broker.port.to_string()]).await;
    assert!(line.contains("broker") || line.contains("nats"), "{line}");

    broker.restart().await;

    connector.wait_until_ready().await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
}

#[tokio::test]
async fn natshook_can_be_stopped_while_it_waits_for_the_broker() {
    let broker = Broker::prepare("", async_nats::ConnectOptions::new());
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let mut connector = Connector::spawn(&config, &[]);
    assert_eq!(connector.get("/healthz").await.0, 200);

    let asked = Instant::now();
    connector.stop().await;

    assert!(asked.elapsed() < secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_broker_without_jetstream_is_an_error_that_names_the_way_out() {
    let broker = Broker::start_without_jetstream().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let mut connector = Connector::spawn(&config, &[]);

    let status = connector.wait_for_exit(secs(15)).await;

    assert_eq!(status.code(), Some(1), "{}", connector.output());
    let output = connector.output();
    assert!(output.contains("JetStream"), "{output}");
    assert!(output.contains("source = \\\"core\\\"") || output.contains("source = \"core\""), "{output}");
}

#[tokio::test]
async fn a_subject_that_no_stream_holds_is_an_error_when_natshook_may_not_create_one() {
    let broker = Broker::start().await;
    let config = Config::on(&broker).stream_instead("create = false").target(
        "policy",
        "orders.>",
        "http://127.0.0.1:1/",
        "",
    );
    let connector = Connector::spawn(&config, &[]);

    let line = connector.wait_for_line(&["ERROR", "orders.>"]).await;

    assert!(line.contains("stream"), "{line}");
    assert_eq!(connector.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn an_admin_address_that_is_taken_is_an_error_that_names_it() {
    let broker = Broker::start().await;
    let mut config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.admin_port = occupied.local_addr().unwrap().port();
    let mut connector = Connector::spawn(&config, &[]);

    let status = connector.wait_for_exit(secs(10)).await;

    assert_eq!(status.code(), Some(1), "{}", connector.output());
    assert!(connector.output().contains(&config.admin_port.to_string()), "{}", connector.output());
}
