//! natshook delivers NATS messages to external webhooks.
//!
//! The life of a message, in the order of the modules:
//!
//! ```text
//! source ─► delivery ─► lane (permit, rate, breaker) ─► request ─► sender ─► outcome ─► disposition
//!                                                                            ├─► ack
//!                                                                            ├─► retry_queue, then ack
//!                                                                            └─► dead_letter, then ack
//! ```
//!
//! Values move forward only. [`delivery`] is the one parent that runs a delivery and settles it; what it calls
//! is pure, or does one thing to the outside.

pub mod config;

// Pure: no clock, no random source, no network.
pub mod backoff;
pub mod breaker;
pub mod disposition;
pub mod envelope;
pub mod message;
pub mod outcome;
pub mod request;
pub mod signature;
pub mod subject;
pub mod target;

// The outside.
pub mod egress;
pub mod lane;
pub mod sender;
pub mod source;

// Where a delivery goes when an attempt did not end it.
pub mod dead_letter;
pub mod retry_queue;

// The parts together.
pub mod admin;
pub mod connector;
pub mod delivery;
pub mod failpoint;
pub mod metrics;

// The process.
pub mod cli;
pub mod telemetry;
