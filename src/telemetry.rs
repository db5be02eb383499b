//! Logs: where they go, in which form, how much. Always stderr, so that stdout holds results only.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// What is logged unless something else is asked for. The client's own lifecycle messages repeat ours.
const DEFAULT_FILTER: &str = "info";
const CLIENT_FILTER: &str = "async_nats=warn";

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines for people, with colours on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Reads a level (`debug`) or a filter (`natshook=debug,info`), as `RUST_LOG` has it. Empty means the default.
///
/// # Errors
/// It is neither.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    // What comes later wins, so that `async_nats=debug` still can be asked for.
    EnvFilter::builder().parse(format!("{CLIENT_FILTER},{text}"))
}

/// Starts logging. A second call changes nothing.
pub fn init(format: LogFormat, filter: EnvFilter) {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = if json {
        // The module is left out: `target` is the webhook target's name in our fields.
        builder.json().flatten_event(true).with_target(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal && colours_wanted()).with_target(false).try_init()
    };
    // Someone else who logs already, as in tests, goes on.
    drop(done);
}

/// Whether the user wants colours where there is a terminal (<https://no-color.org>).
#[must_use]
pub fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_nonsense_is_refused() {
        for good in ["", "debug", "natshook=trace,info", "async_nats=debug"] {
            assert!(filter(good).is_ok(), "{good:?}");
        }
        assert!(filter("natshook=loud").is_err());
        assert_eq!(filter("async_nats=debug").unwrap().to_string(), "async_nats=debug");
    }
}
