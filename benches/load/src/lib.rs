//! What the three programs of the load bench share: the payload, and what the receiver reports.
//!
//! * `load` (`main.rs`) starts everything, measures, and prints the tables.
//! * `bare` is the thirty-line loop that natshook is measured against.
//! * `receiver` is the webhook at the other end; it counts and times.

pub mod payload;

use serde::{Deserialize, Serialize};

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
