//! An account with the least permissions: enough for everything, and no line too many.

use std::time::SystemTime;

use async_nats::ConnectOptions;

use crate::support::broker::{DEAD_LETTERS, publish_raw};
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, letters, secs, until};

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

/// What a replay leaves behind that is killed between its two steps: a copy in the retry queue, for the target `fine`,
/// of the letter `id`, which is still there.
async fn publish_copy_of(broker: &Broker, id: u64) {
    let stream = broker.jetstream_context().await.get_stream(DEAD_LETTERS).await.unwrap();
    let stored = stream.get_raw_message(id).await.unwrap().time.unix_timestamp_nanos();
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let headers = [
        ("Natshook-Target", "fine"),
        ("Natshook-Attempts", "0"),
        ("Natshook-Stream", "EVENTS"),
        ("Natshook-Sequence", "1"),
        ("Natshook-Subject", "b"),
        ("Natshook-Published", &now),
        ("Natshook-Not-Before", &now),
        ("Natshook-Dead-Letter", &format!("{id}@{stored}")),
    ];
    broker.publish_with_headers("natshook.retry.fine", &headers, "copy").await;
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
    publish_copy_of(&broker, 1).await;
    receiver.wait_for("/fine", 3).await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0, "the letter is gone before its copy is attempted");
    publish(&broker).await;
    broker.wait_for_dead_letters(1).await;
    receiver.always("/dead", Answer::ok());
    for path in ["/targets/fine/pause", "/targets/fine/resume", "/dead-letters/2/replay"] {
        let answer = http::request(connector.admin_port, "POST", path, &[], b"").await.unwrap();
        assert!(answer.status() < 400, "{path}: {}", answer.first_line);
    }
    until("the letter is replayed", secs(20), async || broker.count(DEAD_LETTERS).await == 0).await;
    broker.wait_until_settled("dead").await;
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
    if subject.contains("STREAM.MSG") && subject.ends_with(DEAD_LETTERS) {
        connector.wait_until_ready().await;
        publish(&broker).await;
        broker.wait_for_dead_letters(1).await;
        publish_copy_of(&broker, 1).await;
        until("natshook names the permission", secs(40), async || named(&connector)).await;
        return;
    }
    // What needs a lost connection: a message that ends it, or a watch that is made anew after it.
    let after_a_loss = subject.contains("MSG.GET") || subject.contains("CONSUMER.DELETE");
    if subject.starts_with("_INBOX_operator") {
        connector.wait_until_ready().await;
        let client = broker.client().await;
        until("natshook names the permission", secs(40), async || {
            client
                .publish_with_reply("natshook.control.status", "_INBOX_operator.1", "".into())
                .await
                .unwrap();
            named(&connector)
        })
        .await;
        return;
    }
    if subject.starts_with("$KV") || subject.ends_with("MSG.GET.NATSHOOK_RETRY") {
        connector.wait_until_ready().await;
        publish(&broker).await;
        broker.wait_for_dead_letters(1).await;
        let port = connector.admin_port;
        until("natshook names the permission", secs(40), async || {
            for path in ["/targets/fine/pause", "/dead-letters/1/replay"] {
                http::request(port, "POST", path, &[], b"").await;
            }
            named(&connector)
        })
        .await;
        return;
    }
    if !subject.contains("UPDATE") && !after_a_loss {
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
            if after_a_loss {
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
    without_each(PERMISSIONS, without).await;
}

/// Runs `without` for each subject that `permissions` allow.
async fn without_each(permissions: &str, without: impl AsyncFn(&str) + Copy + 'static) {
    let lines = permissions.lines().filter(|line| line.trim_start().starts_with('"'));
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

const OPERATOR: &str = include_str!("fixtures/operator_permissions.conf");

/// Every command of an operator, with the permissions given: how each ended, and what it said.
async fn operate(permissions: &str) -> Vec<(&'static str, i32, String)> {
    let broker = broker_with(permissions).await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, secs(120)).await;
    let stream = async_nats::jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["a".to_owned()],
        ..Default::default()
    };
    context.create_stream(stream).await.unwrap();
    broker.publish_numbered("a", 0..3).await;
    for target in ["one", "two", "three"] {
        letters::store(&context, target, 0..2).await;
    }
    let receiver = Receiver::start().await;
    let as_user = |lines: &str| {
        let targets = ["one", "two", "three"].into_iter();
        targets.fold(Config::on(&broker).nats(lines), |config, target| {
            config.target(target, "a", &receiver.url("/hook"), "")
        })
    };
    let _connector = Connector::start(&as_user("user = \"test\"\npassword = \"t\"")).await;
    let config = as_user("user = \"app\"\npassword = \"pw\"\ninbox_prefix = \"_INBOX_operator\"");
    let mut ends = Vec::new();
    for command in [
        "dead-letters list --since 1h",
        "dead-letters show 1",
        "dead-letters replay 1",
        "dead-letters replay --target one --rate 100/s",
        "dead-letters purge 3 --yes",
        "dead-letters purge --reason attempts_exhausted --target two --yes",
        "dead-letters purge --target three --yes",
        "replay --target one --since 1h --dry-run",
        "replay --target one --sequence 1..3",
        "targets",
        "targets test one",
        "targets pause one",
        "targets resume one",
    ] {
        let finished = natshook_with(&config, &command.split(' ').collect::<Vec<_>>()).await;
        ends.push((command, finished.code, finished.all()));
    }
    ends
}

#[tokio::test]
async fn an_account_with_the_permissions_for_operators_can_run_every_command() {
    for (command, code, said) in operate(OPERATOR).await {
        assert_eq!(code, 0, "{command}: {said}");
    }
}

async fn operate_without(subject: &str) {
    let line = format!("\"{subject}\"");
    let ends = operate(&OPERATOR.replace(&line, "")).await;
    let concrete = subject.trim_end_matches(['*', '>']);
    let named = |(_, code, said): &(&str, i32, String)| *code == 1 && said.contains(concrete);
    assert!(ends.iter().any(named), "{subject}: {ends:?}");
}

#[tokio::test]
async fn without_a_permission_a_command_says_which_one_is_missing() {
    without_each(OPERATOR, operate_without).await;
}
