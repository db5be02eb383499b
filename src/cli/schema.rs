//! `natshook schema`.

use clap::Args;

use super::{Failure, print};
use crate::config;

/// Print the JSON Schema of the config file
///
/// Editors check the config while it is written: put "#:schema natshook.schema.json" on the first line of the
/// TOML file (Taplo, Even Better TOML).
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook schema > config/natshook.schema.json
  natshook schema --markdown > docs/configuration.md")]
pub(super) struct Schema {
    /// The reference of every key, for people, as Markdown
    #[arg(long)]
    markdown: bool,
}

impl Schema {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        if self.markdown {
            return print(&config::reference());
        }
        print(&format!("{:#}\n", config::schema()))
    }
}
