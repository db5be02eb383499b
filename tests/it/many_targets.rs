//! What many targets in one process cost, where it can be told exactly enough on any machine. `make scale` measures the rest.

use std::{collections::HashMap, fs::Permissions, os::unix::fs::PermissionsExt};

use async_nats::{ConnectOptions, jetstream::stream};
use futures_util::StreamExt;

use crate::support::{Broker, Config, Connector, Receiver, binary, secs, until};

/// As many targets as said, with a subject each.
fn config(broker: &Broker, receiver: &Receiver, targets: usize) -> Config {
    let target = |config: Config, n: usize| {
        config.target(&format!("t{n}"), &format!("orders.t{n}"), &receiver.url("/hook"), "")
    };
    (0..targets).fold(Config::on(broker), target)
}

/// Memory that is resident now, in bytes; Linux tells.
fn resident(connector: &Connector) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", connector.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[tokio::test]
async fn each_of_two_hundred_idle_targets_holds_little_memory() {
    const FURTHER: u64 = 200;
    // Some 50 KB were measured; the rest is for other systems and days.
    const MOST: u64 = 80 * 1024;
    let (broker, other_broker) = (Broker::start().await, Broker::start().await);
    let receiver = Receiver::start().await;
    let one = Connector::start(&config(&broker, &receiver, 1)).await;
    let many = Connector::start(&config(&other_broker, &receiver, 1 + FURTHER as usize)).await;
    let each = resident(&many).saturating_sub(resident(&one)) / FURTHER;
    assert!(each < MOST, "{each} bytes for each further target");
}

#[tokio::test]
async fn a_start_asks_for_the_streams_once_for_all_targets() {
    const TARGETS: usize = 50;
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut connector = Connector::start(&config(&broker, &receiver, TARGETS)).await;
    let client = broker.client().await;
    let mut asked = client.subscribe("$JS.API.STREAM.*").await.unwrap();
    client.flush().await.unwrap();
    connector.restart().await;
    broker.publish("orders.t49", "1").await;
    until("a target at the end of the config is served", secs(20), async || receiver.count("/hook") == 1)
        .await;

    let mut questions = HashMap::new();
    while let Ok(Some(question)) = tokio::time::timeout(secs(1), asked.next()).await {
        *questions.entry(question.subject.to_string()).or_insert(0) += 1;
    }
    let names = questions.get("$JS.API.STREAM.NAMES").copied().unwrap_or_default();
    assert!((1..=2).contains(&names), "{questions:?}");
}

#[tokio::test]
async fn a_low_soft_limit_of_open_files_is_raised() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("natshook-with-few-files");
    let script = format!("#!/bin/sh\nulimit -Sn 200\nexec {} \"$@\"\n", binary().display());
    std::fs::write(&program, script).expect("it can be written");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it can be made executable");
    let mut connector = Connector::spawn_program(&program, &config(&broker, &receiver, 1), &[]);
    connector.wait_until_ready().await;

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", connector.pid())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("Linux tells");
    let mut numbers = files.split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "soft and hard limit: {files}");
}

/// The server's config in docs/scaling.md that spreads one stream's subjects over four.
fn mapping_in_the_docs() -> &'static str {
    let page = include_str!("../../docs/scaling.md");
    let block =
        page.split("```text\n").find(|block| block.starts_with("mappings")).expect("docs/scaling.md has it");
    block.split("```").next().unwrap_or_default()
}

#[tokio::test]
async fn a_target_of_a_partition_has_one_consumer_on_that_partition_s_stream() {
    let broker = Broker::start_with(mapping_in_the_docs(), ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    let context = broker.jetstream_context().await;
    for partition in 0..4 {
        let (name, subjects) = (format!("ORDERS_{partition}"), vec![format!("orders.{partition}.>")]);
        let config = stream::Config { name, subjects, ..Default::default() };
        context.create_stream(config).await.unwrap();
    }
    // As docs/scaling.md says of the customer acme.
    let config = Config::on(&broker).target("acme", "orders.3.acme", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    broker.publish("orders.acme", "1").await;

    let received = receiver.wait_for("/hook", 1).await;
    assert_eq!(received[0].header("natshook-subject").as_deref(), Some("orders.3.acme"));
    for partition in 0..4 {
        let mut stream = context.get_stream(format!("ORDERS_{partition}")).await.unwrap();
        let consumers = stream.info().await.unwrap().state.consumer_count;
        assert_eq!(consumers, usize::from(partition == 3), "on partition {partition}");
    }
}
