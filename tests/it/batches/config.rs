//! A `batch` table that cannot work is named.

use crate::support::natshook_in;

async fn check(batch: &str) -> (i32, String) {
    check_at("https://hooks.example.com/x", batch).await
}

async fn check_at(url: &str, batch: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("natshook.toml");
    let text =
        format!("[[targets]]\nname = \"policy\"\nsubjects = \"a.*\"\nurl = {url:?}\nbatch = {batch}\n");
    std::fs::write(&path, text).unwrap();
    let finished = natshook_in(&["check", "--config", &path.to_string_lossy()], &[]).await;
    (finished.code, finished.all())
}

#[tokio::test]
async fn every_good_table_passes() {
    for batch in [
        "{}",
        "{ max_messages = 1000, max_bytes = \"16MiB\", max_wait = \"60s\", as = \"ndjson\", answer = \"multi-status\" }",
        "{ max_messages = 2, max_bytes = 1024, max_wait = \"1ms\", as = \"json-array\", answer = \"whole\" }",
        "{ as = \"cloudevents-batch\", answer = { failed = \"\" } }",
        "{ answer = { failed = \"/a~0b/c~1d/0\" } }",
    ] {
        let (code, output) = check(batch).await;
        assert_eq!(code, 0, "{batch}: {output}");
    }
}

#[tokio::test]
async fn what_belongs_to_one_message_is_refused_beside_a_batch() {
    for (line, key) in [
        ("reply = { subject = \"answers\" }", "reply"),
        ("headers = { \"X-Tenant\" = \"{{ subject[1] }}\" }", "headers"),
        ("format = \"cloudevents-binary\"", "format"),
    ] {
        let (code, output) = check(&format!("{{}}\n{line}")).await;
        let named = output.contains(&format!("targets[0].{key}")) && output.contains("beside batch");
        assert!(code == 78 && named, "{line}: {code}: {output}");
    }
    let (code, output) = check_at("https://hooks.example.com/{{ subject[1] }}", "{}").await;
    assert!(code == 78 && output.contains("targets[0].url") && output.contains("beside batch"), "{output}");
    let (code, output) = check("{}\nformat = \"cloudevents-structured\"\nheaders = { a = \"b\" }").await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test]
async fn what_cannot_work_is_named_with_what_would() {
    for (batch, words) in [
        ("true", ["batch", "a table"]),
        ("{ max_messages = 1 }", ["batch.max_messages", "2 to 1000"]),
        ("{ max_messages = 1001 }", ["batch.max_messages", "2 to 1000"]),
        ("{ max_bytes = 1023 }", ["batch.max_bytes", "1024 to 16777216"]),
        ("{ max_wait = \"0s\" }", ["batch.max_wait", "1ms to 1m"]),
        ("{ max_wait = \"61s\" }", ["batch.max_wait", "1ms to 1m"]),
        ("{ as = \"csv\" }", ["batch.as", "\"json-array\""]),
        ("{ answer = \"each\" }", ["batch.answer", "\"multi-status\""]),
        ("{ answer = {} }", ["batch.answer.failed", "is missing"]),
        ("{ answer = { failed = \"failed\" } }", ["batch.answer.failed", "JSON pointer"]),
        ("{ answer = { failed = \"/~2\" } }", ["batch.answer.failed", "JSON pointer"]),
        ("{ answer = { failde = \"/x\" } }", ["batch.answer", "failed"]),
        ("{ max_message = 3 }", ["batch.max_message", "max_messages"]),
    ] {
        let (code, output) = check(batch).await;
        let named = words.iter().all(|word| output.contains(word));
        assert!(code == 78 && named, "{batch}: expected 78 and {words:?}; got {code}:\n{output}");
    }
}
