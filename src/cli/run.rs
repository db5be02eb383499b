//! `natshook run`.

use clap::Args;

use super::{Failure, Global, process};
use crate::connector;

/// Deliver messages, until SIGTERM or SIGINT
///
/// The first signal drains: nothing new is taken, what is in flight ends or goes back to the broker, within
/// shutdown.grace_period. A second one ends at once. SIGHUP reads the config again, and so does a change of its file or
/// of a secret's file: only what changed is restarted, and a config that is not valid changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  natshook run --config /etc/natshook.toml --log-format json")]
pub(super) struct Run {}

impl Run {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        process::block_on(async {
            let shutdown = process::shutdown_signal(|| ()).map_err(Failure::Runtime)?;
            let hangups = process::hangups().map_err(Failure::Runtime)?;
            Ok(connector::run(config, hangups, shutdown).await?)
        })
    }
}
