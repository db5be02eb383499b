//! `natshook check`.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use super::{Failure, Global, print};
use crate::{config::Config, target::Target};

/// Check the config, and print what would be delivered where
///
/// Reads the config, the environment's overrides and the secrets that it names; asks neither the broker nor a
/// target. Prints every error at once.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  natshook check --config /etc/natshook.toml && systemctl reload natshook")]
pub(super) struct Check {}

impl Check {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        print(&format!("{}\nok\n", table(&config).trim_fmt()))
    }
}

/// The targets, a line each; a target with several subjects has a line for each of them.
fn table(config: &Config) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["TARGET", "SUBJECTS", "URL", "AUTH", "SIGNED", "ATTEMPTS", "GIVES UP AFTER"]);
    for target in &config.targets {
        table.add_row(row(target));
    }
    // The first column's padding would indent the whole table.
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table
}

fn row(target: &Target) -> [String; 7] {
    let subjects: Vec<&str> = target.subjects.iter().map(|subject| subject.as_str()).collect();
    [
        target.name.to_string(),
        subjects.join("\n"),
        format!("→ {} {}", target.method, target.url),
        target.auth.kind().to_owned(),
        if target.signing.is_empty() { "no" } else { "yes" }.to_owned(),
        target.retry.schedule.attempts().to_string(),
        humantime::format_duration(target.retry.horizon()).to_string(),
    ]
}
