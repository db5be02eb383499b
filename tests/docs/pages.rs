//! What a page says about files of this repository: configs that parse, files that are quoted to the letter, links that
//! lead somewhere.

use std::{fs, path::Path};

use natshook::config::{Config, LoadError};

use super::{MIGRATION, OPERATIONS, ORDER, README, RECEIVING, blocks::blocks, pages, repository, root};

/// The secrets that shown configs take from the environment.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn every_config_that_is_shown_is_a_config() {
    let mut found = 0;
    for (page, text) in pages() {
        for block in blocks(&page, &text).into_iter().filter(|block| block.language == "toml") {
            let text = with_secrets(&block.text);
            let folder = tempfile::tempdir().unwrap();
            let text = text.replace("/etc/natshook/", &with_files(folder.path()));
            let path = folder.path().join("shown.toml");
            fs::write(&path, &text).unwrap();
            let loaded: Result<Config, LoadError> = Config::load(&path);
            loaded.unwrap_or_else(|error| panic!("{page}: {text}\n{error}"));
            found += 1;
        }
    }
    assert!(found > 1, "{found}");
}

/// The same with a secret in the place of each variable: those a test must not set for its whole process.
fn with_secrets(text: &str) -> String {
    let mut parts = text.split("{ env = \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, part| {
        let (_, after) = part.split_once("\" }").expect("a variable's name ends");
        format!("{before}\"{SECRET}\"{after}")
    })
}

/// Writes the files that shown configs name, and returns the folder's path.
fn with_files(folder: &Path) -> String {
    let issued = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let signing = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (name, content) in [
        ("ca.pem", issued.cert.pem()),
        ("client.pem", issued.cert.pem()),
        ("client.key", issued.signing_key.serialize_pem()),
        ("signing.pem", signing.serialize_pem()),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
    format!("{}/", folder.display())
}

#[test]
fn files_are_quoted_to_the_letter() {
    for (page, text, quoted) in [
        ("README.md", README, vec!["tests/it/fixtures/permissions.conf"]),
        ("docs/operations.md", OPERATIONS, vec!["tests/it/fixtures/operator_permissions.conf"]),
        ("docs/order.md", ORDER, vec!["tests/it/fixtures/order_permissions.conf"]),
        ("docs/receiving.md", RECEIVING, programs()),
        (
            "docs/registration.md",
            &repository("docs/registration.md"),
            vec![
                "tests/it/fixtures/registry_permissions.conf",
                "docs/register/register.py",
                "docs/register/register.mjs",
                "docs/register/register.go",
            ],
        ),
        (
            "docs/migration.md",
            MIGRATION,
            vec!["docs/migration/forwarder.py", "docs/migration/forwarder_durable.py"],
        ),
    ] {
        for path in quoted {
            assert!(text.contains(&repository(path)), "{page} does not hold {path} as it is");
        }
    }
}

/// The programs that docs/receiving.md shows.
fn programs() -> Vec<&'static str> {
    vec![
        "docs/verify/verify.py",
        "docs/verify/verify_with_library.py",
        "docs/verify/server.py",
        "docs/verify/verify.mjs",
        "docs/verify/server.mjs",
        "docs/verify/verify.go",
        "docs/verify/server.go",
        "docs/verify/server.rs",
    ]
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(&page);
        let folder = folder.parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { root().join(&page) } else { folder.join(path) };
            assert!(path.exists(), "{page}: {link} does not exist");
            if !heading.is_empty() {
                let there = fs::read_to_string(&path).unwrap();
                assert!(
                    anchors(&there).any(|anchor| anchor == heading),
                    "{page}: {link} has no such heading"
                );
            }
        }
    }
}

/// What the headings of a page are called in links: lower case, spaces as hyphens, all else but words left out.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    })
}
