//! The harness: a real broker, a scripted receiver and the real binary, each bound to 127.0.0.1 and
//! ended with the test that started it.

pub(crate) mod accounts;
pub(crate) mod broker;
pub(crate) mod browser;
pub(crate) mod certs;
pub(crate) mod collector;
pub(crate) mod config;
pub(crate) mod connector;
pub(crate) mod dns;
pub(crate) mod faults;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod letters;
pub(crate) mod namespace;
pub(crate) mod peer;
pub(crate) mod receiver;
pub(crate) mod signatures;
pub(crate) mod tools;
pub(crate) mod wait;

pub(crate) use broker::Broker;
pub(crate) use config::Config;
pub(crate) use connector::{Connector, binary, natshook, natshook_in};
pub(crate) use receiver::{Answer, Receiver};
pub(crate) use wait::{millis, secs, throughout, until, until_some};

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port nobody listens on, below the range from which the kernel takes the ports of outgoing
/// connections: a client that dials a closed port of that range can meet itself. Never one that was handed out
/// before, which a server that is down at the moment may want back; processes begin far apart.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(487);
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 32000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 12000 and 32000");
}

/// Sends `name` ("TERM", "STOP", …) to one process of ours.
pub(crate) fn signal(pid: u32, name: &str) {
    let command = format!("kill -{name} {pid}");
    let status = std::process::Command::new("sh").args(["-c", &command]).status().expect("sh runs");
    assert!(status.success(), "{command}: {status}");
}
