//! `natshook check`.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use url::Host;

use super::{Failure, Global, print, process};
use crate::{
    config::{Config, SourceKind},
    connector::RunError,
    egress::GuardedResolver,
    source,
    target::Target,
};

/// Check the config, and print what would be delivered where
///
/// Reads the config, the environment's overrides and the secrets that it names. Prints every error at once. Asks
/// neither the broker nor a target, unless --connect is given; even then it changes nothing and sends nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook check --config /etc/natshook.toml && systemctl restart natshook
  natshook check --connect")]
pub(super) struct Check {
    /// Also connect to the broker, and resolve the targets' names
    #[arg(long)]
    connect: bool,
}

impl Check {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        print(&format!("{}\n", table(&config).trim_fmt()))?;
        if self.connect {
            process::block_on(connect(&config))?;
        }
        print("ok\n")
    }
}

/// Asks the broker, and the resolver for each target. All are asked, whatever the first ones say.
async fn connect(config: &Config) -> Result<(), Failure> {
    let mut findings = vec![("broker".to_owned(), broker(config).await)];
    let resolver = GuardedResolver::new(config.egress.clone());
    for target in &config.targets {
        findings.push((format!("target {}", target.name), resolve(&resolver, target).await));
    }
    let failed = findings.iter().filter(|(_, finding)| finding.is_err()).count();
    for (what, finding) in &findings {
        let (word, text) = match finding {
            Ok(text) => ("ok", text),
            Err(text) => ("failed", text),
        };
        print(&format!("{what}: {word}: {text}\n"))?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Checks(failed, findings.len())) }
}

async fn broker(config: &Config) -> Result<String, String> {
    let broker = source::connect(&config.nats, &config.name).await.map_err(|error| error.to_string())?;
    let version = broker.version();
    match config.source {
        SourceKind::Core => Ok(format!("nats-server {version}")),
        SourceKind::JetStream if !broker.is_at_least(2, 10) => Err(RunError::OldServer(version).to_string()),
        SourceKind::JetStream => match broker.check_jetstream().await {
            Ok(()) => Ok(format!("nats-server {version} with JetStream")),
            Err(error) => Err(RunError::NoJetStream(error.to_string()).to_string()),
        },
    }
}

async fn resolve(resolver: &GuardedResolver, target: &Target) -> Result<String, String> {
    match target.url.expose().host() {
        Some(Host::Domain(name)) => match resolver.resolve(name).await {
            Ok(addresses) => {
                let addresses: Vec<String> =
                    addresses.iter().map(|address| address.ip().to_string()).collect();
                Ok(format!("{name} is {}", addresses.join(", ")))
            }
            Err(error) => Err(error.to_string()),
        },
        // Judged already when the config was read.
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => Ok("the url holds an address".to_owned()),
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
