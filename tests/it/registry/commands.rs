//! `natshook target`.

use serde_json::{Value, json};

use super::{ask, open, put, target};
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, natshook_in, secs, until};

/// Runs `natshook target ARGS` with an editor that does what `script` says with the file `$1`.
async fn edit(config: &Config, name: &str, script: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natshook.toml");
    std::fs::write(&file, config.text()).unwrap();
    let editor = dir.path().join("editor");
    std::fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
    let editor = format!("sh {}", editor.display());
    let file = file.to_string_lossy();
    let done = natshook_in(
        &["target", "edit", name, "--config", &file],
        &[("EDITOR", &editor), ("VISUAL", &editor), ("TMPDIR", &dir.path().to_string_lossy())],
    )
    .await;
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 2, "nothing is left of what was edited");
    (done.code, done.all())
}

#[tokio::test]
async fn a_target_is_put_listed_shown_and_removed_by_commands() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let connector = Connector::start(&config).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("policy.toml");
    let text = format!(
        "name = \"policy\"\nsubjects = [\"a\"]\nurl = {:?}\nheaders = {{ \"X-Source\" = \"toml\" }}\nauth = {{ bearer = \"hunter2\" }}\n",
        receiver.url("/hook?key=hunter2")
    );
    std::fs::write(&toml, &text).unwrap();
    let toml = toml.to_string_lossy();
    let natshook = async |args: &[&str]| natshook_with(&config, &[&["target"], args].concat()).await;

    let done = natshook(&["put", &toml]).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "policy: registered, revision 1\n"), "{}", done.stderr);
    let done = natshook(&["put", &toml]).await;
    assert_eq!(done.stdout, "policy: registered already as it is, revision 1\n");
    let done = natshook(&["put", &toml, "--name", "copy", "--revision", "0"]).await;
    assert_eq!(done.stdout, "copy: registered, revision 2\n", "{}", done.stderr);
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    broker.publish("a", "1").await;
    let seen = receiver.wait_for("/hook?key=hunter2", 1).await;
    assert_eq!(seen[0].header("x-source").as_deref(), Some("toml"));

    let listed = natshook(&["list"]).await;
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert!(listed.stdout.lines().nth(2).unwrap().starts_with("policy"), "{}", listed.stdout);
    let lines = natshook(&["list", "--json"]).await.stdout;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["name"], &first["state"]), (&json!("copy"), &json!("active")));
    assert!(!listed.all().contains("hunter2") && !lines.contains("hunter2"), "{lines}");
    let shown = natshook(&["get", "policy"]).await.stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["auth"]["bearer"], json!({ "sealed": true }));
    let found = natshook(&["get", "policy", "--json"]).await.stdout;
    assert!(found.contains("\"revision\": 1"), "{found}");

    assert_eq!(natshook(&["delete", "copy"]).await.stdout, "copy: removed\n");
    let missing = natshook(&["get", "copy"]).await;
    assert_eq!((missing.code, missing.stderr.trim()), (1, "no target \"copy\" has registered"));
    std::fs::write(&*toml, text.replace("[\"a\"]", "[\"\"]").replace("auth", "timeout = 1\nauth")).unwrap();
    let refused = natshook(&["put", &toml]).await;
    assert_eq!(refused.code, 78, "{}", refused.all());
    for key in ["subjects[0]: ", "timeout: found 1"] {
        assert!(refused.stderr.contains(key), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_target_is_changed_in_an_editor_which_opens_again_with_the_errors() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let _connector = Connector::start(&config).await;
    let mut policy = target("policy", "a", &receiver, "/hook");
    policy["auth"] = json!({ "bearer": "hunter2" });
    put(&broker, policy).await.done();

    assert_eq!(edit(&config, "policy", "true").await, (0, "policy: left as it was\n".to_owned()));
    // First an error, then, when the editor shows it, its mending.
    let script = "grep -q '^// timeout: found' \"$1\" && sed -i 's/one second/1s/' \"$1\" || \
                  sed -i 's/\"name\"/\"timeout\": \"one second\", \"name\"/' \"$1\"";
    let (code, said) = edit(&config, "policy", script).await;
    assert_eq!((code, said.as_str()), (0, "policy: registered, revision 2\n"));
    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done();
    assert_eq!(found["target"]["timeout"], "1s");
    assert_eq!(found["target"]["auth"]["bearer"], json!({ "sealed": true }));
    // Left as it was refused: nothing is done.
    let (code, said) = edit(&config, "policy", "sed -i 's/\"1s\"/\"soon\"/' \"$1\"").await;
    assert_eq!((code, said.as_str()), (0, "policy: left as it was\n"));
    assert_eq!(edit(&config, "policy", "exit 3").await.0, 1);
    assert_eq!(edit(&config, "nobody", "true").await.0, 1);
}

#[tokio::test]
async fn dead_letters_of_a_registered_target_are_replayed_by_command() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(400)]);
    let config = open(&broker);
    let connector = Connector::start(&config).await;
    put(&broker, target("policy", "a", &receiver, "/hook")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    broker.publish("a", "1").await;
    broker.wait_for_dead_letters(1).await;
    let done = natshook_with(&config, &["dead-letters", "replay", "--target", "policy"]).await;
    assert_eq!(done.code, 0, "{}", done.all());
    receiver.wait_for("/hook", 2).await;
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_natshook_that_lets_nobody_register_is_named_as_the_reason() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("own", "a", &receiver.url("/own"), "");
    let _connector = Connector::start(&config).await;
    until("the command says why", secs(20), async || {
        let done = natshook_with(&config, &["target", "list"]).await;
        done.code == 1 && done.stderr.contains("registry.enabled = true")
    })
    .await;
}
