//! `natshook dev`: broker, connector and inbox in one process, for somebody who sees natshook for the first time.
//! `broker` finds or starts the nats-server. Nothing of this takes
//! part in `natshook run`.

mod broker;

use std::{
    env,
    fmt::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use clap::Args;
use tokio::task::{self, AbortHandle};

pub(super) use broker::BrokerStartError;

use self::broker::{Quit, Server};
use super::{
    Failure, Global, inbox,
    paint::{Paint, body, clock, harmless},
    print, process,
};
use crate::{
    config::{Config, Connection},
    connector,
    message::Message,
    source::{self, Watch},
    target::Target,
};

/// The config for a newcomer, in the binary so that it works from any folder.
const CONFIG: &str = include_str!("../../../config/dev.toml");
/// Where the config expects the inbox.
const INBOX: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);
/// The port of NATS unless said otherwise.
const NATS_PORT: u16 = 4222;

/// Try natshook on this machine: a broker, the connector, and webhooks that show what happens
///
/// Starts a nats-server with JetStream (NATSHOOK_NATS_SERVER, or from PATH, or target/tools/nats-server; uses the one
/// that answers already, if one does), an inbox that prints each webhook it receives, and the connector with three
/// targets: one works, one fails twice before it works, one never works. Prints what to publish to see them. Ctrl-C
/// ends everything that was started.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook dev
  natshook dev --store /tmp/natshook-dev --log-level debug
  natshook dev --config my.toml          your own targets; the inbox listens all the same")]
pub(super) struct Dev {
    /// Where the nats-server keeps its files
    #[arg(long, default_value = "target/dev", value_name = "FOLDER")]
    store: PathBuf,
}

/// What stands when all is started.
struct Stage {
    config: Config,
    server: Option<Server>,
    watching: AbortHandle,
}

impl Dev {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        process::block_on(async {
            let quit = Quit::default();
            let on_second = quit.clone();
            let shutdown = process::shutdown_signal(move || on_second.now()).map_err(Failure::Runtime)?;
            let mut shutdown = pin!(shutdown);
            let stage = tokio::select! {
                stage = self.start(global, &quit) => stage?,
                () = &mut shutdown => return Ok(()),
            };
            let end =
                connector::run(stage.config, process::hangups().map_err(Failure::Runtime)?, shutdown).await;
            // Before the broker goes, or its connection would mourn it.
            stage.watching.abort();
            task::yield_now().await;
            if let Some(server) = stage.server {
                server.stop().await;
            }
            Ok(end?)
        })
    }

    /// Starts the inbox, the broker, and the look at dead letters; prints what there is and what to do.
    async fn start(&self, global: &Global, quit: &Quit) -> Result<Stage, Failure> {
        let paint = Paint::for_stdout();
        let listener = inbox::listen_near(INBOX).await.map_err(Failure::Inbox)?;
        let inbox = listener.local_addr().map_err(Failure::Inbox)?;
        let mut config = load(global, inbox)?;
        receive(listener, config.targets().cloned().collect(), paint);
        if TcpListener::bind(config.admin.listen).is_err() {
            config.admin.listen.set_port(0);
        }
        let place = place(only(&config)?);
        let server = broker::ensure(&place.0, place.1, &self.store, quit).await?;
        print(&self.introduce(&config, &place, server.as_ref(), inbox, paint))?;
        let watching = watch_dead_letters(only(&config)?, paint).await?;
        Ok(Stage { config, server, watching })
    }

    fn introduce(
        &self,
        config: &Config,
        place: &(String, u16),
        server: Option<&Server>,
        inbox: SocketAddr,
        paint: Paint,
    ) -> String {
        let (host, port) = place;
        let mut text = String::new();
        let _ = match server {
            Some(server) => writeln!(
                text,
                "broker   nats://{host}:{port}, started from {}; its files are in {}",
                server.path().display(),
                self.store.display()
            ),
            None => writeln!(text, "broker   nats://{host}:{port} answers already; using it"),
        };
        let taken = if inbox == INBOX { "" } else { " (9900 is taken)" };
        let _ = writeln!(text, "inbox    http://{inbox}{taken}; every webhook that arrives is printed below");
        // A free port that is taken instead of 8822 is known only once it is taken: the log names it.
        if config.admin.listen.port() != 0 {
            let _ = writeln!(text, "page     http://{}/ shows how it goes", config.admin.listen);
        }
        for target in config.targets() {
            let subjects: Vec<&str> = target.subjects.iter().map(|subject| subject.as_str()).collect();
            let _ = writeln!(text, "target   {}: {} → {}", target.name, subjects.join(", "), target.url);
        }
        let _ = writeln!(text, "\nIn another terminal, try:\n");
        for line in examples(config, place) {
            let _ = writeln!(text, "  {}", paint.bold(&line));
        }
        let _ = writeln!(text, "\nCtrl-C ends it.\n");
        text
    }
}

/// Prints what arrives, until the process ends.
fn receive(listener: tokio::net::TcpListener, targets: Vec<Target>, paint: Paint) {
    tokio::spawn(async move {
        if let Err(error) = inbox::serve(listener, &targets, inbox::Form::Lines(paint), Duration::ZERO).await
        {
            tracing::error!(%error, "the inbox ended");
        }
    });
}

/// The config of `--config`, or the one for a newcomer with the inbox where it is.
fn load(global: &Global, inbox: SocketAddr) -> Result<Config, Failure> {
    if global.config.is_some() {
        return global.load();
    }
    let text = CONFIG.replace(&INBOX.to_string(), &inbox.to_string());
    Ok(Config::from_toml(&text, "config/dev.toml")?)
}

/// The connection to the broker that is started here.
fn only(config: &Config) -> Result<&Connection, Failure> {
    match config.connections.as_slice() {
        [only] => Ok(only),
        _ => Err(Failure::Usage(
            "natshook dev starts one broker, and this config has several [[connections]]".to_owned(),
        )),
    }
}

/// Host and port of the broker.
fn place(connection: &Connection) -> (String, u16) {
    let url = connection.nats.servers.first().map(|server| server.expose());
    let host = url.and_then(url::Url::host_str).unwrap_or("127.0.0.1");
    (host.to_owned(), url.and_then(url::Url::port).unwrap_or(NATS_PORT))
}

/// A line for each literal subject, that publishes to it as this natshook was called.
fn examples(config: &Config, place: &(String, u16)) -> Vec<String> {
    let program = env::args().next().filter(|program| program.contains('/'));
    let program = program.unwrap_or_else(|| "natshook".to_owned());
    let mut subjects: Vec<&str> = Vec::new();
    for subject in config.targets().flat_map(|target| &target.subjects) {
        if subject.is_literal() && !subjects.contains(&subject.as_str()) {
            subjects.push(subject.as_str());
        }
    }
    // What goes to several targets is the most to watch, so it comes last.
    let takes =
        |target: &Target, subject: &str| target.subjects.iter().any(|pattern| pattern.matches(subject));
    subjects.sort_by_key(|subject| config.targets().filter(|target| takes(target, subject)).count());
    let server = server_argument(place);
    let lines = subjects.iter().enumerate();
    lines
        .map(|(n, subject)| format!("{program} publish {subject} '{{\"number\":{}}}'{server}", n + 1))
        .collect()
}

/// What the lines need where `publish` would not find the broker by itself.
fn server_argument((host, port): &(String, u16)) -> String {
    let found = Path::new(Global::DEFAULT_CONFIG).exists()
        || env::var_os("NATSHOOK_CONFIG").is_some()
        || env::var_os("NATS_URL").is_some();
    if !found && host == "127.0.0.1" && *port == NATS_PORT {
        return String::new();
    }
    format!(" --server nats://{host}:{port}")
}

/// Prints each dead letter as it is stored.
async fn watch_dead_letters(connection: &Connection, paint: Paint) -> Result<AbortHandle, Failure> {
    let broker = source::connect(&connection.nats, &connection.instance).await?;
    let mut watch = Watch::new(&broker, connection.instance.dead_letter_subject(">")).await?;
    let watching = tokio::spawn(async move {
        // The connection ends with what holds it.
        let _broker = broker;
        while let Some(message) = watch.next().await {
            // As in the inbox: nobody has to look.
            let _ = print(&dead_letter(&message, paint));
        }
    });
    Ok(watching.abort_handle())
}

fn dead_letter(message: &Message, paint: Paint) -> String {
    let header = |name: &str| harmless(message.headers.get(name).unwrap_or("-"));
    let reason = header("Natshook-Reason");
    let mut text = format!(
        "\n{} {} on {}: {}\n",
        paint.dim(&clock()),
        paint.bold("dead letter"),
        harmless(&message.subject),
        paint.bad(&reason)
    );
    let mut headers: Vec<_> =
        message.headers.iter().filter(|(name, _)| name.starts_with("Natshook-")).collect();
    headers.sort_unstable();
    for (name, value) in headers {
        let _ = writeln!(text, "    {}", paint.dim(&harmless(&format!("{name}: {value}"))));
    }
    text.push_str(&body(&message.payload));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_config_for_newcomers_is_right_and_names_the_inbox() {
        let config = Config::from_toml(CONFIG, "config/dev.toml").unwrap_or_else(|error| panic!("{error}"));
        let names: Vec<&str> = config.targets().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["works", "fails-twice", "never-works"]);
        assert_eq!(CONFIG.matches(&INBOX.to_string()).count(), 3);
        assert!(config.targets().all(|target| !target.signing.is_empty()));
        assert!(config.connections[0].targets[2].retry.horizon().as_secs() <= 15);
        assert_eq!(place(&config.connections[0]), ("127.0.0.1".to_owned(), 4222));
        let lines = examples(&config, &("127.0.0.1".to_owned(), NATS_PORT));
        assert_eq!(lines.len(), 4);
        assert!(lines[3].contains("publish demo.all '{\"number\":4}'"), "{lines:?}");
    }
}
