//! natshook's own streams are missing, full, or denied, while messages come that belong into them.

use std::time::Instant;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream;

use crate::campaign::{Run, campaign, messages};
use crate::rig::Rig;
use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::{Broker, Config, Connector, secs};

#[tokio::test]
async fn when_its_streams_are_deleted_natshook_makes_them_again_and_loses_nothing_else() {
    campaign("50-missing", "retry and dead-letter streams deleted under load", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let natshook = Connector::start(&rig.config(&broker)).await;
        rig.burst(messages() / 2, 1).await;
        // Stopped, so that what is deleted can be read before: it is gone by the test's hand, not by natshook's.
        natshook.signal("STOP");
        rig.note_taken().await;
        for stream in [RETRY_QUEUE, DEAD_LETTERS] {
            rig.books.context.delete_stream(stream).await.expect("it is there");
        }
        natshook.signal("CONT");
        let ended = Instant::now();
        rig.publish(messages() / 2, secs(0)).await;
        rig.close(&natshook, rig.repeats(1), Some(ended)).await
    })
    .await;
}

/// Sets the limit of both streams.
async fn limit(rig: &Rig, max_bytes: i64) {
    for name in [RETRY_QUEUE, DEAD_LETTERS] {
        let found = rig.books.context.get_stream(name).await.expect("it is there");
        let config = stream::Config { max_bytes, ..found.cached_info().config.clone() };
        rig.books.context.update_stream(config).await.expect("the limit can be set");
    }
}

#[tokio::test]
async fn when_its_streams_are_full_natshook_waits_and_loses_and_repeats_nothing() {
    campaign("51-full", "retry and dead-letter streams full for 10 s under load", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let natshook = Connector::start(&rig.config(&broker)).await;
        limit(&rig, 4_000).await;
        rig.publish(messages(), secs(2)).await;
        natshook.wait_for_line(&["cannot store what was not delivered"]).await;
        tokio::time::sleep(secs(8)).await;
        limit(&rig, -1).await;
        rig.close(&natshook, 0, Some(Instant::now())).await
    })
    .await;
}

/// A user `app` (natshook) that may, or may not, publish to its own streams.
fn users(may: bool) -> String {
    let deny = if may { "nothing.at.all" } else { "natshook.>" };
    format!(
        "authorization {{ users: [ {{ user: app, password: pw, permissions: {{ publish: {{ allow: \">\", deny: {deny:?} }}, \
         subscribe: \">\" }} }}, {{ user: test, password: t }} ] }}"
    )
}

async fn denied(seed: u64) -> Run {
    let test = ConnectOptions::with_user_and_password("test".into(), "t".into());
    let broker = Broker::start_with(&users(true), test).await;
    let rig = Rig::new(broker.client().await, seed, 2).await;
    let config = Config::on(&broker).nats("user = \"app\"\npassword = \"pw\"");
    let natshook = Connector::start(&rig.with_targets(config, rig.sink.port, "")).await;
    broker.reload(&users(false)).await;
    rig.publish(messages(), secs(2)).await;
    natshook.wait_for_line(&["cannot store what was not delivered"]).await;
    tokio::time::sleep(secs(8)).await;
    broker.reload(&users(true)).await;
    rig.close(&natshook, rig.repeats(1), Some(Instant::now())).await
}

#[tokio::test]
async fn when_its_streams_are_denied_natshook_waits_and_loses_nothing() {
    campaign("52-denied", "publishing to natshook's own streams denied for 10 s under load", denied).await;
}
