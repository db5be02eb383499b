//! `natshook check`.

use std::{fmt::Write, net::IpAddr, sync::Arc};

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use url::Host;

use super::{Failure, Global, print, process, tests_of_targets};
use crate::{
    config::{Config, Connection, SourceKind},
    connector::RunError,
    egress::{Grounds, Guard, GuardedResolver, Verdict},
    sender::{HttpClient, Sender},
    source,
    target::{Auth, Target},
};

/// Check the config, and print what would be delivered where
///
/// Reads the config, the environment's overrides and the secrets that it names. Prints every error at once. Asks
/// neither the broker nor a target, unless --connect is given: then it also asks the broker, and prints to which
/// addresses each target leads and whether they may be dialled, and asks the token endpoints of targets with auth.oauth2
/// for a token. Even then it changes nothing, and sends nothing to any target.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook check --config /etc/natshook.toml && systemctl restart natshook
  natshook check --tests                  do filters, transforms and templates make what they should?
  natshook check --connect")]
pub(super) struct Check {
    /// Also connect to the broker, and judge the addresses that the targets' names lead to
    #[arg(long)]
    connect: bool,

    /// Also run the tests of the targets, [[targets.tests]]; nothing is sent
    #[arg(long)]
    tests: bool,
}

impl Check {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        print(&format!("{}\n", table(&config).trim_fmt()))?;
        if self.tests {
            process::block_on(tests_of_targets::run(&config))?;
        }
        if self.connect {
            process::block_on(connect(&config))?;
        }
        print("ok\n")
    }
}

/// Asks the broker, and the resolver for each target. All are asked, whatever the first ones say.
async fn connect(config: &Config) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for connection in &config.connections {
        let what = match config.connections.len() {
            1 => "broker".to_owned(),
            _ => format!("connection {}", connection.name),
        };
        findings.push((what, broker(connection).await));
    }
    let guard = Arc::new(config.egress.clone());
    for target in config.targets() {
        findings.push((format!("target {}", target.name), addresses(&guard, target).await));
    }
    for target in config.targets() {
        if let Auth::OAuth2(credentials) = &target.auth {
            let finding = token(config, target).await.map(|()| credentials.token_url.to_string());
            findings.push((format!("token endpoint of target {}", target.name), finding));
        }
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

async fn broker(connection: &Connection) -> Result<String, String> {
    let connected = source::connect(&connection.nats, &connection.instance).await;
    let broker = connected.map_err(|error| error.to_string())?;
    let version = broker.version();
    match connection.source {
        SourceKind::Core => Ok(format!("nats-server {version}")),
        SourceKind::JetStream if !broker.is_at_least(2, 10) => Err(RunError::OldServer(version).to_string()),
        SourceKind::JetStream => match broker.check_jetstream().await {
            Ok(()) => Ok(format!("nats-server {version} with JetStream")),
            Err(error) => Err(RunError::NoJetStream(error.to_string()).to_string()),
        },
    }
}

/// Whether the token endpoint of a target gives a token.
async fn token(config: &Config, target: &Target) -> Result<(), String> {
    let http = HttpClient::new(config.egress.clone()).map_err(|error| error.to_string())?;
    Sender::new(&http, target).authorize().await.map_err(|fault| fault.to_string())
}

/// The addresses that a target leads to, a line each with the guard's verdict. A target is well when one of them may
/// be dialled: the others never are.
async fn addresses(guard: &Arc<Guard>, target: &Target) -> Result<String, String> {
    let url = target.url.expose();
    let reach = guard.reach(url);
    let judged = match url.host() {
        Some(Host::Domain(name)) => {
            let resolver = GuardedResolver::new(Arc::clone(guard), reach);
            let judged = resolver.judge(name).await.map_err(|error| error.to_string())?;
            judged.into_iter().map(|(address, verdict)| (address.ip(), verdict)).collect()
        }
        Some(Host::Ipv4(address)) => vec![(address.into(), guard.check_address(address.into(), reach))],
        Some(Host::Ipv6(address)) => vec![(address.into(), guard.check_address(address.into(), reach))],
        None => Vec::new(),
    };
    let text = verdicts(&target.url.place(), &judged);
    if judged.iter().any(|(_, verdict)| verdict.is_ok()) { Ok(text) } else { Err(text) }
}

fn verdicts(place: &str, judged: &[(IpAddr, Verdict)]) -> String {
    let mut text = place.to_owned();
    for (address, verdict) in judged {
        let _ = match verdict {
            Ok(Grounds::Public) => write!(text, "\n  {address}: allowed, a public address"),
            Ok(Grounds::Opened(range)) => write!(text, "\n  {address}: allowed by {range} in egress.allow"),
            Err(refusal) => write!(text, "\n  {address}: refused: {refusal}"),
        };
    }
    text
}

/// The targets, a line each; a target with several subjects has a line for each of them.
fn table(config: &Config) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["TARGET", "SUBJECTS", "URL", "AUTH", "SIGNED", "ATTEMPTS", "GIVES UP AFTER"]);
    for target in config.targets() {
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
        if target.signing.is_empty() && target.message_signatures.is_none() { "no" } else { "yes" }
            .to_owned(),
        target.retry.schedule.attempts().to_string(),
        humantime::format_duration(target.retry.horizon()).to_string(),
    ]
}
