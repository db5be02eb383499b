//! What README and docs/ show is true: configs parse, commands exist and are run, quoted files are quoted to the letter,
//! every ERROR line is explained, and the receivers' programs accept what natshook signs and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod blocks;
mod pages;
mod promises;
mod receivers;
mod receiving;
mod sessions;
#[path = "../it/support/tools.rs"]
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const README: &str = include_str!("../../README.md");
const MIGRATION: &str = include_str!("../../docs/migration.md");
const ORDER: &str = include_str!("../../docs/order.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const RECEIVING: &str = include_str!("../../docs/receiving.md");
const SECURITY: &str = include_str!("../../SECURITY.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn repository(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page that people read, by its path in the repository.
fn pages() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned(), "SECURITY.md".to_owned(), "CHANGELOG.md".to_owned()];
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut docs: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    docs.sort();
    paths.extend(docs.iter().map(|path| path.strip_prefix(root()).unwrap().display().to_string()));
    paths.into_iter().map(|path| (path.clone(), repository(&path))).collect()
}

fn natshook(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natshook"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null()).output().unwrap()
}
