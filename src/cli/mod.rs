//! The command line: one file per command, and here what they share: arguments, errors, exit codes, stdout.
//! Results go to stdout, logs and errors to stderr. Nothing here knows the broker's or HTTP's client.

mod body;
mod check;
mod completions;
mod dev;
mod process;
mod publish;
mod run;
mod schema;
mod send;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{Config, LoadError},
    connector::RunError,
    sender::HttpClientError,
    source::{BrokerError, ConnectError, StoreError},
    telemetry::{self, LogFormat},
};

/// What stands for a secret where something is shown.
const REDACTED: &str = "[redacted]";

/// The exit code for a config that cannot be used (`EX_CONFIG` of sysexits.h).
const EXIT_BAD_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  natshook dev                                    a broker, an inbox and three targets, to play with
  natshook check --config /etc/natshook.toml      is the config right? exits 78 if not
  natshook run                                    deliver, until SIGTERM or SIGINT
  natshook publish PolicyUpdated '{\"id\":7}'       publish a message
  natshook send policy                            one test request to a target

Exit codes: 0 fine, 1 runtime failure, 2 usage, 78 bad config.";

/// Delivers NATS messages to external webhooks: signed, retried, dead-lettered.
#[derive(Debug, Parser)]
#[command(name = "natshook", version, about, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Arguments of every command.
#[derive(Args, Debug)]
struct Global {
    /// The config file: .toml, .yaml, .yml or .json [default: config/natshook.toml]
    #[arg(long, short, global = true, env = "NATSHOOK_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,

    /// The form of log lines: auto is human on a terminal and JSON otherwise
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "NATSHOOK_LOG_FORMAT",
        value_name = "FORM"
    )]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as natshook=debug,info
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info", value_name = "LEVEL")]
    #[arg(value_parser = log_level)]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Publish(publish::Publish),
    Send(send::Send),
    Dev(dev::Dev),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

fn log_level(text: &str) -> Result<String, String> {
    match telemetry::filter(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; write error, warn, info, debug, trace, or a filter of them")),
    }
}

impl Global {
    /// Where the config is expected unless said otherwise.
    const DEFAULT_CONFIG: &str = "config/natshook.toml";

    fn load(&self) -> Result<Config, Failure> {
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from(Self::DEFAULT_CONFIG));
        Ok(Config::load(&path)?)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Stdout cannot be written.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// The async runtime cannot be built.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// The connector cannot run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A body cannot be read.
    #[error("cannot read {name}: {cause}")]
    Body {
        /// From where.
        name: String,
        /// What the system says.
        cause: io::Error,
    },
    /// There is no connection to the broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker did not do what it was asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A message was not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A message was published, and no stream has stored it.
    #[error(
        "{subject}: published, but no stream has the subject, so it is not stored; `natshook run` makes a stream for the \
         subjects of its targets"
    )]
    NotStored {
        /// Where it was published.
        subject: String,
    },
    /// There is no broker to try things with.
    #[error(transparent)]
    BrokerStart(#[from] dev::BrokerStartError),
    /// The inbox cannot listen.
    #[error("the inbox cannot listen: {0}")]
    Inbox(io::Error),
    /// Something outside is not as the config needs it; what it is has been printed.
    #[error("{0} of {1} checks failed")]
    Checks(usize, usize),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] HttpClientError),
    /// A test request did not end in a 2xx.
    #[error("not delivered; {0}")]
    NotDelivered(&'static str),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => EXIT_BAD_CONFIG.into(),
            Self::Usage(_) => 2.into(),
            Self::Stdout(_)
            | Self::Runtime(_)
            | Self::Run(_)
            | Self::Body { .. }
            | Self::Connect(_)
            | Self::Broker(_)
            | Self::Store(_)
            | Self::NotStored { .. }
            | Self::Checks(..)
            | Self::BrokerStart(_)
            | Self::Inbox(_)
            | Self::HttpClient(_)
            | Self::NotDelivered(_) => ExitCode::FAILURE,
        }
    }
}

/// Does what the arguments say, and returns how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results, not errors; a closed pipe while printing them is none either.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn execute(cli: &Cli) -> Result<(), Failure> {
    let filter =
        telemetry::filter(&cli.global.log_level).map_err(|error| Failure::Usage(error.to_string()))?;
    telemetry::init(cli.global.log_format, filter);
    match &cli.command {
        Command::Run(command) => command.execute(&cli.global),
        Command::Check(command) => command.execute(&cli.global),
        Command::Publish(command) => command.execute(&cli.global),
        Command::Send(command) => command.execute(&cli.global),
        Command::Dev(command) => command.execute(&cli.global),
        Command::Schema(command) => command.execute(),
        Command::Completions(command) => command.execute(),
    }
}

/// Writes to stdout. A reader that has seen enough (`natshook schema | head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
