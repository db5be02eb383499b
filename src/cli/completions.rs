//! `natshook completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// Print the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  natshook completions bash > /etc/bash_completion.d/natshook")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "natshook", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
