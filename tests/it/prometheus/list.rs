//! docs/metrics.md lists what the code can show, no more and no less, and a natshook shows what the list says.

use std::collections::BTreeSet;

use natshook::breaker::BreakerState;
use natshook::disposition::Reason;
use natshook::metrics::{FAMILIES, Kind};
use natshook::outcome::EndKind;

use super::{promtool, repository};
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, secs, until};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A line of the docs' tables, or a family of the code, in one form.
type Listed = (String, &'static str, Vec<String>);

fn kind(word: &str) -> &'static str {
    match word {
        "counter" => "counter",
        "gauge" => "gauge",
        "histogram" => "histogram",
        other => panic!("{other} is no type of metric"),
    }
}

fn in_code() -> BTreeSet<Listed> {
    let listed = FAMILIES.iter().map(|family| {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        (family.name.to_owned(), kind, family.labels.iter().map(ToString::to_string).collect())
    });
    listed.collect()
}

fn in_docs() -> BTreeSet<Listed> {
    let docs = repository("docs/metrics.md");
    let rows =
        docs.lines().filter(|line| line.starts_with("| `natshook_") || line.starts_with("| `process_"));
    let listed = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let kind = kind(cells[2].split(',').next().unwrap());
        assert!(cells[2].contains(','), "{row} names a unit");
        assert!(!cells[4].is_empty() && !cells[5].is_empty(), "{row} tells what it means and when it moves");
        (ticked(cells[1]).remove(0), kind, ticked(cells[3]))
    });
    listed.collect()
}

#[test]
fn the_docs_list_every_metric_with_its_type_and_its_labels() {
    assert_eq!(in_docs(), in_code());
}

#[test]
fn the_docs_list_every_word_that_a_label_can_be() {
    let docs = repository("docs/metrics.md");
    let (_, labels) = docs.split_once("\n## Labels\n").unwrap();
    let ends = EndKind::ALL.map(EndKind::as_str);
    let reasons = Reason::ALL.map(Reason::as_str);
    let states = BreakerState::ALL.map(BreakerState::as_str);
    for word in ends.iter().chain(&reasons).chain(&states) {
        assert!(labels.contains(&format!("`{word}`")), "docs/metrics.md does not list the label {word}");
    }
}

/// Name, type and labels of what an answer of /metrics in Prometheus's own format holds.
fn shown(text: &str) -> BTreeSet<Listed> {
    let mut families = BTreeSet::new();
    for (name, word) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let rows = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| {
            let rest =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
            rest.starts_with(['{', ' '])
        });
        for row in rows {
            let labels = row.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |l| l.0);
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            families.insert((name.to_owned(), kind(word), names.filter(|name| name != "le").collect()));
        }
    }
    families
}

#[tokio::test]
async fn what_a_natshook_shows_is_listed_and_passes_promtool_and_all_that_is_listed_is_shown() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let stream = async_nats::jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["a".to_owned()],
        max_age: secs(3600),
        ..Default::default()
    };
    broker.jetstream_context().await.create_stream(stream).await.unwrap();
    receiver.next("/hook", [Answer::status(500), Answer::status(404), Answer::status(400)]);
    let config = Config::on(&broker)
        .target("policy", "a", &receiver.url("/hook"), "retry = { delays = [\"1h\"] }")
        .target("bulk", "a", &receiver.url("/bulk"), "batch = {}")
        .target("ordered", "a", &receiver.url("/ordered"), "order = \"subject\"")
        .and("[registry]\nenabled = true");
    let connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..5).await;
    receiver.wait_for("/hook", 5).await;
    broker.wait_for_dead_letters(1).await;

    let known = in_code();
    let text = async || connector.get("/metrics").await.1;
    // What is asked of the broker comes by and by.
    until("everything is shown", secs(40), async || shown(&text().await) == known).await;

    let text = text().await;
    if let Some((content, said)) = promtool(&["check", "metrics"], &text) {
        assert!(content && said.is_empty(), "promtool check metrics: {said}\n{text}");
    }
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let open = http::request(connector.admin_port, "GET", "/metrics", &accept, b"").await.unwrap();
    assert_eq!(open.header("content-type").as_deref(), Some(OPENMETRICS));
    assert!(open.body.ends_with(b"\n# EOF\n"));
    let plain = http::request(connector.admin_port, "GET", "/metrics", &[], b"").await.unwrap();
    assert_eq!(plain.header("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
}
