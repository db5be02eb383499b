//! A real Prometheus watches a real natshook through every fault that has an alert. The rules are those of
//! alerts.yml with shorter times and smaller thresholds, and nothing else changed.

use std::collections::BTreeSet;

use async_nats::jetstream::stream;
use tokio::io::{AsyncWriteExt, BufStream};

use super::files::shown_queries;
use super::server::Prometheus;
use super::{alerts, promtool, repository};
use crate::support::connector::natshook_with;
use crate::support::peer::Peer;
use crate::support::receiver::Gate;
use crate::support::tools::tool;
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, secs, until, until_some};

/// What holds long in alerts.yml holds as long as this here, and windows are this wide.
const HOLD: &str = "2s";
const WINDOW: &str = "20s";
/// Thresholds that a test cannot wait for: the alert, its threshold, and what is taken instead.
const THRESHOLDS: [(&str, &str, &str); 3] = [
    ("NatshookBacklogOld", "> 900", "> 1"),
    ("NatshookMessagesNearMaxAge", "> 0.8", "> 0.0001"),
    ("NatshookRetryQueueGrowing", "> 100", "> 2"),
];

/// The rules with shorter times and smaller thresholds. Panics when a rule has none that was made shorter.
fn shortened(rules: &str) -> String {
    let (head, rest) = rules.split_once("- alert: ").unwrap();
    let blocks = rest.split("- alert: ").map(|block| {
        let mut short = block.to_owned();
        if let Some((before, after)) = short.clone().split_once("        for: ") {
            let (_, after) = after.split_once('\n').unwrap();
            short = format!("{before}        for: {HOLD}\n{after}");
        }
        let mut parts = short.split('[');
        let first = parts.next().unwrap_or_default().to_owned();
        short =
            parts.fold(first, |text, part| format!("{text}[{WINDOW}]{}", part.split_once(']').unwrap().1));
        for (_, from, to) in THRESHOLDS.iter().filter(|(alert, ..)| block.starts_with(alert)) {
            assert!(short.contains(from), "{from} in {block}");
            short = short.replace(from, to);
        }
        assert_ne!(short, block, "nothing was made shorter");
        short
    });
    format!("{head}- alert: {}", blocks.collect::<Vec<_>>().join("- alert: "))
}

#[test]
fn the_shortened_rules_differ_in_times_and_thresholds_only() {
    let rules = repository("deploy/prometheus/alerts.yml");
    let short = shortened(&rules);
    let numberless = |text: &str| text.replace(|c: char| c.is_ascii_digit() || c == '.', "");
    let unitless = |text: &str| {
        numberless(text).replace("[m]", "[s]").replace("for: m", "for: s").replace("for: d", "for: s")
    };
    assert_eq!(unitless(&rules), unitless(&short));
    let (long, short) = (alerts(&rules), alerts(&short));
    assert_eq!(long.len(), short.len());
    for (long, short) in long.iter().zip(&short) {
        assert!(long.hold != short.hold || long.expr != short.expr, "{}", long.name);
        assert!(short.hold.as_deref().is_none_or(|hold| hold == HOLD), "{}", long.name);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), shortened(&rules)).unwrap();
    if let Some((content, said)) = promtool(&["check", "rules", file.path().to_str().unwrap()], "") {
        assert!(content, "{said}");
    }
}

/// Passes requests on to natshook without their `Accept`, as a scraper sends them that knows no OpenMetrics.
async fn plain_scrapes_of(port: u16) -> Peer {
    Peer::start(move |tcp, _| async move {
        let mut stream = BufStream::new(tcp);
        while let Ok(Some(_)) = http::read_message(&mut stream).await {
            let Some(answer) = http::request(port, "GET", "/metrics", &[], b"").await else { return };
            let kind = answer.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("text/plain"), "{kind}");
            let head = format!(
                "{}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                answer.first_line,
                answer.body.len()
            );
            let sent = async {
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&answer.body).await?;
                stream.flush().await
            };
            if sent.await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Waits until all of `names` have fired at some time.
async fn fires(prometheus: &Prometheus, names: &[&str]) {
    for name in names {
        until(&format!("{name} fires"), secs(50), async || prometheus.fired().await.contains(*name)).await;
    }
}

/// A broker whose streams drop what is too old or too much.
async fn broker_with_limits() -> Broker {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    let aged = ["fine", "batched", "ordered", "down", "reject", "fail", "paused", "slow"]
        .map(str::to_owned)
        .to_vec();
    let aged = stream::Config {
        name: "EVENTS".to_owned(),
        subjects: aged,
        max_age: secs(3600),
        ..Default::default()
    };
    let small = stream::Config {
        name: "SMALL".to_owned(),
        subjects: vec!["lost".to_owned()],
        max_messages: 10,
        ..Default::default()
    };
    context.create_stream(aged).await.unwrap();
    context.create_stream(small).await.unwrap();
    broker
}

/// A target for each fault, and three without; targets may register.
fn config(broker: &Broker, receiver: &Receiver) -> Config {
    let url = |name: &str| receiver.url(&format!("/{name}"));
    Config::on(broker)
        .target("fine", "fine", &url("fine"), "")
        .target("batched", "batched", &url("batched"), "batch = { max_wait = \"10ms\" }")
        .target("ordered", "ordered", &url("ordered"), "order = \"target\"")
        .target("down", "down", &url("down"), "")
        .target("reject", "reject", &url("reject"), "")
        .target("fail", "fail", &url("fail"), "retry = { delays = [\"1h\"] }")
        .target("paused", "paused", &url("paused"), "")
        .target("lost", "lost", &url("lost"), "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }")
        .and("[registry]\nenabled = true\n[retry_queue]\nmax_bytes = 20000\n[dead_letter]\nmax_bytes = 20000")
}

async fn both_formats_tell_the_same(prometheus: &Prometheus) {
    let delivered = "natshook_attempts_total{target=\"fine\",outcome=\"delivered\"} == 5";
    until("both formats are scraped", secs(20), async || prometheus.query(delivered).await.len() == 2).await;
    let rows = |job: &str| format!("count({{__name__=~\"(natshook|process)_.*\",job=\"{job}\"}})");
    let (open, text) = (rows("natshook"), rows("natshook-text"));
    until("they tell the same rows", secs(20), async || {
        let (open, text) = (prometheus.value(&open).await, prometheus.value(&text).await);
        open.is_some_and(|rows| rows > 100.0) && open == text
    })
    .await;
}

#[tokio::test]
async fn both_formats_are_scraped_and_every_alert_fires_when_its_fault_happens_and_not_before() {
    let Some(program) = tool("prometheus") else { return };
    let mut broker = broker_with_limits().await;
    let receiver = Receiver::start().await;
    let config = config(&broker, &receiver);
    let mut natshook = Connector::start(&config).await;
    let plain = plain_scrapes_of(natshook.admin_port).await;
    let jobs = [("natshook", natshook.admin_port), ("natshook-text", plain.port)];
    let prometheus = Prometheus::start(&program, &jobs).await;

    // While all is well: the same rows in both formats, and no alert for longer than any has to hold.
    let surveyed = "natshook_oldest_undelivered_age_seconds == 0";
    // A question to the broker that meets these messages half-way would make them look old until the next.
    until("all targets are asked about", secs(20), async || prometheus.query(surveyed).await.len() == 16)
        .await;
    broker.publish_numbered("fine", 0..5).await;
    broker.publish_numbered("batched", 0..5).await;
    both_formats_tell_the_same(&prometheus).await;
    let rules = shortened(&repository("deploy/prometheus/alerts.yml"));
    prometheus.rules(&rules);
    until("the alerts are evaluated for a while", secs(20), async || prometheus.evaluated().await >= 8.0)
        .await;
    assert_eq!(prometheus.fired().await, BTreeSet::new());

    // A target that is down, one that refuses, one that fails; its retries and the dead letters find no room.
    receiver.always("/down", Answer::status(404));
    receiver.always("/reject", Answer::status(400));
    receiver.always("/fail", Answer::status(500));
    receiver.next("/lost", (0..3).map(|_| Answer::status(404)));
    broker.publish_numbered("down", 0..3).await;
    broker.publish_numbered("fail", 0..4).await;
    broker.wait_for_retries(4).await;
    for subject in ["fail", "reject"] {
        for _ in 0..2 {
            broker.publish(subject, vec![b'x'; 12_000]).await;
        }
    }
    // A stream that is too small for what comes while the breaker is open.
    broker.publish_numbered("lost", 0..3).await;
    natshook.wait_for_line(&["breaker opened", "\"lost\""]).await;
    broker.publish_numbered("lost", 3..43).await;
    // A paused target, and one that a changed config brings and whose receiver does not answer.
    let paused = natshook_with(&config, &["targets", "pause", "paused"]).await;
    assert_eq!(paused.code, 0, "{}", paused.all());
    let nobody = natshook_with(&config, &["target", "get", "nobody"]).await;
    assert_eq!(nobody.code, 1, "{}", nobody.all());
    let gate = Gate::closed();
    receiver.always("/slow", Answer::ok().behind(&gate));
    broker.publish_numbered("slow", 0..20).await;
    let more = "concurrency = 1\nstart = \"all\"\ntimeout = \"5m\"";
    natshook.write_config(&config.clone().target("slow", "slow", &receiver.url("/slow"), more).text());
    // Another natshook with another config, that starts again and again, and in the end does not.
    let other =
        Config::on(&broker).top("name = \"other\"").target("fine", "fine", &receiver.url("/other"), "");
    prometheus.scrape("natshook", &[natshook.admin_port, other.admin_port]);
    start_again_and_again(&prometheus, &other).await;
    fires(&prometheus, &["NatshookConfigsDiffer", "NatshookInstanceDown"]).await;

    fires(&prometheus, &["NatshookTargetDown", "NatshookTargetPaused", "NatshookBacklogOld"]).await;
    fires(&prometheus, &["NatshookMessagesNearMaxAge", "NatshookMessagesLost"]).await;
    fires(&prometheus, &["NatshookDeadLettersRising", "NatshookDeadLetterStoreFailing"]).await;
    fires(&prometheus, &["NatshookRetryStoreFailing", "NatshookRetryQueueGrowing"]).await;

    what_is_shown_has_rows(&prometheus).await;
    natshook.write_config("this is no config");
    fires(&prometheus, &["NatshookConfigRefused"]).await;
    broker.kill9();
    fires(&prometheus, &["NatshookBrokerGone"]).await;
    natshook.kill9();
    fires(&prometheus, &["NatshookGone"]).await;

    let all: BTreeSet<String> = alerts(&rules).into_iter().map(|alert| alert.name).collect();
    assert_eq!(prometheus.fired().await, all);
}

/// Parsing is not all: labels must match as well, which only data shows.
async fn what_is_shown_has_rows(prometheus: &Prometheus) {
    for query in shown_queries() {
        // The last condition of a query may leave nothing over.
        let condition = |sign| query.trim_end().rsplit_once(sign);
        let (asked, _) = condition(" > ").or_else(|| condition(" == ")).unwrap_or((&query, ""));
        let asked = if asked.matches('(').count() == asked.matches(')').count() { asked } else { &query };
        assert!(!prometheus.query(asked).await.is_empty(), "{asked} has no rows");
    }
}

/// Starts, each of which Prometheus sees, until the alert for that fires; and then none.
async fn start_again_and_again(prometheus: &Prometheus, config: &Config) {
    let started = format!("process_start_time_seconds{{instance=\"127.0.0.1:{}\"}}", config.admin_port);
    let mut last = None;
    for _ in 0..12 {
        let mut connector = Connector::start(config).await;
        last = until_some("Prometheus sees the start", secs(20), async || {
            let now = prometheus.value(&started).await;
            (now.is_some() && now != last).then_some(now)
        })
        .await;
        connector.kill9();
        if prometheus.fired().await.contains("NatshookRestarting") {
            return;
        }
    }
    panic!("twelve starts, and no alert");
}
