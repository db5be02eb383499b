//! natshook delivers NATS messages to external webhooks.
//!
//! The life of a message, in the order of the modules:
//!
//! ```text
//! source ─► delivery ─► shape ─► lane (permit, rate, breaker) ─► request ─► sender ─► outcome ─► disposition
//!                                                                                      ├─► ack
//!                                                                                      ├─► retry_queue, then ack
//!                                                                                      └─► dead_letter, then ack
//! ```
//!
//! Values move forward only. [`delivery`] is the one parent that runs a delivery and settles it; what it calls
//! is pure, or does one thing to the outside.

pub mod config;

// Pure: no clock, no random source, no network.
pub mod access_token;
pub mod backoff;
pub mod breaker;
pub mod cloud_event;
pub mod disposition;
pub mod envelope;
pub mod failure_log;
pub mod handshake;
pub mod http_signature;
pub mod message;
pub mod order;
pub mod outcome;
pub mod registry;
pub mod reply;
pub mod request;
pub mod shape;
pub mod signature;
pub mod sigv4;
pub mod subject;
pub mod target;
pub mod tls;
pub mod trace_parent;

// The outside.
pub mod egress;
pub mod lane;
pub mod sender;
pub mod shaper;
pub mod source;

// Where a delivery goes when an attempt did not end it, and an answer when one did.
pub mod dead_letter;
pub mod replies;
pub mod retry_queue;

// What people send again.
pub mod history;

// The parts together.
pub mod admin;
pub mod batch;
pub mod connector;
pub mod delivery;
pub mod failpoint;
pub mod journal;
pub mod metrics;
pub mod status;
pub mod trace;

// The process.
pub mod cli;
pub mod telemetry;
