//! The commands of a page, run as they are shown: by bash, in their order, in an empty folder of their own, and in a network
//! of their own, where every port is free and nothing is reached. `natshook` and `nats-server` are on PATH. Paths below
//! /tmp are the session's own.

use std::{
    env,
    fmt::Write as _,
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    blocks::{Block, blocks},
    repository, root,
    tools::tool,
};

/// A page whose commands are run.
pub(crate) struct Session {
    pub(crate) page: &'static str,
    /// What is there before the first command, as the prose says or takes for granted.
    before: &'static str,
    /// Programs that its commands need beside natshook and nats-server.
    needs: &'static [&'static str],
}

pub(crate) const SESSIONS: [Session; 7] = [
    Session { page: "docs/migration.md", before: MIGRATION, needs: &["python3"] },
    Session { page: "README.md", before: README, needs: &["python3"] },
    Session { page: "docs/operations.md", before: OPERATIONS, needs: &["python3", "node", "curl"] },
    Session { page: "docs/receiving.md", before: "", needs: &["python3"] },
    Session { page: "docs/registration.md", before: REGISTRATION, needs: &["python3", "curl"] },
    Session { page: "docs/shaping.md", before: "", needs: &[] },
    Session { page: "docs/upgrading.md", before: OPERATIONS, needs: &["python3", "curl"] },
];

/// The session of README goes on in terminals that have the same secret and say `--config orders.toml`.
const README: &str = r#"
export NATSHOOK_CONFIG=orders.toml WEBHOOK_SECRET="whsec_$(head -c 32 /dev/urandom | base64)"
"#;

/// A broker, a receiver and natshook at work: the target `policy` is well, and has a dead letter.
const OPERATIONS: &str = r#"
nats-server -js -a 127.0.0.1 -sd store > nats.log 2>&1 &
python3 docs/verify/receiver.py 9000 > receiver.log 2>&1 &
mkdir -p etc
cat > etc/natshook.toml <<'END'
egress = { allow = ["127.0.0.0/8"], allow_http = true }
[[targets]]
name = "policy"
subjects = ["PolicyUpdated", "policies.>"]
url = "http://127.0.0.1:9000/"
retry = { delays = ["100ms"] }
END
export NATSHOOK_CONFIG=$PWD/etc/natshook.toml
natshook run > natshook.log 2>&1 &
patiently curl -sf http://127.0.0.1:8822/readyz
natshook publish policies.broken '{"id":7}'
patiently grep -q attempts_exhausted natshook.log
"#;

/// A broker, and the receiver of the forwarder.
const MIGRATION: &str = r#"
nats-server -js -a 127.0.0.1 -sd store > nats.log 2>&1 &
python3 docs/verify/receiver.py 9000 > receiver.log 2>&1 &
patiently bash -c '</dev/tcp/127.0.0.1/4222 && </dev/tcp/127.0.0.1/9000'
"#;

/// A broker, a receiver, and a natshook where targets register.
const REGISTRATION: &str = r#"
nats-server -js -a 127.0.0.1 -sd store > nats.log 2>&1 &
python3 docs/verify/receiver.py 9000 > receiver.log 2>&1 &
cat > natshook.toml <<'END'
egress = { allow = ["127.0.0.0/8"], allow_http = true }
registry = { enabled = true }
END
export NATSHOOK_CONFIG=$PWD/natshook.toml NATSHOOK__REGISTRY__KEY="$(head -c 32 /dev/urandom | base64)"
natshook run > natshook.log 2>&1 &
patiently curl -sf http://127.0.0.1:8822/readyz
patiently natshook target list
"#;

/// How long a session may take. Much: CI runs several on few cores.
const SESSION_MAX: Duration = Duration::from_secs(240);

/// What the driver knows: to wait for something that comes.
const DRIVER: &str = r#"
set -u
patiently() {
    for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
    echo "FAILED: not within a minute: $*"; tail -n 30 *.log out/* 2>/dev/null; finish 1
}
finish() { trap - TERM; kill -KILL 0; exit "$1"; }
ip link set lo up
"#;

/// Marks where a command of a console block begins.
const MARK: &str = "\u{1e}";

#[test]
fn the_commands_of_readme_do_what_it_says() {
    run("README.md");
}

#[test]
fn the_commands_of_the_runbook_do_what_it_says() {
    run("docs/operations.md");
}

#[test]
fn the_commands_of_the_migration_do_what_it_says() {
    run("docs/migration.md");
}

#[test]
fn the_commands_of_an_upgrade_do_what_it_says() {
    run("docs/upgrading.md");
}

#[test]
fn the_commands_for_registering_do_what_the_page_says() {
    run("docs/registration.md");
}

#[test]
fn the_commands_of_shaping_do_what_it_says() {
    run("docs/shaping.md");
}

#[test]
fn the_commands_for_receivers_do_what_they_say() {
    run("docs/receiving.md");
}

/// Runs a page's commands, and compares what its console blocks show.
fn run(page: &str) {
    let session = SESSIONS.iter().find(|session| session.page == page).expect("a session");
    let needs = ["bash", "unshare", "ip"].iter().chain(session.needs);
    if needs.map(|name| tool(name)).any(|tool| tool.is_none()) {
        return;
    }
    let blocks = blocks(page, &repository(page));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    furnish(folder.path());
    let mut driver = format!("{DRIVER}{}\n", session.before);
    for (number, block) in blocks.iter().enumerate() {
        if let Some(file) = block.comment("as") {
            fs::write(folder.path().join("files").join(number.to_string()), &block.text).unwrap();
            let _ = writeln!(driver, "cp files/{number} {file}");
        } else if block.is_run() {
            driver.push_str(&step(number, block, folder.path()));
        }
    }
    driver.push_str("echo FINISHED\nfinish 0\n");
    fs::write(folder.path().join("driver.sh"), driver).unwrap();
    let said = drive(folder.path());
    assert!(said.contains("FINISHED"), "{page}: {said}");
    let ran = blocks.iter().enumerate().filter(|(_, block)| block.is_run());
    for (number, block) in ran.clone().filter(|(_, block)| block.language == "console") {
        compare(block, &fs::read_to_string(folder.path().join("out").join(number.to_string())).unwrap());
    }
    assert!(ran.count() > 0, "{page} has no command that is run");
}

/// What stands in the folder: the repository's own, and the programs.
fn furnish(folder: &Path) {
    for name in ["bin", "blocks", "files", "out", "tmp"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for name in ["config", "deploy", "docs", "scripts", "Makefile"] {
        symlink(root().join(name), folder.join(name)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_natshook"), folder.join("bin/natshook")).unwrap();
    symlink(nats_server(), folder.join("bin/nats-server")).unwrap();
}

fn nats_server() -> PathBuf {
    let given = env::var_os("NATSHOOK_NATS_SERVER").map(PathBuf::from);
    let given = given.or_else(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file())
    });
    given.unwrap_or_else(|| root().join("target/tools/nats-server"))
}

/// The lines by which the driver runs a block.
fn step(number: usize, block: &Block, folder: &Path) -> String {
    let text = if block.language == "console" { commands(&block.text) } else { block.text.clone() };
    let text = text.replace("/tmp/", &format!("{}/tmp/", folder.display()));
    fs::write(folder.join("blocks").join(number.to_string()), text).unwrap();
    let mut lines = String::new();
    if let Some(command) = block.comment("once") {
        let _ = writeln!(lines, "patiently {command}");
    }
    let run = format!("bash -euo pipefail blocks/{number} >out/{number} 2>&1");
    match block.comment("in the background") {
        Some(until) => {
            let _ = writeln!(lines, "{run} &");
            if let Some(text) = until.trim_start_matches(',').trim().strip_prefix("until:") {
                let _ = writeln!(lines, "patiently grep -qF {:?} out/{number}", text.trim());
            }
        }
        None => {
            let failed = format!(
                "{{ echo 'FAILED: {}'; cat out/{number}; tail -n 20 *.log; finish 1; }}",
                block.place
            );
            let _ = writeln!(lines, "timeout 60 {run} </dev/null || {failed}");
        }
    }
    lines
}

/// The commands of a console block, each behind a mark.
fn commands(text: &str) -> String {
    let mut script = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let command = if goes_on { Some(line) } else { line.strip_prefix("$ ") };
        let Some(command) = command else { continue };
        if !goes_on {
            let _ = writeln!(script, "echo {MARK}");
        }
        goes_on = command.ends_with('\\');
        script.push_str(command);
        script.push('\n');
    }
    script
}

/// Compares what a console block shows with what its commands printed.
fn compare(block: &Block, printed: &str) {
    let shown = block.text.split("$ ").skip(1).map(|part| part.split_once('\n').map_or("", |(_, out)| out));
    let printed = printed.split(MARK).skip(1);
    for (shown, printed) in shown.zip(printed) {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (shown, printed) = (words(shown), words(printed));
        let mut rest = printed.as_str();
        for part in shown.split('…').map(str::trim) {
            let Some((_, behind)) = rest.split_once(part) else {
                panic!("{}: shows\n{shown}\nbut its command prints\n{printed}", block.place);
            };
            rest = behind;
        }
    }
}

/// Runs the driver to its end, or to the end of its time; everything that it started ends with it.
fn drive(folder: &Path) -> String {
    let output = fs::File::create(folder.join("driver.log")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "bash", "driver.sh"]).current_dir(folder);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NATSHOOK")) {
        command.env_remove(name);
    }
    let path = env::var("PATH").unwrap_or_default();
    let mut child = command
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .env("HOME", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() && started.elapsed() < SESSION_MAX {
        thread::sleep(Duration::from_millis(20));
    }
    let group = format!("kill -KILL -- -{} 2>/dev/null", child.id());
    let _ = Command::new("sh").args(["-c", &group]).status();
    let _ = child.wait();
    let said = fs::read_to_string(folder.join("driver.log")).unwrap();
    if said.contains("FINISHED") { said } else { format!("after {:?}: {said}", started.elapsed()) }
}
