//! `natshook inbox`: a webhook receiver to try things with, here and in `natshook dev`. `receiver` answers, `shown` prints.

mod receiver;
mod shown;

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use clap::Args;
use tokio::net::TcpListener;

pub(super) use receiver::serve;
pub(super) use shown::Form;

use super::{Failure, Global, paint::Paint, process};
use crate::target::Target;

/// Receive webhooks and print them, to try targets with
///
/// Answers every request with 200 and prints it, but for these paths: /fails-twice is answered with 503 twice for each
/// message, /sometimes-fails once for one message in five, /sometimes-refuses always with 422 for one in five, and
/// /never-works always with 500. It keeps nothing, and is no part of any delivery.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook inbox
  natshook inbox --listen 0.0.0.0:8080 --json
  natshook inbox --delay 2s                    a slow receiver
  natshook inbox --verify --config natshook.toml")]
pub(super) struct Inbox {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9900", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// How long each answer takes, such as 200ms
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Duration,

    /// One JSON object for each request
    #[arg(long)]
    json: bool,

    /// Say whether signatures hold: reads the config, and takes a target's secret by the path of its URL
    #[arg(long)]
    verify: bool,
}

impl Inbox {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let targets: Vec<Target> =
            if self.verify { global.load()?.targets().cloned().collect() } else { Vec::new() };
        let form = if self.json { Form::Json } else { Form::Lines(Paint::for_stdout()) };
        process::block_on(async {
            let mut shutdown = pin!(process::shutdown_signal(|| ()).map_err(Failure::Runtime)?);
            let listener = TcpListener::bind(self.listen).await.map_err(Failure::Inbox)?;
            let address = listener.local_addr().map_err(Failure::Inbox)?;
            tracing::info!(%address, "the inbox listens");
            tokio::select! {
                served = serve(listener, &targets, form, self.delay) => served.map_err(Failure::Inbox),
                () = &mut shutdown => Ok(()),
            }
        })
    }
}

/// Listens on `wanted`, or on a free port of its address if that one is taken.
///
/// # Errors
/// There is no free port either.
pub(super) async fn listen_near(wanted: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((wanted.ip(), 0)).await,
        other => other,
    }
}
