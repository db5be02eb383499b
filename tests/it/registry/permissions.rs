//! The least permissions with which targets can register: enough, and no line too many.

use async_nats::ConnectOptions;
use serde_json::json;

use super::{KEY, ask_with, target};
use crate::support::broker::publish_raw;
use crate::support::{Broker, Config, Connector, Receiver, secs, until};

const BASE: &str = include_str!("../fixtures/permissions.conf");
const MORE: &str = include_str!("../fixtures/registry_permissions.conf");

/// The lines of `MORE`, with whether one is of `subscribe`.
fn lines() -> Vec<(&'static str, bool)> {
    let (publish, subscribe) = MORE.split_once("\nsubscribe:").unwrap();
    let of = |text: &'static str, subscribes: bool| {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('"'));
        lines.map(move |line| (line.trim_matches('"'), subscribes))
    };
    of(publish, false).chain(of(subscribe, true)).collect()
}

/// The permissions of both files together, without those of `left_out`.
fn permissions(left_out: Option<&str>) -> String {
    let joined = |subscribes: bool| {
        let lines = lines().into_iter().filter(|(line, s)| *s == subscribes && Some(*line) != left_out);
        lines.map(|(line, _)| format!(", \"{line}\"")).collect::<String>()
    };
    let (publish, subscribe) = ("\"$JS.API.STREAM.MSG.GET.EVENTS\"", "\"natshook.control.*\"");
    assert!(BASE.contains(publish) && BASE.contains(subscribe));
    BASE.replace(publish, &format!("{publish}{}", joined(false)))
        .replace(subscribe, &format!("{subscribe}{}", joined(true)))
}

/// Registers, changes, lists, pauses and removes a target, and has natshook make its watch anew. Everything that was said.
async fn everything(left_out: Option<&str>) -> String {
    let users = format!(
        "authorization {{ users: [\n{{ user: app, password: pw, {} }}\n{{ user: test, password: t }}\n] }}",
        permissions(left_out)
    );
    let options = ConnectOptions::with_user_and_password("test".into(), "t".into())
        .custom_inbox_prefix("_INBOX_operator")
        .request_timeout(Some(secs(8)));
    let broker = Broker::start_with(&users, options).await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker)
        .nats("user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_natshook\"")
        .target("own", "a", &receiver.url("/own"), "")
        .and(&format!("[registry]\nenabled = true\nkey = \"{KEY}\""));
    let connector = Connector::spawn(&config, &[]);
    until("the own target is served", secs(40), async || {
        broker.outstanding("EVENTS", "natshook-own").await.is_some()
    })
    .await;
    let client = broker.client().await;
    let ping = client.request("$SRV.PING.natshook", "".into()).await;
    let mut said = format!("{ping:?}\n");
    let mut policy = target("policy", "a", &receiver, "/hook");
    policy["auth"] = json!({ "bearer": "hunter2" });
    let served = async || {
        let there = client.request("natshook.targets.list", "".into()).await;
        there.is_ok()
    };
    if served().await {
        for (verb, question) in
            [("put", json!({ "target": policy })), ("get", json!({ "name": "policy" })), ("list", json!({}))]
        {
            said.push_str(&format!("{:?}\n", ask_with(&client, verb, question).await));
        }
        if broker.count(super::BUCKET).await > 0
            && !left_out.is_some_and(|line| line.contains("CONSUMER.CREATE"))
        {
            until("the target is served", secs(20), async || {
                broker.outstanding("EVENTS", "natshook-policy").await.is_some()
            })
            .await;
        }
        // A connection that ends: the watch is made anew, and the one before it removed.
        publish_raw(&broker, "a", b"X-Own: \xff\xfe", b"1").await;
        receiver.wait_long_for("/own", 1, secs(30)).await;
        until("natshook is back", secs(20), async || served().await).await;
        said.push_str(&format!("{:?}\n", ask_with(&client, "delete", json!({ "name": "policy" })).await));
        if left_out.is_none() {
            until("the consumer is gone", secs(20), async || {
                broker.outstanding("EVENTS", "natshook-policy").await.is_none()
            })
            .await;
        }
    }
    if let Some(line) = left_out {
        let concrete = line.trim_end_matches(['*', '>']);
        until("natshook names the permission", secs(40), async || {
            (said.clone() + &connector.output()).contains(concrete)
        })
        .await;
    }
    said + &connector.output()
}

#[tokio::test]
async fn an_account_with_the_permissions_of_the_docs_lets_targets_register() {
    let said = everything(None).await;
    let denied: Vec<_> = said.lines().filter(|line| line.to_lowercase().contains("permission")).collect();
    assert!(denied.is_empty(), "{denied:?}");
    assert!(
        !said.contains("Nats-Service-Error") && !said.contains("code: Some"),
        "nothing was refused: {said}"
    );
}

#[tokio::test]
async fn without_one_of_them_it_is_named() {
    let local = tokio::task::LocalSet::new();
    let running: Vec<_> = lines()
        .into_iter()
        .map(|(line, _)| (line, local.spawn_local(async move { everything(Some(line)).await })))
        .collect();
    let mut not_named = Vec::new();
    for (line, task) in running {
        let named = local.run_until(task).await.is_ok_and(|said| {
            let concrete = line.trim_end_matches(['*', '>']);
            said.lines().any(|line| line.contains(concrete) && line.to_lowercase().contains("permission"))
        });
        if !named {
            not_named.push(line);
        }
    }
    assert!(not_named.is_empty(), "natshook works without these, or does not name them: {not_named:?}");
}
