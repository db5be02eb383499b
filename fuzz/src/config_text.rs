//! The text of a config file: wherever it goes wrong, every error names a key, and none holds a secret.

use natshook::config::{Config, LoadError};

/// Stands in every place of [`BAD`] and [`GOOD`] where a secret may be.
const SECRET: &str = "hunter2";

/// A target whose secrets are all in places where they are wrong, and so are talked about.
const BAD: &str = r#"
[[targets]]
name = "planted"
subjects = "planted"
url = "ftp://hunter2:hunter2@hooks.example/?token=hunter2#hunter2"
auth = { bearer = "hunter2\u0000", basic = { user = "a:b", password = "hunter2" }, header = { name = "Host", value = "hunter2\n" } }
signing = { secrets = ["hunter2", "whsec_hunter2"] }
headers = { X-Key = "hunter2\u0007", Host = "hunter2" }
"#;

/// A target whose secrets are where they belong.
const GOOD: &str = r#"
[[targets]]
name = "planted"
subjects = "planted"
url = "https://hooks.example/?token=hunter2"
auth = { bearer = "hunter2" }
headers = { X-Key = "hunter2" }
"#;

/// Reads `bytes` as a config, alone and with secrets planted after it.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A config may name any file, and some never end.
    if text.contains("file") || text.contains('\\') {
        return;
    }
    judge(text);
    if !text.contains(SECRET) {
        judge(&format!("{text}\n{BAD}"));
        judge(&format!("{text}\n{GOOD}"));
    }
}

fn judge(text: &str) {
    let planted = text.contains(SECRET) && (text.ends_with(BAD) || text.ends_with(GOOD));
    let printed = match Config::from_toml(text, "fuzz.toml") {
        Ok(config) => {
            valid(&config);
            // Headers are printed as written; a target's own is what `send` shows.
            let targets = config.targets().map(|target| format!("{} {:?}", target.url, target.auth));
            targets.collect::<String>()
        }
        Err(error) => {
            errors_name_keys(&error);
            error.to_string()
        }
    };
    assert!(!planted || !printed.contains(SECRET), "a secret is printed: {printed}");
}

fn errors_name_keys(error: &LoadError) {
    match error {
        LoadError::Invalid { errors, .. } => {
            assert!(!errors.is_empty(), "an invalid config without an error");
            for error in errors {
                assert!(!error.path.keys().is_empty(), "an error without a key: {error}");
                let line = error.to_string();
                assert!(!line.contains(char::is_control), "an error that is more than a line: {line:?}");
            }
        }
        LoadError::Syntax { message, .. } => assert!(!message.is_empty(), "a syntax error without a word"),
        LoadError::Unreadable { .. } | LoadError::UnknownFormat { .. } => panic!("no file is read: {error}"),
    }
}

/// What nobody checks again once a config was accepted.
fn valid(config: &Config) {
    assert!(config.targets().next().is_some(), "a config without targets");
    for (index, target) in config.targets().enumerate() {
        let url = target.url.expose();
        assert!(config.egress.check_url(url).is_ok(), "a url that the guard refuses: {url}");
        assert!(url.username().is_empty() && url.password().is_none(), "user info: {url}");
        assert!(config.targets().take(index).all(|other| other.name != target.name), "two of one name");
        assert!(!target.subjects.is_empty(), "a target without subjects");
        for (i, one) in target.subjects.iter().enumerate() {
            let others = target.subjects[..i].iter();
            assert!(others.into_iter().all(|two| !one.contains(two) && !two.contains(one)), "not reduced");
        }
        let timeout = target.timeout.as_millis();
        assert!((10..=300_000).contains(&timeout), "a timeout of {timeout} ms");
        let most = target.concurrency.max().get();
        assert!((1..=10_000).contains(&most), "{most} requests in flight");
        assert!(target.retry.schedule.attempts() >= 1, "no attempt at all");
    }
}
