//! `natshook dead-letters`: what it lists, shows, watches and purges, and that nothing of it steers a terminal.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::{DEAD_LETTERS, publish_raw};
use crate::support::connector::{Finished, Running, natshook_with};
use crate::support::{Answer, Broker, Config, Connector, Receiver, letters, secs, until};

const WINDOW: Duration = Duration::from_secs(120);

fn two_targets(broker: &Broker) -> Config {
    let nobody = "http://127.0.0.1:1/";
    Config::on(broker).target("one", "a", nobody, "").target("two", "b", nobody, "")
}

async fn dead_letters(config: &Config, args: &[&str]) -> Finished {
    natshook_with(config, &[&["dead-letters"], args].concat()).await
}

/// The ids of a list for people.
fn ids(finished: &Finished) -> Vec<u64> {
    let first = |line: &str| line.split(' ').next().and_then(|id| id.parse().ok());
    finished.stdout.lines().filter_map(first).collect()
}

#[tokio::test]
async fn letters_are_listed_by_target_reason_and_time() {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "one", 0..700).await;
    letters::store(&context, "two", 0..3).await;
    letters::store(&context, "gone", 0..1).await;
    let config = two_targets(&broker);
    let list = async |args: &[&str]| dead_letters(&config, &[&["list"], args].concat()).await;

    let all = list(&[]).await;
    assert_eq!((all.code, ids(&all)), (0, (1..=704).collect::<Vec<_>>()), "{}", all.stderr);
    let heading = all.stdout.lines().next().unwrap();
    assert!(heading.starts_with("ID ") && heading.ends_with("ERROR"), "{heading}");
    assert!(all.stdout.lines().nth(1).unwrap().contains("attempts_exhausted"), "{}", all.stdout);

    assert_eq!(ids(&list(&["--target", "two"]).await), [701, 702, 703]);
    assert_eq!(ids(&list(&["--target", "gone"]).await), [704], "a target that left the config");
    assert_eq!(ids(&list(&["--limit", "2", "--after", "5"]).await), [6, 7]);
    assert_eq!(ids(&list(&["--reason", "too_old"]).await), [0; 0]);
    assert_eq!(ids(&list(&["--since", "1h"]).await).len(), 704);
    let cut = broker.jetstream_context().await.get_stream(DEAD_LETTERS).await.unwrap();
    let cut = cut.get_raw_message(702).await.unwrap().time;
    let cut = humantime::format_rfc3339_nanos(cut.into()).to_string();
    assert_eq!(ids(&list(&["--since", &cut]).await), [702, 703, 704]);
    assert_eq!(ids(&list(&["--since", &cut, "--target", "two"]).await), [702, 703]);
    assert_eq!(ids(&list(&["--before", &cut]).await).len(), 701);

    for (wrong, known) in [
        (["--target", "on"], "known are gone, one, two"),
        (["--reason", "bored"], "known are attempts_exhausted, too_old"),
        (["--since", "yesterday"], "a span such as 2h"),
    ] {
        let finished = list(&wrong).await;
        assert_eq!(finished.code, 2, "{wrong:?} {}", finished.all());
        assert!(finished.stderr.contains(known), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_letter_is_shown_and_told_as_json() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(422).body("no such policy"));
    let config = Config::on(&broker).target("policy", "orders.*", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    let headers = [("X-Own", "1"), ("X-Own", "2"), ("Nats-Msg-Id", "id.7")];
    broker.publish_with_headers("orders.1", &headers, "{\"é\": 1}").await;
    broker.publish("orders.2", b"\x00\xff").await;
    broker.wait_for_dead_letters(2).await;

    let json = dead_letters(&config, &["list", "--json"]).await;
    let letters: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = letters.iter().find(|letter| letter["subject"] == "orders.1").unwrap();
    for (name, value) in [
        ("target", "policy".into()),
        ("reason", "permanent_status".into()),
        ("attempts", 1.into()),
        ("last_status", 422.into()),
        ("response", "no such policy".into()),
        ("stream", "EVENTS".into()),
        ("webhook_id", "id%2E7".into()),
        ("body", "{\"é\": 1}".into()),
        ("replayed", Value::Null),
        ("headers", serde_json::json!({ "X-Own": ["1", "2"], "Nats-Msg-Id": ["id.7"] })),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    let second = letters.iter().find(|letter| letter["subject"] == "orders.2").unwrap();
    assert_eq!((second["body_base64"].as_str(), &second["body"]), (Some("AP8="), &Value::Null));

    let id = first["id"].to_string();
    let shown = dead_letters(&config, &["show", &id]).await;
    assert_eq!(shown.code, 0, "{}", shown.all());
    for text in ["last error     answered 422", "X-Own: 2", "{\"é\": 1}", "webhook-id     id%2E7"] {
        assert!(shown.stdout.contains(text), "{text}\n{}", shown.stdout);
    }
    assert_eq!(dead_letters(&config, &["show", &id, "--json"]).await.stdout.trim(), first.to_string());
    assert_eq!(dead_letters(&config, &["show", &id, "--body"]).await.stdout, "{\"é\": 1}");
    let missing = dead_letters(&config, &["show", "99"]).await;
    assert_eq!((missing.code, missing.stderr.trim()), (1, "there is no dead letter 99"));
}

#[tokio::test]
async fn letters_that_strangers_wrote_are_listed_and_steer_nothing() {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    let clear = "\u{1b}[2J\u{9b}2J\u{202e}";
    let headers = [("Natshook-Subject", clear), ("Natshook-Last-Error", clear), ("Natshook-Attempts", "-1")];
    broker.publish_with_headers("natshook.dead-letter.one", &headers, clear).await;
    // The client itself cannot read this one.
    publish_raw(&broker, "natshook.dead-letter.one", b"Natshook-Reason: \xff\xfe\r\nX-Own: 1", b"2").await;
    broker.publish("natshook.dead-letter.\u{9b}é", "3").await;
    letters::store(&context, "two", 0..1).await;
    let config = two_targets(&broker);

    for args in [&["list"][..], &["list", "--json"], &["show", "1"], &["show", "2"], &["show", "3", "--json"]]
    {
        let finished = dead_letters(&config, args).await;
        assert_eq!(finished.code, 0, "{args:?} {}", finished.all());
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!finished.all().contains(steers), "{args:?} {:?}", finished.all());
    }
    assert_eq!(ids(&dead_letters(&config, &["list"]).await), [1, 2, 3, 4]);
    let json = dead_letters(&config, &["show", "2", "--json"]).await;
    let letter: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&letter["headers"], &letter["body"]), (&serde_json::json!({ "X-Own": ["1"] }), &"2".into()));
}

#[tokio::test]
async fn letters_are_watched_as_they_come() {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "one", 0..5).await;
    let output = tempfile::NamedTempFile::new().unwrap();
    let config = two_targets(&broker);
    let watch = ["dead-letters", "watch", "--target", "one"];
    let _watching = Running::start(&config, &watch, Stdio::from(output.reopen().unwrap()));
    let seen = || std::fs::read_to_string(output.path()).unwrap();
    until("it watches", secs(20), async || seen().starts_with("ID ")).await;

    letters::store(&context, "two", 0..1).await;
    publish_raw(&broker, "natshook.dead-letter.one", b"Natshook-Reason: \xff\xfe", b"").await;
    letters::store(&context, "one", 7..9).await;

    until("three are seen", secs(20), async || seen().lines().count() == 4).await;
    let ids: Vec<String> =
        seen().lines().skip(1).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(ids, ["7", "8", "9"]);
}

#[tokio::test]
async fn letters_of_core_nats_are_watched_and_no_others_are_there() {
    let broker = Broker::start_without_jetstream().await;
    let output = tempfile::NamedTempFile::new().unwrap();
    let config = two_targets(&broker).top("source = \"core\"");
    let watch = ["dead-letters", "watch", "--json"];
    let _watching = Running::start(&config, &watch, Stdio::from(output.reopen().unwrap()));
    let seen = || std::fs::read_to_string(output.path()).unwrap();
    let client = broker.client().await;

    until("one is seen", secs(20), async || {
        let headers = letters::headers("one", 1, secs(0));
        client.publish_with_headers("natshook.dead-letter.one", headers, "1".into()).await.unwrap();
        client.flush().await.unwrap();
        seen().lines().count() > 0
    })
    .await;

    let letter: Value = serde_json::from_str(seen().lines().next().unwrap()).unwrap();
    assert_eq!((&letter["target"], &letter["reason"]), (&"one".into(), &"attempts_exhausted".into()));
    assert_eq!(dead_letters(&config, &["list"]).await.code, 1);
}

#[tokio::test]
async fn letters_are_purged_once_somebody_means_it() {
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "one", 0..100).await;
    letters::store(&context, "two", 0..50).await;
    broker.publish_with_headers("natshook.dead-letter.two", &[("Natshook-Reason", "too_old")], "").await;
    let config = two_targets(&broker);
    let purge = async |args: &[&str]| dead_letters(&config, &[&["purge"], args].concat()).await;

    for (args, code) in [
        (&["--all"][..], 2),
        (&[], 2),
        (&["--yes"], 2),
        (&["1", "--all", "--yes"], 2),
        (&["999", "--yes"], 1),
    ] {
        let refused = purge(args).await;
        assert_eq!(refused.code, code, "{args:?} {}", refused.all());
    }
    assert_eq!(broker.count(DEAD_LETTERS).await, 151, "nothing is purged by mistake");
    for (args, purged, left) in [
        (&["3", "4"][..], 2, 149),
        (&["--reason", "too_old"], 1, 148),
        (&["--before", "1h"], 0, 148),
        (&["--target", "one", "--since", "1h"], 98, 50),
        (&["--target", "two"], 50, 0),
        (&["--all"], 0, 0),
    ] {
        let done = purge(&[args, &["--yes"]].concat()).await;
        assert_eq!((done.code, done.stdout), (0, format!("{purged} purged\n")), "{args:?} {}", done.stderr);
        assert_eq!(broker.count(DEAD_LETTERS).await, left, "{args:?}");
    }
}

#[tokio::test]
async fn where_nothing_was_ever_given_up_that_is_said() {
    let broker = Broker::start().await;
    let config = two_targets(&broker);
    for args in [&["list"][..], &["show", "1"], &["replay", "--all"], &["purge", "--all", "--yes"]] {
        let finished = dead_letters(&config, args).await;
        assert_eq!(finished.code, 1, "{args:?} {}", finished.all());
        assert!(finished.stderr.contains("NATSHOOK_"), "{args:?} {}", finished.stderr);
    }
}
