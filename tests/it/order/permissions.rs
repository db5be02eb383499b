//! What an ordered target needs of natshook's account beyond what every target does.

use async_nats::ConnectOptions;

use super::{AT_ONCE, assert_in_order, publish_each, subjects, wait_for_last};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

const PERMISSIONS: &str = include_str!("../fixtures/permissions.conf");
const FOR_ORDER: &str = include_str!("../fixtures/order_permissions.conf");

/// The subjects that an ordered target needs.
fn lines() -> Vec<&'static str> {
    FOR_ORDER.lines().filter(|line| line.trim_start().starts_with('"')).collect()
}

async fn broker_with(lines: &[&str]) -> Broker {
    let allow = format!("publish: {{\n    allow: [\n{}", lines.join("\n"));
    let permissions = PERMISSIONS.replacen("publish: {\n    allow: [", &allow, 1);
    assert_ne!(permissions, PERMISSIONS);
    let users = format!(
        "authorization {{ users: [\n{{ user: app, password: pw, {permissions} }}\n{{ user: test, password: t }}\n] }}"
    );
    Broker::start_with(&users, ConnectOptions::with_user_and_password("test".into(), "t".into())).await
}

fn config(broker: &Broker, receiver: &Receiver) -> Config {
    let more = format!("order = \"subject\"\n{AT_ONCE}");
    Config::on(broker).nats("user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_natshook\"").target(
        "policy",
        "orders.>",
        &receiver.url("/hook"),
        &more,
    )
}

#[tokio::test]
async fn an_account_with_the_permissions_of_the_docs_can_keep_order() {
    let broker = broker_with(&lines()).await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::ok(), Answer::status(500)]);
    let mut connector = Connector::start(&config(&broker, &receiver)).await;
    publish_each(&broker, &subjects(2), 0..20).await;
    wait_for_last(&receiver, "/hook", &subjects(2), 19, 20).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects(2), 20);
    connector.stop().await;
    assert!(!connector.output().to_lowercase().contains("permission"), "nothing was denied");
}

#[tokio::test]
async fn without_one_of_them_natshook_says_which_one_is_missing() {
    for missing in lines() {
        let rest: Vec<&str> = lines().into_iter().filter(|line| *line != missing).collect();
        let broker = broker_with(&rest).await;
        let receiver = Receiver::start().await;
        receiver.next("/hook", [Answer::status(500)]);
        let connector = Connector::start(&config(&broker, &receiver)).await;
        publish_each(&broker, &subjects(1), 0..3).await;
        let subject = missing.trim().trim_matches('"').trim_end_matches(['*', '>']);
        until(&format!("natshook names {subject}"), secs(40), async || {
            let output = connector.output();
            let mut serious = output.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
            serious.any(|line| line.contains(subject))
        })
        .await;
    }
}
