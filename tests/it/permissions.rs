//! An account with the least permissions: enough for everything, and no line too many.

use async_nats::ConnectOptions;

use crate::support::broker::publish_raw;
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

const PERMISSIONS: &str = include_str!("fixtures/permissions.conf");

/// Starts a broker whose user `app` has just these permissions.
async fn broker_with(permissions: &str) -> Broker {
    let users = format!(
        "authorization {{ users: [\n{{ user: app, password: pw, {permissions} }}\n{{ user: test, password: t }}\n] }}"
    );
    Broker::start_with(&users, ConnectOptions::with_user_and_password("test".into(), "t".into())).await
}

fn first_config(broker: &Broker, receiver: &Receiver) -> Config {
    let retry = "retry = { delays = [\"1s\"], jitter = 0 }";
    Config::on(broker)
        .nats("user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_natshook\"")
        .target("fine", "a", &receiver.url("/fine"), retry)
        .target("dead", "b", &receiver.url("/dead"), retry)
}

/// The same with a new target, a new subject and other limits.
fn second_config(broker: &Broker, receiver: &Receiver) -> Config {
    first_config(broker, receiver)
        .target("late", "a, c", &receiver.url("/late"), "")
        .and("[dead_letter]\nmax_age = \"3d\"\n[retry_queue]\nmax_bytes = 100000000")
}

/// Two messages, one of which becomes a dead letter.
async fn publish(broker: &Broker) {
    let context = broker.jetstream_context().await;
    for subject in ["a", "b"] {
        if let Ok(ack) = context.publish(subject, "1".into()).await {
            let _ = ack.await;
        }
    }
}

#[tokio::test]
async fn an_account_with_the_permissions_of_the_readme_can_do_everything() {
    let broker = broker_with(PERMISSIONS).await;
    let receiver = Receiver::start().await;
    receiver.next("/fine", [Answer::status(500)]);
    receiver.always("/dead", Answer::status(500));
    let mut connector = Connector::start(&first_config(&broker, &receiver)).await;

    publish(&broker).await;

    receiver.wait_for("/fine", 2).await;
    broker.wait_for_dead_letters(1).await;
    broker.wait_until_settled("fine").await;
    connector.stop().await;
    // Again, now that everything exists, with a change that updates what is there.
    let mut connector = Connector::start(&second_config(&broker, &receiver)).await;
    broker.publish("c", "3").await;
    receiver.wait_for("/late", 1).await;
    publish_raw(&broker, "c", b"X-Own: \xff\xfe", b"4").await;
    receiver.wait_long_for("/late", 2, secs(30)).await;
    broker.wait_until_settled("late").await;
    connector.stop().await;
    assert!(!connector.output().to_lowercase().contains("permission"), "nothing was denied");
}

/// Without the line that holds `subject`, natshook names what it may not do: at a start, at a message that
/// needs it, or at a start with a changed config.
async fn without(subject: &str) {
    let line = format!("\"{subject}\"");
    assert!(PERMISSIONS.contains(&line), "{line} is in the fixture");
    let broker = broker_with(&PERMISSIONS.replace(&line, "")).await;
    let receiver = Receiver::start().await;
    receiver.always("/fine", Answer::status(500));
    receiver.always("/dead", Answer::status(400));
    let concrete = subject.trim_end_matches(['*', '>']);
    let named = |connector: &Connector| {
        let output = connector.output();
        let mut serious = output.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
        serious.any(|line| line.contains(concrete))
    };

    let mut connector = Connector::spawn(&first_config(&broker, &receiver), &[]);
    if !subject.contains("UPDATE") && !subject.contains("MSG.GET") {
        until("natshook names the permission", secs(40), async || {
            publish(&broker).await;
            named(&connector)
        })
        .await;
        return;
    }
    connector.wait_until_ready().await;
    connector.stop().await;
    let connector = Connector::spawn(&second_config(&broker, &receiver), &[]);
    until("natshook names the permission for what is rare", secs(40), async || {
        named(&connector) || {
            if subject.contains("MSG.GET") {
                let context = broker.jetstream_context().await;
                if context.get_stream("EVENTS").await.is_ok() {
                    publish_raw(&broker, "a", b"X-Own: \xff\xfe", b"4").await;
                    tokio::time::sleep(secs(1)).await;
                }
            }
            false
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_permission_natshook_says_which_one_is_missing() {
    let lines = PERMISSIONS.lines().filter(|line| line.trim_start().starts_with('"'));
    let subjects: Vec<_> = lines.map(|line| line.trim().trim_matches('"').to_owned()).collect();
    assert!(subjects.len() > 10, "{subjects:?}");
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
