//! Reading: formats, the environment, syntax errors.

#![allow(clippy::unwrap_used)]
use super::*;

const TARGET: &str = "[[targets]]\nname = \"a\"\nsubjects = \"x.>\"\nurl = \"https://hooks.example/\"\n";

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, LoadError> {
    let variables = variables.iter().map(|(k, v)| (OsString::from(*k), OsString::from(*v)));
    build(text, FileFormat::Toml, "t.toml", variables, check::check)
}

fn failure(text: &str, variables: &[(&str, &str)]) -> String {
    with(text, variables).unwrap_err().to_string()
}

#[test]
fn variables_override_keys_of_every_kind() {
    let variables = [
        ("NATSHOOK__NATS__SERVERS", "nats://a:1, b:2"),
        ("NATSHOOK__STREAM__CREATE", "false"),
        ("NATSHOOK__DEFAULTS__CONCURRENCY", "7"),
        ("NATSHOOK__DEFAULTS__RETRY__DELAYS", r#"["1s", "2s"]"#),
        ("NATSHOOK__TARGETS__0__TIMEOUT", "3s"),
        ("NATSHOOK__TARGETS__0__SUBJECTS", r#"["a", "b"]"#),
        ("NATSHOOK_CONFIG", "elsewhere.toml"),
        ("PATH", "/bin"),
    ];
    let config = with(TARGET, &variables).unwrap();
    let servers: Vec<_> = config.connections[0].nats.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["nats://a:1", "nats://b:2"]);
    assert!(!config.connections[0].stream.create);
    let target = &config.connections[0].targets[0];
    assert_eq!((target.concurrency.max().get(), target.timeout.as_secs()), (7, 3));
    assert_eq!((target.retry.schedule.attempts(), target.subjects.len()), (3, 2));
}

#[test]
fn a_whole_config_fits_into_one_variable() {
    let targets = r#"[{"name": "a", "subjects": "x", "url": "https://hooks.example/"}]"#;
    assert_eq!(with("", &[("NATSHOOK__TARGETS", targets)]).unwrap().targets().count(), 1);
}

#[test]
fn variables_that_name_nothing_are_errors() {
    let text =
        failure(TARGET, &[("NATSHOOK__NATS__SERVER", "x"), ("NATSHOOK__", "x"), ("NATSHOOK__A____B", "x")]);
    assert!(
        text.contains("nats.server (from NATSHOOK__NATS__SERVER): unknown key; did you mean \"servers\"?"),
        "{text}"
    );
    assert!(text.contains("NATSHOOK__A____B names no key"), "{text}");
    let text = failure(TARGET, &[("NATSHOOK__TARGETS__99999999999__URL", "x")]);
    assert!(text.contains("names no key"), "{text}");
}

#[test]
fn a_bad_variable_s_value_is_judged_like_the_file_s_and_the_variable_is_named() {
    let text = failure(TARGET, &[("NATSHOOK__TARGETS__0__TIMEOUT", "soon")]);
    let wanted =
        "targets[0].timeout (target \"a\") (from NATSHOOK__TARGETS__0__TIMEOUT): found \"soon\", expected";
    assert!(text.contains(wanted), "{text}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_named_and_not_shown() {
    use std::os::unix::ffi::OsStringExt;
    let variable = (OsString::from("NATSHOOK__NATS__TOKEN"), OsString::from_vec(b"hunter2\xff".to_vec()));
    let text =
        build(TARGET, FileFormat::Toml, "t", [variable].into_iter(), check::check).unwrap_err().to_string();
    assert!(text.contains("NATSHOOK__NATS__TOKEN is not valid UTF-8") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_syntax_error_names_line_and_column_and_quotes_nothing() {
    let text = failure("name = \"a\"\n[nats]\ntoken = \"hunter2\n", &[]);
    assert!(text.starts_with("t.toml: ") && text.contains("line 3, column"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn yaml_and_json_hold_the_same_keys() {
    let yaml = "targets:\n  - {name: a, subjects: [x], url: 'https://hooks.example/'}\n";
    let json = r#"{"targets": [{"name": "a", "subjects": ["x"], "url": "https://hooks.example/"}]}"#;
    for (text, format) in [(yaml, FileFormat::Yaml), (json, FileFormat::Json)] {
        assert_eq!(
            build(text, format, "t", std::iter::empty(), check::check).unwrap().connections[0].targets[0]
                .name
                .as_str(),
            "a"
        );
    }
    let broken =
        build("targets: [\n", FileFormat::Yaml, "t.yaml", std::iter::empty(), check::check).unwrap_err();
    assert!(broken.to_string().contains("line"), "{broken}");
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    let text = Config::load(Path::new("/nonexistent/natshook.toml")).unwrap_err().to_string();
    assert!(text.contains("/nonexistent/natshook.toml") && text.contains("--config"), "{text}");
    let text = Config::load(Path::new("natshook.conf")).unwrap_err().to_string();
    assert!(text.contains("natshook.conf: unknown format"), "{text}");
}
