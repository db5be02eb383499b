//! Sentences about natshook over real parts: a real nats-server, a real HTTP receiver and the real
//! binary. Each test has its own of each, on 127.0.0.1.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod bad_input;
mod broker_auth;
mod broker_faults;
mod commands;
mod config_errors;
mod core_mode;
mod crashes;
mod dead_letters;
mod delivery;
mod dev;
mod dropped;
mod egress;
mod fuzzed;
mod harness;
mod lanes;
mod lifecycle;
mod misbehaving;
mod outcomes;
mod permissions;
mod rebinding;
mod requests;
mod retries;
mod secrets;
mod secrets_given;
mod strangers;
