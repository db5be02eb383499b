//! The fault campaign: one sentence for each fault, over real parts. Each publishes while the fault happens, waits
//! until everything is settled, and holds what came of it against the ledger: nothing lost, duplicates within the bound
//! that docs/reliability.md states. Seeds choose the messages' fates and the moments.
//!
//! `NATSHOOK_CHAOS_SEEDS` (default 1) and `NATSHOOK_CHAOS_MESSAGES` (default 200) say how much of it; `make chaos` runs
//! it against the release binary and writes the table.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod books;
mod campaign;
mod clock;
mod cluster;
mod frames;
mod ledger;
mod proxy;
mod rig;
mod sink;

mod acks;
mod brokers;
mod clusters;
mod crashes;
mod links;
mod own_streams;
mod sick_targets;
mod source_limits;
