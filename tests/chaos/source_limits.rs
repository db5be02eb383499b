//! The source stream itself drops messages while a target lags. Nobody can deliver those; natshook must say which.

use async_nats::jetstream::stream;

use crate::campaign::{campaign, messages};
use crate::rig::{Rig, SUBJECT};
use crate::sink::Mood;
use crate::support::broker::EVENTS;
use crate::support::{Connector, secs, until};

/// The target that lags.
const SLOW: usize = 0;

/// The reports of dropped messages for a target: count, first and last sequence of each.
fn reports(natshook: &Connector, target: usize) -> Vec<(u64, u64, u64)> {
    let output = natshook.output();
    let lines = output.lines().filter(|line| line.contains("the stream dropped messages before"));
    let lines = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let name = target.to_string();
    let lines = lines.filter(|line| line["target"] == name);
    let number = |line: &serde_json::Value, field: &str| line[field].as_u64().expect("a number");
    lines
        .map(|line| {
            (number(&line, "at_most"), number(&line, "first_sequence"), number(&line, "last_sequence"))
        })
        .collect()
}

async fn lost_by_metric(natshook: &Connector, target: usize) -> u64 {
    let (_, text) = natshook.get("/metrics").await;
    let name = format!("natshook_source_messages_lost_total{{target=\"{target}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn what_the_stream_drops_is_reported_and_nothing_else_is_lost() {
    campaign("80-stream-drops", "source stream keeps a quarter while a target lags", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let config = stream::Config {
            name: EVENTS.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            max_messages: messages() as i64 / 4,
            ..Default::default()
        };
        rig.books.context.create_stream(config).await.expect("it can be made");
        rig.sink.set_mood(SLOW, Mood::Late(secs(1)));
        let natshook = Connector::start(&rig.config(&broker)).await;
        rig.publish(messages(), secs(2)).await;
        natshook.wait_for_line(&["the stream dropped messages before"]).await;
        rig.sink.set_mood(SLOW, Mood::Well);
        rig.settle().await;
        let dropped = rig.unended(SLOW).await;
        // Reports come every 15 s at most.
        let all_reported = async || lost_by_metric(&natshook, SLOW).await >= dropped.len() as u64;
        until("all that was dropped is reported", secs(30), all_reported).await;
        let reported = reports(&natshook, SLOW);
        let at_most = reported.iter().map(|(at_most, ..)| at_most).sum::<u64>();
        assert_eq!(
            at_most,
            dropped.len() as u64,
            "seed {seed}: what was dropped is counted, and nothing else"
        );
        let is_reported =
            |sequence: &u64| reported.iter().any(|(_, first, last)| (first..=last).contains(&sequence));
        rig.note_gone(dropped.into_iter().filter(|(_, sequence)| is_reported(sequence)).map(|(key, _)| key));
        assert_eq!(lost_by_metric(&natshook, 1).await, 0, "seed {seed}: the other target lost nothing");
        rig.close(&natshook, 0, None).await
    })
    .await;
}
