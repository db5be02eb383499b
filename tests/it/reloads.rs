//! A config that changes while natshook runs: only what changed is restarted, and what is not valid changes nothing.

use std::path::Path;

use crate::support::receiver::Gate;
use crate::support::{Answer, Broker, Config, Connector, Receiver, free_port, http, secs, throughout, until};

/// How many lines with all of `words` natshook has written.
fn lines(connector: &Connector, words: &[&str]) -> usize {
    connector.output().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

async fn reloaded(connector: &Connector, times: usize) {
    until("the config is reloaded", secs(20), async || lines(connector, &["config reloaded"]) >= times).await;
}

#[tokio::test]
async fn a_changed_target_is_restarted_and_another_is_left_alone() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.next("/stays", [Answer::ok().behind(&gate)]);
    let base = Config::on(&broker).target("stays", "b", &receiver.url("/stays"), "");
    let with = |path: &str| base.clone().target("moves", "a", &receiver.url(path), "");
    let connector = Connector::start(&with("/old")).await;
    broker.publish("a", "1").await;
    broker.publish("b", "1").await;
    receiver.wait_for("/old", 1).await;
    receiver.wait_for("/stays", 1).await;

    connector.write_config(&with("/new").text());

    reloaded(&connector, 1).await;
    broker.publish("a", "2").await;
    receiver.wait_for("/new", 1).await;
    assert_eq!(receiver.bodies("/old"), ["1"]);
    gate.open();
    broker.wait_until_settled("stays").await;
    assert_eq!(receiver.count("/stays"), 1, "what was in flight to it went on");
    assert_eq!(lines(&connector, &["connected to the broker"]), 1);
}

#[tokio::test]
async fn what_is_in_flight_to_a_changed_target_ends_where_it_began() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.always("/old", Answer::ok().behind(&gate));
    let base = Config::on(&broker);
    let with = |path: &str| base.clone().target("policy", "a", &receiver.url(path), "");
    let connector = Connector::start(&with("/old")).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/old", 1).await;

    connector.write_config(&with("/new").text());
    reloaded(&connector, 1).await;
    broker.publish("a", "2").await;
    receiver.wait_for("/new", 1).await;
    gate.open();

    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.bodies("/old"), ["1"]);
    assert_eq!(receiver.bodies("/new"), ["2"]);
}

#[tokio::test]
async fn targets_come_and_go_and_come_again() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let one = Config::on(&broker).target("one", "a", &receiver.url("/one"), "");
    let both = one.clone().target("two", "b, c.>", &receiver.url("/two"), "");
    let connector = Connector::start(&one).await;

    connector.write_config(&both.text());
    reloaded(&connector, 1).await;
    broker.publish("c.d", "1").await;
    receiver.wait_for("/two", 1).await;
    broker.wait_until_settled("two").await;

    connector.write_config(&one.text());
    reloaded(&connector, 2).await;
    let (_, metrics) = connector.get("/metrics").await;
    assert!(!metrics.contains("target=\"two\""), "{metrics}");
    broker.publish("b", "2").await;
    broker.publish("a", "2").await;
    receiver.wait_for("/one", 1).await;
    assert_eq!(receiver.count("/two"), 1);

    connector.write_config(&both.text());
    receiver.wait_for("/two", 2).await;
    assert_eq!(receiver.bodies("/two"), ["1", "2"], "its consumer was kept, and with it what was published");
    until("natshook is ready", secs(10), async || connector.get("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn a_config_with_errors_is_refused_whole_and_says_why() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let good = Config::on(&broker).target("policy", "a", &receiver.url("/old"), "");
    let better = good.text().replace("/old", "/new");
    let connector = Connector::start(&good).await;

    let bad = format!(
        "{better}timeout = \"soon\"\n[[targets]]\nname = \"other\"\nsubjcts = \"b\"\nurl = \"nonsense\""
    );
    connector.write_config(&bad);

    for key in ["targets[0].timeout", "targets[1].subjcts", "targets[1].url"] {
        connector.wait_for_line(&["ERROR", "the changed config is refused", key]).await;
    }
    let (status, body) = connector.get("/readyz").await;
    assert_eq!(status, 200, "the config in use is as good as before");
    assert!(body.contains("refused") && body.contains("timeout"), "{body}");
    broker.publish("a", "1").await;
    receiver.wait_for("/old", 1).await;

    connector.write_config(&better);
    reloaded(&connector, 1).await;
    until("nothing is refused any more", secs(10), async || connector.get("/readyz").await.1 == "ready\n")
        .await;
    broker.publish("a", "2").await;
    receiver.wait_for("/new", 1).await;
    assert_eq!(receiver.bodies("/old"), ["1"]);
}

#[tokio::test]
async fn sighup_reads_the_config_again_where_files_are_not_watched() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).and("[reload]\non_change = false").target(
        "policy",
        "a",
        &receiver.url("/old"),
        "",
    );
    let connector = Connector::start(&config).await;

    connector.write_config(&config.text().replace("/old", "/new"));
    throughout("nothing is reloaded", secs(2), async || lines(&connector, &["config reloaded"]) == 0).await;
    connector.signal("HUP");

    reloaded(&connector, 1).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/new", 1).await;
    connector.signal("HUP");
    connector.wait_for_line(&["the config is as it was"]).await;
}

#[tokio::test]
async fn a_rotated_secret_is_used_without_a_restart() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first").unwrap();
    let auth = format!("auth = {{ bearer = {{ file = {file:?} }} }}");
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth).target(
        "other",
        "a",
        &receiver.url("/other"),
        "",
    );
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("authorization").as_deref(), Some("Bearer first"));

    let beside = folder.path().join("token.new");
    std::fs::write(&beside, "second").unwrap();
    std::fs::rename(beside, &file).unwrap();

    reloaded(&connector, 1).await;
    broker.publish("a", "2").await;
    let seen = receiver.wait_for("/hook", 2).await;
    assert_eq!(seen[1].header("authorization").as_deref(), Some("Bearer second"));
    receiver.wait_for("/other", 2).await;
    assert!(!connector.output().contains("second"), "the secret is not logged");
}

/// A folder as Kubernetes mounts it: the files are links to a folder's, and an update swaps the link to that folder.
fn mount(folder: &Path, version: &str, text: &str) {
    let data = folder.join(version);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("token"), text).unwrap();
    let link = folder.join("..data_tmp");
    std::os::unix::fs::symlink(version, &link).unwrap();
    std::fs::rename(link, folder.join("..data")).unwrap();
}

#[tokio::test]
async fn a_secret_that_kubernetes_updates_is_noticed() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "..1", "first");
    let file = folder.path().join("token");
    std::os::unix::fs::symlink("..data/token", &file).unwrap();
    let auth = format!("auth = {{ bearer = {{ file = {file:?} }} }}");
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth);
    let connector = Connector::start(&config).await;

    mount(folder.path(), "..2", "second");
    reloaded(&connector, 1).await;
    mount(folder.path(), "..3", "third");
    reloaded(&connector, 2).await;

    broker.publish("a", "1").await;
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("authorization").as_deref(), Some("Bearer third"));
}

#[tokio::test]
async fn changes_of_everything_under_load_lose_and_repeat_nothing() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = |port: u16| {
        let egress = format!("allow = [\"127.0.0.0/8\"]\nallow_http = true\nports = [{port}]");
        Config::on(&broker).egress_instead(&egress).target("policy", "a", &receiver.url("/hook"), "")
    };
    let first = config(443);
    let connector = Connector::start(&first).await;

    let publishing = async {
        for part in 0..6 {
            broker.publish_numbered("a", part * 100..(part + 1) * 100).await;
        }
    };
    let changing = async {
        for n in 1..=3 {
            let ports = format!("ports = [{}]", 1000 + n);
            connector.write_config(&first.text().replace("ports = [443]", &ports));
            reloaded(&connector, n).await;
        }
    };
    tokio::join!(publishing, changing);

    receiver.wait_long_for("/hook", 600, secs(30)).await;
    broker.wait_until_settled("policy").await;
    let mut expected: Vec<String> = (0..600).map(|n| n.to_string()).collect();
    expected.sort();
    assert_eq!(receiver.bodies("/hook"), expected);
    assert_eq!(lines(&connector, &["natshook/", "ERROR"]), 0);
}

#[tokio::test]
async fn a_target_that_leaves_with_a_change_of_everything_is_forgotten() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/goes", Answer::status(500));
    let retry = "retry = { delays = [\"1s\", \"1s\", \"1s\", \"1s\"], jitter = 0 }";
    let stays = Config::on(&broker).target("stays", "a", &receiver.url("/stays"), "");
    let both = stays.clone().target("goes", "b", &receiver.url("/goes"), retry);
    let connector = Connector::start(&both).await;
    broker.publish("b", "1").await;
    broker.wait_for_retries(1).await;

    connector.write_config(&stays.text().replace("allow_http = true", "allow_http = true\nports = [444]"));

    reloaded(&connector, 1).await;
    let made = receiver.count("/goes");
    let (_, metrics) = connector.get("/metrics").await;
    assert!(!metrics.contains("target=\"goes\""), "{metrics}");
    throughout("nobody attempts its retry", secs(3), async || receiver.count("/goes") == made).await;
    assert_eq!(broker.stored("NATSHOOK_RETRY").await.len(), 1, "it waits for whoever knows the target");
}

#[tokio::test]
async fn another_broker_is_taken_once_it_stands_and_refused_if_it_does_not() {
    let (one, two) = (Broker::start().await, Broker::start().await);
    let receiver = Receiver::start().await;
    let config = Config::on(&one).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    let nowhere = format!("nats://127.0.0.1:{}", free_port());

    connector.write_config(&config.text().replace(&one.url(), &nowhere));
    connector.wait_long_for_line(&["the changed config is refused", "within 15s"], secs(30)).await;
    one.publish("a", "one").await;
    receiver.wait_for("/hook", 1).await;

    connector.write_config(&config.text().replace(&one.url(), &two.url()));
    reloaded(&connector, 1).await;
    until("the stream is there", secs(10), async || {
        two.jetstream_context().await.get_stream("EVENTS").await.is_ok()
    })
    .await;
    two.publish("a", "two").await;
    receiver.wait_for("/hook", 2).await;
    until("natshook is ready", secs(10), async || connector.get("/readyz").await.0 == 200).await;
    connector.stop().await;
}

#[tokio::test]
async fn the_admin_listener_moves() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    let (old, new) = (config.admin_port, free_port());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();

    let with = |port: u16| config.text().replace(&format!("127.0.0.1:{old}"), &format!("127.0.0.1:{port}"));
    connector.write_config(&with(taken_port));
    connector
        .wait_for_line(&["the changed config is refused", "admin.listen", &taken_port.to_string()])
        .await;
    assert_eq!(connector.get("/healthz").await.0, 200);

    connector.write_config(&with(new));
    until("the new address answers", secs(10), async || http::get(new, "/healthz").await.is_some()).await;
    until("the old one does not", secs(10), async || http::get(old, "/healthz").await.is_none()).await;
}

#[tokio::test]
async fn a_config_that_is_mended_while_natshook_waits_for_the_broker_is_used() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let nowhere = format!("nats://127.0.0.1:{}", free_port());
    let wrong = Config::on(&broker).nats_instead(&format!("servers = [{nowhere:?}]"));
    let wrong = wrong.target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::spawn(&wrong, &[]);
    connector.wait_for_line(&["waiting for the broker"]).await;

    let right = config.text().replace(&config.admin_port.to_string(), &wrong.admin_port.to_string());
    connector.write_config(&right);

    connector.wait_until_ready().await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
}

#[tokio::test]
async fn a_rotated_password_of_the_broker_is_used() {
    let users = |password: &str| {
        format!(
            "authorization {{ users: [{{ user: app, password: {password} }}, {{ user: test, password: t }}] }}"
        )
    };
    let options = async_nats::ConnectOptions::with_user_and_password("test".into(), "t".into());
    let broker = Broker::start_with(&users("first"), options).await;
    let receiver = Receiver::start().await;
    let file = broker.dir().join("password");
    std::fs::write(&file, "first").unwrap();
    let config = Config::on(&broker)
        .nats(&format!("user = \"app\"\npassword = {{ file = {file:?} }}"))
        .target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;

    broker.reload(&users("second")).await;
    connector.wait_for_line(&["connection to the broker lost"]).await;
    broker.publish("a", "2").await;
    std::fs::write(&file, "second").unwrap();

    reloaded(&connector, 1).await;
    receiver.wait_for("/hook", 2).await;
    until("natshook is ready", secs(10), async || connector.get("/readyz").await.0 == 200).await;
}
