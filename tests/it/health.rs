//! `natshook health`: what a container's HEALTHCHECK runs.

use crate::support::connector::{natshook_in, natshook_with};
use crate::support::{Broker, Config, Connector, Receiver, secs, until};

#[tokio::test]
async fn a_running_natshook_is_well_and_ready_and_one_that_is_not_there_is_neither() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");

    let before = natshook_with(&config, &["health"]).await;
    assert_eq!((before.code, before.stdout.as_str()), (1, ""), "{}", before.all());
    assert!(before.stderr.contains("/healthz: connection refused"), "{}", before.stderr);

    let mut connector = Connector::start(&config).await;
    let well = natshook_with(&config, &["health"]).await;
    assert_eq!((well.code, well.stdout.as_str()), (0, "ok\n"), "{}", well.all());
    let ready = natshook_with(&config, &["health", "--ready"]).await;
    assert_eq!((ready.code, ready.stdout.as_str()), (0, "ready\n"), "{}", ready.all());
    connector.stop().await;
}

#[tokio::test]
async fn without_its_broker_it_is_well_but_not_ready() {
    let mut broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let _connector = Connector::start(&config).await;
    broker.kill9();
    until("it is not ready any more", secs(20), async || {
        natshook_with(&config, &["health", "--ready"]).await.code == 1
    })
    .await;
    let unready = natshook_with(&config, &["health", "--ready"]).await;
    assert!(unready.stderr.contains("503: not ready: "), "{}", unready.stderr);
    assert_eq!(natshook_with(&config, &["health"]).await.code, 0);
}

#[tokio::test]
async fn a_config_that_was_broken_after_the_start_makes_nobody_ill() {
    let broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let connector = Connector::start(&config).await;
    // Only where it listens is read; that the rest is no config says `check`, and the log of the reload.
    let listen = format!("[admin]\nlisten = \"127.0.0.1:{}\"\nnonsense = true\n", connector.admin_port);
    connector.write_config(&listen);
    let file = connector.config_file();
    let health = ["health", "--config", file.to_str().unwrap()];
    let asked = natshook_in(&health, &[]).await;
    assert_eq!(asked.code, 0, "{}", asked.all());

    connector.write_config("listen = [");
    let asked = natshook_in(&health, &[]).await;
    // Nobody listens on the default address in a test, or somebody else does.
    assert!(asked.stderr.contains("asking 127.0.0.1:8822 instead"), "{}", asked.all());
}
