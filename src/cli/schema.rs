//! `natshook schema`.

use clap::Args;

use super::{Failure, print};

/// Print the JSON Schema of the config file
///
/// Editors check the config while it is written: put "#:schema natshook.schema.json" on the first line of the
/// TOML file (Taplo, Even Better TOML).
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  natshook schema > config/natshook.schema.json")]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        print(&format!("{:#}\n", crate::config::schema()))
    }
}
