//! What the three programs of the load bench share: the payload, and what the receiver reports.
//!
//! * `load` (`main.rs`) starts everything, measures, and prints the tables.
//! * `bare` is the thirty-line loop that natshook is measured against.
//! * `receiver` is the webhook at the other end; it counts and times.

pub mod payload;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The loopback address of the receiver's host `number`, of 62,500 at most; all have the receiver's port.
#[must_use]
pub fn host(number: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number % 250).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 1, part(number / 250), part(number))
}

/// What the receiver has seen so far, as it answers `GET /stats`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Requests that carried a payload of the bench.
    pub received: u64,
    /// Different messages among them; the rest are duplicates.
    pub distinct: u64,
    /// From the first request to the newest one with a new message, in nanoseconds.
    pub span_ns: u64,
    /// From publish to answer, in microseconds, over the messages that are not warm-up.
    pub p50_us: u64,
    /// The same at the 99th percentile.
    pub p99_us: u64,
}
