//! A paused target: nothing is sent, nothing is lost, on every replica and through restarts.

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, throughout, until};

const BUCKET: &str = "KV_NATSHOOK_STATE";

async fn pause(config: &Config, target: &str) -> String {
    let done = natshook_with(config, &["targets", "pause", target]).await;
    assert_eq!(done.code, 0, "{}", done.all());
    done.stdout
}

async fn resume(config: &Config, target: &str) -> String {
    let done = natshook_with(config, &["targets", "resume", target]).await;
    assert_eq!(done.code, 0, "{}", done.all());
    done.stdout
}

#[tokio::test]
async fn a_paused_target_is_sent_nothing_by_any_replica_and_loses_nothing() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/paused"), "").target(
        "other",
        "a",
        &receiver.url("/other"),
        "",
    );
    let mut one = Connector::start(&config).await;
    let _two = Connector::start(&config.another()).await;

    assert_eq!(pause(&config, "policy").await, "policy: paused on 2 of 2 replicas\n");
    broker.publish_numbered("a", 0..50).await;
    receiver.wait_for("/other", 50).await;
    assert_eq!(receiver.count("/paused"), 0);
    one.kill9();
    let _three = Connector::start(&config.another()).await;
    broker.publish_numbered("a", 50..60).await;
    receiver.wait_for("/other", 60).await;
    throughout("nothing is sent", secs(1), async || receiver.count("/paused") == 0).await;
    assert_eq!(pause(&config, "policy").await, "policy: paused already\n");

    assert_eq!(resume(&config, "policy").await, "policy: resumed on 2 of 2 replicas\n");
    receiver.wait_long_for("/paused", 60, secs(30)).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/paused"), 60);
}

#[tokio::test]
async fn retries_of_a_paused_target_wait_and_are_not_given_up_for_their_age() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500)]);
    let retry = "retry = { delays = [\"2s\"], jitter = 0, max_age = \"4s\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), retry);
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    broker.wait_for_retries(1).await;

    pause(&config, "policy").await;
    throughout("nothing is sent", secs(6), async || receiver.count("/hook") == 1).await;
    assert_eq!(broker.count(RETRY_QUEUE).await, 1);
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    resume(&config, "policy").await;

    let seen = receiver.wait_long_for("/hook", 2, secs(30)).await;
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("2"));
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    assert!(!connector.output().contains("given up"));
}

#[tokio::test]
async fn a_pause_that_is_made_before_natshook_starts_holds_from_the_start() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "start = \"all\"");
    let said = pause(&config, "policy").await;
    assert_eq!(said, "policy: paused; no natshook answered, it holds when one starts\n");

    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;

    throughout("nothing is sent", secs(2), async || receiver.count("/hook") == 0).await;
    resume(&config, "policy").await;
    receiver.wait_for("/hook", 1).await;
}

#[tokio::test]
async fn a_pause_outlives_a_reload_of_its_target_and_the_loss_of_its_bucket() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/old"), "");
    let connector = Connector::start(&config).await;
    pause(&config, "policy").await;

    connector.write_config(&config.text().replace("/old", "/new"));
    connector.wait_for_line(&["config reloaded"]).await;
    broker.publish("a", "1").await;
    broker.jetstream_context().await.delete_stream(BUCKET).await.unwrap();
    // Whoever asks for the bucket next makes it again; natshook itself looks every minute.
    connector.wait_long_for_line(&["the bucket of operators' decisions is gone"], secs(80)).await;
    until("the bucket is there again", secs(10), async || broker.count(BUCKET).await == 1).await;
    assert_eq!(receiver.count("/old") + receiver.count("/new"), 0);

    resume(&config, "policy").await;
    receiver.wait_for("/new", 1).await;
}

#[tokio::test]
async fn a_pause_of_nobody_and_one_without_jetstream_are_refused() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    let refused = natshook_with(&config, &["targets", "pause", "polcy"]).await;
    assert_eq!((refused.code, refused.stderr.as_str()), (2, "no target \"polcy\"; known are policy\n"));

    let core = Config::on(&broker).top("source = \"core\"").target("policy", "b", &receiver.url("/hook"), "");
    let refused = natshook_with(&core, &["targets", "pause", "policy"]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("needs JetStream"), "{}", refused.stderr);
}
