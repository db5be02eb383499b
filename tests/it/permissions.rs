//! An account with the least permissions: enough for everything, and no line too many.

use async_nats::ConnectOptions;

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

const PERMISSIONS: &str = include_str!("fixtures/permissions.conf");

/// Starts a broker whose user `app` has just these permissions.
async fn broker_with(permissions: &str) -> Broker {
    let users = format!(
        "authorization {{ users: [\n{{ user: app, password: pw, {permissions} }}\n{{ user: test, password: t }}\n] }}"
    );
    Broker::start_with(&users, ConnectOptions::with_user_and_password("test".into(), "t".into())).await
}

fn config(broker: &Broker, receiver: &Receiver) -> Config {
    let retry = "retry = { delays = [\"1s\"], jitter = 0 }";
    Config::on(broker)
        .nats("user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_natshook\"")
        .target("fine", "a", &receiver.url("/fine"), retry)
        .target("dead", "b", &receiver.url("/dead"), retry)
}

#[tokio::test]
async fn an_account_with_the_permissions_of_the_readme_can_do_everything() {
    let broker = broker_with(PERMISSIONS).await;
    let receiver = Receiver::start().await;
    receiver.next("/fine", [Answer::status(500)]);
    receiver.always("/dead", Answer::status(500));
    let config = config(&broker, &receiver);
    let mut connector = Connector::start(&config).await;

    broker.publish("a", "1").await;
    broker.publish("b", "2").await;

    receiver.wait_for("/fine", 2).await;
    broker.wait_for_dead_letters(1).await;
    broker.wait_until_settled("fine").await;
    connector.stop().await;
    // Again, now that everything exists, with a change that updates a consumer.
    let config = config.target("late", "a, b", &receiver.url("/late"), "");
    let mut connector = Connector::start(&config).await;
    broker.publish("a", "3").await;
    receiver.wait_for("/late", 1).await;
    broker.wait_until_settled("late").await;
    connector.stop().await;
    assert!(!connector.output().to_lowercase().contains("permission"), "nothing was denied");
}

/// Without the line that holds `subject`, natshook names what it may not do.
async fn without(subject: &str) {
    let line = format!("\"{subject}\"");
    assert!(PERMISSIONS.contains(&line), "{line} is in the fixture");
    let broker = broker_with(&PERMISSIONS.replace(&line, "")).await;
    let receiver = Receiver::start().await;
    receiver.always("/fine", Answer::status(500));
    receiver.always("/dead", Answer::status(400));
    let connector = Connector::spawn(&config(&broker, &receiver), &[]);
    let concrete = subject.split('*').next().unwrap().trim_end_matches('>');

    // It fails at the start, or at the first message that needs it.
    until("natshook names the permission", secs(30), async || {
        let context = broker.jetstream_context().await;
        for subject in ["a", "b"] {
            if let Ok(ack) = context.publish(subject, "1".into()).await {
                let _ = ack.await;
            }
        }
        let output = connector.output();
        let mut lines = output.lines();
        lines.any(|line| (line.contains("ERROR") || line.contains("WARN")) && line.contains(concrete))
    })
    .await;
    if subject.starts_with("natshook.dead") {
        assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    }
    if subject.starts_with("natshook.retry") {
        assert_eq!(broker.count(RETRY_QUEUE).await, 0);
    }
}

#[tokio::test]
async fn without_a_permission_natshook_says_which_one_is_missing() {
    let lines = PERMISSIONS.lines().filter(|line| line.trim_start().starts_with('"'));
    let subjects: Vec<_> = lines.map(|line| line.trim().trim_matches('"').to_owned()).collect();
    assert!(subjects.len() > 5, "{subjects:?}");
    let local = tokio::task::LocalSet::new();
    let running = subjects.into_iter().map(|subject| {
        let task = local.spawn_local({
            let subject = subject.clone();
            async move { without(&subject).await }
        });
        (subject, task)
    });
    let running: Vec<_> = running.collect();
    let mut not_named = Vec::new();
    for (subject, task) in running {
        if local.run_until(task).await.is_err() {
            not_named.push(subject);
        }
    }
    assert!(not_named.is_empty(), "natshook works without these, or does not name them: {not_named:?}");
}
