//! What README and docs/ show is true: configs parse, commands exist, quoted files are quoted to the letter, every
//! ERROR line is explained, and the receivers' verification accepts what natshook signs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use natshook::config::{Config, LoadError};
use ring::hmac;

const README: &str = include_str!("../README.md");
const OPERATIONS: &str = include_str!("../docs/operations.md");
const SECURITY: &str = include_str!("../SECURITY.md");
/// The secrets that the configs in README take from the environment.
const SECRETS: [&str; 1] = ["WEBHOOK_SECRET"];
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A `whsk_` secret, and the public key that belongs to it (RFC 8032, 7.1, test 1).
const ED25519_SECRET: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const ED25519_PUBLIC: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// The fenced blocks of README in `language`.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if found == language {
            blocks.push(block.join("\n") + "\n");
        }
    }
    assert!(!blocks.is_empty(), "README has blocks in {language}");
    blocks
}

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn natshook(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natshook"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn every_config_in_readme_is_a_config() {
    for block in blocks("toml") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readme.toml");
        // Secrets stand in variables that a test must not set for its whole process.
        let text = SECRETS.iter().fold(block, |text, name| {
            text.replace(&format!("{{ env = \"{name}\" }}"), &format!("\"{SECRET}\""))
        });
        fs::write(&path, &text).unwrap();
        let loaded: Result<Config, LoadError> = Config::load(&path);
        loaded.unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
}

#[test]
fn every_command_in_readme_exists() {
    let shown = README.split('`').chain(README.lines()).filter_map(|text| {
        let text = text.trim_start().trim_start_matches("$ ");
        let text = text.strip_prefix("target/debug/").unwrap_or(text);
        text.strip_prefix("natshook ")
    });
    let mut commands: Vec<Vec<&str>> = shown.map(|text| text.split_whitespace().collect()).collect();
    let help = String::from_utf8(natshook(&["--help"]).stdout).unwrap();
    // Prose that begins with the product's name is no command.
    commands.retain(|words| is_listed(words[0], &help) || words.iter().any(|word| word.starts_with("--")));
    assert!(commands.len() > 5, "{commands:?}");
    for words in commands {
        let help = natshook(&[words[0], "--help"]);
        assert!(help.status.success(), "natshook {} does not exist", words[0]);
        let help = String::from_utf8(help.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "natshook {} has no {option}", words[0]);
        }
    }
    for command in ["run", "check", "publish", "send", "dev", "schema"] {
        assert!(README.contains(&format!("natshook {command}")), "README shows natshook {command}");
    }
}

/// Whether the help lists the command `word`.
fn is_listed(word: &str, help: &str) -> bool {
    help.lines().any(|line| line.strip_prefix("  ").is_some_and(|line| line.split(' ').next() == Some(word)))
}

#[test]
fn readme_quotes_files_to_the_letter() {
    for path in ["tests/it/fixtures/permissions.conf", "docs/verify/verify.py", "docs/verify/verify.mjs"] {
        assert!(README.contains(&repository(path)), "README does not hold {path} as it is");
    }
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    for (page, folder) in [(README, ""), (SECURITY, ""), (OPERATIONS, "docs/")] {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") {
                let link = link.split('#').next().unwrap_or_default();
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(link);
                assert!(path.exists(), "{link} does not exist");
            }
        }
    }
}

#[test]
fn every_test_that_proves_a_promise_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<&str> = SECURITY.split('`').filter(|text| text.contains("::")).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = format!("{}.rs", module.replace("::", "/"));
        let places = ["tests/it", "src"].map(|folder| fs::read_to_string(root.join(folder).join(&file)));
        let found = places.into_iter().flatten().any(|text| text.contains(&format!("fn {test}()")));
        assert!(found, "SECURITY.md names a test {name} that does not exist");
    }
}

#[test]
fn every_error_line_is_explained() {
    let mut found = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("src/cli") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for text in error_texts(&fs::read_to_string(&path).unwrap()) {
                found += 1;
                assert!(
                    OPERATIONS.contains(&format!("`{text}`")),
                    "docs/operations.md does not explain the ERROR {text:?} of {}",
                    path.display()
                );
            }
        }
    }
    assert!(found > 15, "only {found} ERROR lines found in src/");
}

/// The message of each `tracing::error!(…)`: the last text in it.
fn error_texts(source: &str) -> Vec<String> {
    source.split("tracing::error!(").skip(1).filter_map(last_text).collect()
}

fn last_text(call: &str) -> Option<String> {
    let (mut depth, mut last, mut text) = (1, None, None::<String>);
    for character in call.chars() {
        match (&mut text, character) {
            (Some(_), '"') => last = text.take(),
            (Some(text), other) => text.push(other),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    last
}

/// A request as it arrived.
#[derive(Clone)]
struct Received {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// What `natshook send` sends, signed with both secrets.
fn signed_request() -> Received {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = thread::spawn(move || receive(&listener));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("send.toml");
    let text = format!(
        "egress = {{ allow = [\"127.0.0.0/8\"], allow_http = true }}\n[[targets]]\nname = \"t\"\nsubjects = [\"s\"]\n\
         url = \"http://127.0.0.1:{port}/\"\nsigning = {{ secrets = [\"{SECRET}\", \"{ED25519_SECRET}\"] }}\n"
    );
    fs::write(&config, text).unwrap();
    let sent = natshook(&["send", "t", "--data", "{\"é\": 1}", "--config", config.to_str().unwrap()]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    receiver.join().unwrap()
}

fn receive(listener: &TcpListener) -> Received {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut headers = HashMap::new();
    for line in reader.by_ref().lines().skip(1) {
        let line = line.unwrap();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    Received { headers, body }
}

/// Programs that call `verify` for each case on stdin, and print a line for each: the id, or why it was refused.
const PYTHON: &str = "
import json, sys; sys.path.insert(0, 'docs/verify')
from verify import verify
for case in json.load(sys.stdin):
    try:
        print(verify(case['keys'], case['headers'], bytes(case['body'])))
    except ValueError as error:
        print('refused:', error)
";
const NODE: &str = "
import { readFileSync } from 'node:fs';
const { verify } = await import(process.cwd() + '/docs/verify/verify.mjs');
for (const { keys, headers, body } of JSON.parse(readFileSync(0))) {
  try { console.log(verify(keys, headers, Buffer.from(body))); }
  catch (error) { console.log('refused:', error.message); }
}
";

/// A request, the keys that its receiver has, and what verifying it should say.
struct Case {
    what: &'static str,
    keys: Vec<&'static str>,
    request: Received,
    expected: Result<(), &'static str>,
}

/// What a verification of `v1` must accept and refuse.
fn cases(signed: &Received) -> Vec<Case> {
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let case = |what, keys: &[&'static str], expected| Case {
        what,
        keys: keys.to_vec(),
        request: signed.clone(),
        expected,
    };
    let with = |what, name: &str, value: &str, expected| {
        let mut case = case(what, &[SECRET], Err(expected));
        case.request.headers.insert(name.to_owned(), value.to_owned());
        case
    };
    let (wrong, stale, bad) = (
        "no signature matches",
        "the timestamp is too far from now",
        "a webhook header is missing or unreadable",
    );
    let mut tampered = case("a tampered body", &[SECRET], Err(wrong));
    tampered.request.body.push(b' ');
    let mut unsigned = case("no signature", &[SECRET], Err(bad));
    unsigned.request.headers.remove("webhook-signature");
    let mut forged = case("a request signed with an empty secret", &["whsec_"], Err(wrong));
    forged.request.headers.insert("webhook-signature".to_owned(), signed_with_nothing(signed));
    vec![
        forged,
        case("a signed request", &[SECRET], Ok(())),
        case("a rotated secret", &[OTHER, SECRET], Ok(())),
        case("another secret", &[OTHER], Err(wrong)),
        case("no secret", &[], Err(wrong)),
        tampered,
        unsigned,
        with("another id", "webhook-id", "other", wrong),
        with("an old timestamp", "webhook-timestamp", "1614265330", stale),
        with("a timestamp to come", "webhook-timestamp", "99999999999", stale),
        with("no timestamp", "webhook-timestamp", "x", bad),
        with("an empty signature", "webhook-signature", "v1,", wrong),
        with("nonsense", "webhook-signature", "v1a,AAAA nonsense ,", wrong),
    ]
}

/// The signature that anybody could make for a receiver whose secret is empty by mistake.
fn signed_with_nothing(request: &Received) -> String {
    let (id, timestamp) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), &signed);
    format!("v1,{}", STANDARD.encode(tag))
}

/// Runs all cases in one process.
fn judge(program: &[&str], cases: &[Case]) {
    let input = cases.iter().map(|case| {
        serde_json::json!({ "keys": case.keys, "headers": case.request.headers, "body": case.request.body })
    });
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program[0]));
    let input = serde_json::Value::from_iter(input).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(said.lines().count(), cases.len(), "{said}");
    for (case, line) in cases.iter().zip(said.lines()) {
        match case.expected {
            Ok(()) => assert_eq!(line, case.request.headers["webhook-id"], "{}", case.what),
            Err(reason) => assert_eq!(line, format!("refused: {reason}"), "{}", case.what),
        }
    }
}

#[test]
fn python_verifies_what_natshook_signs() {
    judge(&["python3", "-c", PYTHON], &cases(&signed_request()));
}

#[test]
fn node_verifies_what_natshook_signs() {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: there is no node here");
        return;
    }
    let signed = signed_request();
    let mut cases = cases(&signed);
    let public = |what, request, expected| Case { what, keys: vec![ED25519_PUBLIC], request, expected };
    cases.push(public("v1a by the public key", signed.clone(), Ok(())));
    let tampered = Received { body: b"{}".to_vec(), ..signed };
    cases.push(public("v1a and a tampered body", tampered, Err("no signature matches")));
    judge(&["node", "--input-type=module", "-e", NODE], &cases);
}
