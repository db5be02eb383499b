//! The command line: one file per command, and here what they share: arguments, errors, exit codes, stdout.
//! Results go to stdout, logs and errors to stderr. Nothing here knows the broker's or HTTP's client.

mod body;
mod check;
mod completions;
mod dead_letters;
mod dev;
mod health;
mod inbox;
mod paint;
mod process;
mod progress;
mod publish;
mod replay;
mod run;
mod sample;
mod schema;
mod send;
mod shape_worker;
mod target;
mod targets;
mod tests_of_targets;
mod trial;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{Config, LoadError, Reach},
    connector::RunError,
    dead_letter::OfficeError,
    history::HistoryError,
    registry::Refused,
    sender::HttpClientError,
    shaper::ShapeError,
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
  natshook try policy --data @sample.json         what would be sent of a message
  natshook targets --watch                        how the targets of running natshooks stand
  natshook target put policy.toml                 register a target while natshook runs
  natshook dead-letters list                      what was given up, and why
  natshook dead-letters replay --target policy    send it again

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

    /// Which of the config's [[connections]] is meant, where there are several
    #[arg(long, global = true, env = "NATSHOOK_CONNECTION", value_name = "NAME")]
    connection: Option<String>,

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
    DeadLetters(dead_letters::DeadLetters),
    Replay(replay::Replay),
    Send(send::Send),
    Try(trial::Try),
    Targets(targets::Targets),
    Target(target::Target),
    Health(health::Health),
    Dev(dev::Dev),
    Inbox(inbox::Inbox),
    Schema(schema::Schema),
    Completions(completions::Completions),
    #[command(hide = true)]
    ShapeWorker(shape_worker::ShapeWorker),
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
        Ok(Config::load(&self.path())?)
    }

    /// The part of the config that tells how to reach the broker: of --connection, else of the connection that has `target`, else
    /// of the only one.
    fn reach(&self, target: Option<&str>) -> Result<Reach, Failure> {
        let mut reaches = Reach::load(&self.path())?;
        let names = reaches.iter().map(|reach| reach.connection.to_string()).collect::<Vec<_>>().join(", ");
        let meant = |reach: &Reach| match (&self.connection, target) {
            (Some(name), _) => reach.connection.as_str() == name,
            (None, Some(target)) => reach.targets.iter().any(|name| name.as_str() == target),
            (None, None) => false,
        };
        match reaches.iter().position(meant) {
            Some(at) => Ok(reaches.swap_remove(at)),
            None if reaches.len() == 1 && self.connection.is_none() => Ok(reaches.swap_remove(0)),
            None => Err(Failure::Usage(match &self.connection {
                Some(name) => format!("no connection {name:?}; known are {names}"),
                None => {
                    format!("the config has several connections: choose one of {names} with --connection")
                }
            })),
        }
    }

    fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(Self::DEFAULT_CONFIG))
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
    /// The natshook on this machine is not well, or cannot be asked.
    #[error("{url}: {cause}")]
    Unwell {
        /// What was asked.
        url: String,
        /// What it said, or why it said nothing.
        cause: String,
    },
    /// The HTTP client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] HttpClientError),
    /// No running natshook answers.
    #[error("no natshook named {name:?} answers; is one running, on this account of this broker?")]
    Nobody {
        /// The instance's name.
        name: String,
    },
    /// No running natshook answers where targets register.
    #[error(
        "no natshook named {name:?} answers where targets register; is one running, on this account of this broker, with \
         registry.enabled = true?"
    )]
    NoRegistry {
        /// The instance's name.
        name: String,
    },
    /// A running natshook has not done what it was asked.
    #[error("{}", refusal(.0))]
    Refused(Refused),
    /// Somebody answers whom this natshook does not understand.
    #[error("an answer cannot be read ({0}); is natshook here as new as the one that runs?")]
    Answer(String),
    /// The dead letters cannot be read or changed.
    #[error(transparent)]
    Office(#[from] OfficeError),
    /// There is no dead letter of this id.
    #[error("there is no dead letter {0}")]
    NoLetter(u64),
    /// Some of what was to be replayed was not; why has been printed.
    #[error("{0} not replayed")]
    NotReplayed(u64),
    /// History cannot be replayed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Whoever started it ended it.
    #[error("interrupted")]
    Interrupted,
    /// Nothing can be replayed without a retry queue.
    #[error(
        "source = \"core\" keeps no retry queue, so nothing can be replayed; publish the message again, for all targets of \
         its subject"
    )]
    NoRetryQueue,
    /// Targets do not make what their tests expect; the differences have been printed.
    #[error("{0} of {1} tests failed")]
    Tests(usize, usize),
    /// Filter or transform cannot be run.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A worker cannot talk to the natshook that started it.
    #[error("cannot work: {0}")]
    Worker(io::Error),
    /// A test request did not end in a 2xx.
    #[error("not delivered; {0}")]
    NotDelivered(&'static str),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => EXIT_BAD_CONFIG.into(),
            Self::Refused(refused) if !refused.errors.is_empty() => EXIT_BAD_CONFIG.into(),
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
            | Self::Nobody { .. }
            | Self::NoRegistry { .. }
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::BrokerStart(_)
            | Self::Inbox(_)
            | Self::Unwell { .. }
            | Self::HttpClient(_)
            | Self::Office(_)
            | Self::NoLetter(_)
            | Self::NotReplayed(_)
            | Self::History(_)
            | Self::Interrupted
            | Self::NoRetryQueue
            | Self::Tests(..)
            | Self::Shape(_)
            | Self::Worker(_)
            | Self::NotDelivered(_) => ExitCode::FAILURE,
        }
    }
}

fn refusal(refused: &Refused) -> String {
    let errors = refused.errors.iter().map(|wrong| format!("\n  {}", paint::harmless(&wrong.to_string())));
    [paint::harmless(&refused.error)].into_iter().chain(errors).collect()
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
        Command::DeadLetters(command) => command.execute(&cli.global),
        Command::Replay(command) => command.execute(&cli.global),
        Command::Send(command) => command.execute(&cli.global),
        Command::Try(command) => command.execute(&cli.global),
        Command::Targets(command) => command.execute(&cli.global),
        Command::Target(command) => command.execute(&cli.global),
        Command::Health(command) => command.execute(&cli.global),
        Command::Dev(command) => command.execute(&cli.global),
        Command::Inbox(command) => command.execute(&cli.global),
        Command::Schema(command) => command.execute(),
        Command::Completions(command) => command.execute(),
        Command::ShapeWorker(command) => command.execute(),
    }
}

/// Writes to stdout. A reader that has seen enough (`natshook schema | head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    print_on(text.as_bytes()).map(drop)
}

/// Writes to stdout; `false` when nobody reads any more.
fn print_on(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Stdout(error)),
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
