//! The house rules that a compiler does not know: who may name which library, and how long a file may be.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a source file.
const LINES_MAX: usize = 500;

/// Which rooms may name a library. Everybody else goes through them.
const WHO_KNOWS: [(&str, &[&str]); 26] = [
    ("async_nats", &["source"]),
    ("hyper", &["sender", "admin/serve.rs"]),
    ("hyper_util", &["sender", "egress", "admin/serve.rs"]),
    ("hyper_rustls", &["sender"]),
    ("h2", &["sender"]),
    ("use config", &["config"]),
    ("aws_credential_types", &["sigv4.rs"]),
    ("aws_sigv4", &["sigv4.rs"]),
    ("axum", &["admin", "cli"]),
    ("hdrhistogram", &["status"]),
    ("indicatif", &["cli"]),
    ("notify", &["config"]),
    ("opentelemetry", &["trace"]),
    ("opentelemetry_http", &["trace"]),
    ("opentelemetry_otlp", &["trace"]),
    ("opentelemetry_sdk", &["trace"]),
    ("prometheus_client", &["metrics"]),
    ("maud", &["admin"]),
    ("rustls", &["http_signature", "main.rs", "sender", "tls.rs"]),
    ("rustls_platform_verifier", &["sender"]),
    ("subtle", &["admin"]),
    ("cel", &["shape"]),
    ("jaq_core", &["shape"]),
    ("jaq_json", &["shape"]),
    ("jaq_std", &["shape"]),
    ("regex", &["shape"]),
];

/// Modules without clock, random source, network, files or runtime.
const PURE: [&str; 60] = [
    "access_token.rs",
    "admin/access/session.rs",
    "admin/access/tries.rs",
    "admin/pages/payload.rs",
    "admin/pages/sparkline.rs",
    "admin/pages/text.rs",
    "admin/pages/words.rs",
    "backoff.rs",
    "batch/answer.rs",
    "batch/answer_tests.rs",
    "batch/body.rs",
    "batch/forming.rs",
    "batch/judgement.rs",
    "batch/mod.rs",
    "batch/request.rs",
    "breaker.rs",
    "cloud_event/header_text.rs",
    "cloud_event/media.rs",
    "cloud_event/mod.rs",
    "cloud_event/read.rs",
    "cloud_event/write.rs",
    "disposition.rs",
    "envelope/answer.rs",
    "envelope/letter.rs",
    "envelope/mod.rs",
    "envelope/waiting.rs",
    "failure_log.rs",
    "handshake.rs",
    "http_signature/component.rs",
    "http_signature/key.rs",
    "http_signature/mod.rs",
    "message.rs",
    "order/lines.rs",
    "order/mod.rs",
    "outcome.rs",
    "registry/document.rs",
    "registry/judge.rs",
    "registry/protocol.rs",
    "registry/seal.rs",
    "reply.rs",
    "request.rs",
    "shape/filter.rs",
    "shape/filter_check.rs",
    "shape/format.rs",
    "shape/misread.rs",
    "shape/mod.rs",
    "shape/path.rs",
    "shape/template.rs",
    "shape/template_read.rs",
    "shape/transform.rs",
    "shaper/frame.rs",
    "signature.rs",
    "sigv4.rs",
    "status/snapshot.rs",
    "status/stats.rs",
    "subject.rs",
    "target.rs",
    "tls.rs",
    "trace/trouble.rs",
    "trace_parent.rs",
];

const IMPURE: [&str; 6] = ["tokio", "SystemTime::now", "Instant::now", "fastrand", "std::net", "std::fs"];

fn sources(root: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// The lines of a file that are neither comments nor its tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether `line` names a library, and not a log target, a field or a longer word.
fn names(line: &str, library: &str) -> bool {
    line.match_indices(library).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + library.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
            && (after.starts_with("::") || after.starts_with(';') || after.starts_with(" as "))
    })
}

#[test]
fn only_the_rooms_made_for_it_name_a_library() {
    for (path, text) in sources("src") {
        for (library, rooms) in WHO_KNOWS {
            if !rooms.iter().any(|room| path.starts_with(room)) {
                let found = code(&text).find(|line| names(line, library));
                assert_eq!(found, None, "{} may not know {library}", path.display());
            }
        }
    }
}

#[test]
fn pure_modules_know_neither_clock_nor_runtime() {
    for (path, text) in sources("src") {
        if PURE.iter().any(|pure| path == Path::new(pure)) {
            for name in IMPURE {
                let found = code(&text).find(|line| line.contains(name));
                assert_eq!(found, None, "{} is pure and may not use {name}", path.display());
            }
        }
    }
}

#[test]
fn no_source_file_is_too_long() {
    for root in ["src", "tests", "benches", "fuzz"] {
        for (path, text) in sources(root) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{root}/{} has {lines} lines; {LINES_MAX} at most", path.display());
        }
    }
}

#[test]
fn every_module_says_what_lives_there() {
    for (path, text) in sources("src") {
        assert!(text.starts_with("//!"), "{} has no header", path.display());
    }
}
