//! A target's lane: how many requests it has in flight, and who gets its places.

use std::time::{Duration, Instant};

use crate::support::broker::DEAD_LETTERS;
use crate::support::certs::Certs;
use crate::support::receiver::Received;
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, millis, secs, until};

/// One value of `/metrics`.
async fn metric(connector: &Connector, line: &str) -> Option<f64> {
    let (_, text) = connector.get("/metrics").await;
    text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
}

async fn limit(connector: &Connector) -> Option<f64> {
    metric(connector, "natshook_lane_limit{target=\"policy\"}").await
}

#[tokio::test]
async fn an_adaptive_lane_begins_low_grows_while_latency_holds_and_halves_at_a_429() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(100)));
    let more = "concurrency = { max = 12, adaptive = true }\nretry = { delays = [\"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..300).await;

    receiver.wait_for("/hook", 4).await;
    assert!(receiver.most_in_flight("/hook") <= 5, "it begins with 4, and one more after a round");
    until("the lane grows to what is allowed", secs(30), async || limit(&connector).await == Some(12.0))
        .await;
    receiver.wait_long_for("/hook", 300, secs(30)).await;
    assert!(receiver.most_in_flight("/hook") <= 12);

    receiver.next("/hook", [Answer::status(429)]);
    broker.publish("a", "one too many").await;

    until("the lane is halved", secs(10), async || limit(&connector).await == Some(6.0)).await;
    receiver.wait_for("/hook", 302).await;
}

#[tokio::test]
async fn a_lane_whose_receiver_lets_requests_wait_stops_growing() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(100)).by_workers(4));
    let more = "concurrency = { max = 200, adaptive = true }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..400).await;

    receiver.wait_long_for("/hook", 400, secs(60)).await;
    let most = receiver.most_in_flight("/hook");
    // About eight, twice what the receiver works on at a time, and some more until the average shows it; it could be 200.
    assert!((4..=20).contains(&most), "{most}");
}

/// The most requests of `seen` that were in flight together, each for `long`.
fn most_together<'a>(seen: impl Iterator<Item = &'a Received> + Clone, long: Duration) -> usize {
    let together = |at: Instant| seen.clone().filter(|r| r.at <= at && at < r.at + long).count();
    seen.clone().map(|r| together(r.at)).max().unwrap_or_default()
}

#[tokio::test]
async fn retries_and_fresh_messages_leave_each_other_their_share_of_a_lane() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let long = millis(300);
    receiver.next("/hook", (0..9).map(|_| Answer::status(500)));
    receiver.always("/hook", Answer::ok().after(long));
    let more = "concurrency = 10\nretry = { delays = [\"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..300).await;

    let seen = receiver.wait_long_for("/hook", 309, secs(60)).await;
    let is_retry = |r: &&Received| r.header("natshook-attempt").as_deref() == Some("2");
    let last_fresh = seen.iter().filter(|r| !is_retry(r)).map(|r| r.at).max().unwrap();
    let among_fresh = seen.iter().filter(|r| is_retry(r) && r.at + long < last_fresh);
    assert!(among_fresh.clone().count() >= 6, "fresh messages do not starve retries");
    // Two of ten while fresh messages use the rest (`lane::permits` has the rule). Where several fresh attempts end
    // together, as these do that began together, their places are free until the next messages have come, and retries
    // may use those too; but never the last two, so that fresh messages go on.
    assert!(most_together(among_fresh.clone(), millis(250)) <= 8, "the last fifth is for fresh messages");
    let (first, last) = (among_fresh.clone().map(|r| r.at).min(), among_fresh.map(|r| r.at).max());
    let fresh_meanwhile =
        seen.iter().filter(|r| !is_retry(r) && Some(r.at) > first && Some(r.at) < last).count();
    assert!(fresh_meanwhile > 0, "retries do not starve fresh messages: {fresh_meanwhile}");
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn names_connections_certificates_and_the_guard_fail_under_names_of_their_own() {
    let broker = Broker::start().await;
    let plain = Receiver::start().await;
    let certs = Certs::in_folder(broker.dir());
    let self_signed = Receiver::start_tls(certs.server_config()).await;
    let url = |scheme: &str, host: &str, port: u16| format!("{scheme}://{host}:{port}/hook");
    // 127.0.0.2 is where nobody listens; `localhost` is 127.0.0.1 or ::1, which the guard does not allow here.
    let config = Config::on(&broker)
        .egress_instead("allow = [\"127.0.0.2/31\"]\nallow_http = true")
        .target("dns", "a", &url("https", "no-such-host.invalid", 443), "")
        .target("refused", "a", &url("http", "127.0.0.2", free_port()), "")
        .target("guarded", "a", &url("http", "localhost", plain.port), "");
    let connector = Connector::start(&config).await;
    let tls = Config::on(&broker).top("name = \"other\"").target("tls", "a", &self_signed.url("/hook"), "");
    let other = Connector::start(&tls).await;

    broker.publish("a", "{}").await;

    for (connector, target, outcome, end) in [
        (&connector, "dns", "target_fault", "dns"),
        (&connector, "refused", "transient", "connection_refused"),
        (&connector, "guarded", "target_fault", "egress_refused"),
        (&other, "tls", "target_fault", "tls"),
    ] {
        let line =
            format!("natshook_attempts_total{{target=\"{target}\",outcome=\"{outcome}\",end=\"{end}\"}}");
        until(&line, secs(20), async || metric(connector, &line).await == Some(1.0)).await;
    }
    for end in ["dns: ", "connection refused: ", "egress refused: "] {
        connector.wait_for_line(&["attempt failed", end]).await;
    }
    other.wait_for_line(&["attempt failed", "tls: "]).await;
    assert_eq!(plain.count("/hook"), 0);
}
