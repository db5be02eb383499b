//! `natshook targets`: how the targets of running natshooks stand, asked for over NATS.

use crate::support::broker::EVENTS;
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

fn row<'a>(table: &'a str, target: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(target)).unwrap_or_else(|| panic!("{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn the_table_tells_how_targets_stand_over_all_replicas() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/sick", Answer::status(404));
    let retry = "retry = { delays = [\"1h\"] }\nconcurrency = 4";
    let config = Config::on(&broker).target("fine", "a", &receiver.url("/fine"), "concurrency = 4").target(
        "sick",
        "b",
        &receiver.url("/sick"),
        retry,
    );
    let one = Connector::start(&config).await;
    let two = Connector::start(&config.another()).await;

    broker.publish_numbered("a", 0..40).await;
    broker.publish_numbered("b", 0..40).await;
    receiver.wait_for("/fine", 40).await;
    until("all is acked", secs(20), async || {
        broker.outstanding(EVENTS, "natshook-fine").await == Some((0, 0))
    })
    .await;
    for connector in [&one, &two] {
        connector.wait_for_line(&["breaker opened", "sick"]).await;
    }

    until("the table shows it", secs(40), async || {
        let shown = natshook_with(&config, &["targets"]).await;
        assert_eq!(shown.code, 0, "{}", shown.all());
        assert_eq!(shown.stdout.lines().filter(|line| line.contains("natshook 0.")).count(), 2);
        let (fine, sick) = (row(&shown.stdout, "fine"), row(&shown.stdout, "sick"));
        assert_eq!(&fine[1..4], ["running", "closed", "0/8"], "{}", shown.stdout);
        assert_eq!(fine[fine.len() - 2..], ["100.0 %", "-"], "{}", shown.stdout);
        assert_eq!(sick[sick.len() - 2..], ["0.0 %", "answered 404"], "{}", shown.stdout);
        // Asked for every 15 s: what waits, and how old it is.
        let waits = sick[4].parse::<u64>().is_ok_and(|pending| pending >= 20);
        // One that probes at this moment is open again in the next.
        let open = sick[2].starts_with("open on 2 of 2");
        fine[4] == "0" && waits && open && sick[5].ends_with('s')
    })
    .await;
}

#[tokio::test]
async fn json_has_everything_a_line_for_each_replica() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a, b.>", &receiver.url("/hook?key=hunter2"), "");
    let _connector = Connector::start(&config).await;

    let shown = natshook_with(&config, &["targets", "--json"]).await;

    let replicas: Vec<serde_json::Value> =
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0]["instance"], "natshook");
    assert_eq!(replicas[0]["broker_connected"], true);
    let target = &replicas[0]["targets"][0];
    assert_eq!(target["subjects"], serde_json::json!(["a", "b.>"]));
    assert_eq!(target["paused"], false);
    assert_eq!(target["breaker"], "closed");
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
}

#[tokio::test]
async fn a_test_is_sent_by_a_running_natshook_and_nothing_is_retried() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::ok().body("welcome"), Answer::status(503).body("not now \x1b[2J")]);
    let more = "auth = { bearer = { env = \"TARGET_TOKEN\" } }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start_with(&config, &[("TARGET_TOKEN", "t0ken")]).await;

    let tested = natshook_with(&config, &["targets", "test", "policy"]).await;
    assert_eq!(tested.code, 0, "{}", tested.all());
    assert!(
        tested.stdout.starts_with("policy: answered 200 after ") && tested.stdout.contains("  welcome\n")
    );
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(
        seen[0].header("authorization").as_deref(),
        Some("Bearer t0ken"),
        "this machine does not know it"
    );

    let tested = natshook_with(&config, &["targets", "test", "policy"]).await;
    assert_eq!(tested.code, 1, "{}", tested.all());
    assert!(tested.stdout.contains("answered 503") && !tested.stdout.contains('\x1b'), "{:?}", tested.stdout);
    assert_eq!(receiver.count("/hook"), 2);

    let unknown = natshook_with(&config, &["targets", "test", "nobody"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("no target \"nobody\""), "{}", unknown.stderr);
}

#[tokio::test]
async fn where_no_natshook_runs_the_command_says_so() {
    let broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    for arguments in [&["targets"][..], &["targets", "test", "policy"]] {
        let said = natshook_with(&config, arguments).await;
        assert_eq!(said.code, 1);
        assert!(said.stderr.contains("no natshook named \"natshook\" answers"), "{}", said.stderr);
    }
}

#[tokio::test]
async fn operators_need_no_secret_of_a_target() {
    let broker = Broker::start().await;
    let more = "auth = { bearer = { env = \"NOT_SET_HERE\" } }";
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", more);
    let said = natshook_with(&config, &["targets"]).await;
    assert!(said.stderr.contains("answers"), "{}", said.all());
    let published = natshook_with(&config, &["publish", "a", "1"]).await;
    assert!(published.stderr.contains("no stream has the subject"), "{}", published.all());
}
