//! A test inside a network of its own, where every address is this machine and names are resolved by the test. Linux
//! only; it needs no privileges beyond user namespaces.

use std::process::{Output, Stdio};

use super::secs;

/// Set for a test that runs inside.
const INSIDE: &str = "NATSHOOK_TEST_NAMESPACE";

/// A loopback that takes every address, and a resolver that asks 127.0.0.1 and nothing else.
const SETUP: &str = "
    set -eu
    ip link set lo up
    ip route add local 0.0.0.0/0 dev lo
    if [ -e /proc/sys/net/ipv6/ip_nonlocal_bind ]; then
        ip -6 route add local ::/0 dev lo
        echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
    fi
    mount --bind \"$FOLDER/resolv.conf\" /etc/resolv.conf
    if [ -e /etc/nsswitch.conf ]; then mount --bind \"$FOLDER/nsswitch.conf\" /etc/nsswitch.conf; fi
    exec \"$@\"
";

/// Whether this process runs inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the ignored test `name` of this binary inside, and panics with its output when it fails.
pub(crate) async fn run_inside(name: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
    write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n");
    write("nsswitch.conf", "hosts: dns\n");
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", SETUP, "sh"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("FOLDER", folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let finished = tokio::time::timeout(secs(90), command.output()).await.expect("it ends");
    let Output { status, stdout, stderr } = finished.expect("unshare (util-linux) runs");
    let output = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success() && output.contains("1 passed"),
        "inside a namespace of its own (needs unshare, ip and user namespaces): {status}\n{output}"
    );
}
