//! Programs that tests use where the machine has them: browsers, Prometheus, languages.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set where every test must run: a missing program then fails it.
const REQUIRE: &str = "NATSHOOK_TESTS_REQUIRE_TOOLS";

/// Where `name` is. `None` when it is not on PATH: the test then says so and ends, unless
/// `NATSHOOK_TESTS_REQUIRE_TOOLS` is set.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(env::var_os(REQUIRE).is_none(), "no {name} on PATH, and {REQUIRE} is set");
        println!("skipped: no {name} on PATH");
    }
    found
}

/// The Python libraries that the docs show (scripts/python.txt), for PYTHONPATH.
pub(crate) fn python_libraries() -> Option<PathBuf> {
    tool("python3")?;
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/provision-python"));
    let provided = script.stderr(Stdio::inherit()).output().expect("scripts/provision-python runs");
    if !provided.status.success() {
        assert!(env::var_os(REQUIRE).is_none(), "no Python libraries, and {REQUIRE} is set");
        println!("skipped: the libraries of scripts/python.txt cannot be had");
        return None;
    }
    Some(String::from_utf8_lossy(&provided.stdout).trim().into())
}
