//! `natshook health`: for what starts natshook and asks how it is by running a command, such as a container's
//! `HEALTHCHECK`. It asks the admin listener and knows nothing else.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;

use super::{Failure, Global, paint::harmless, print, process};
use crate::{config::Admin, sender::PlainClient};

/// How long an answer may take. Whoever asks waits only so long itself: Docker 30 s unless told, Kubernetes 1 s.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Ask the natshook on this machine how it is
///
/// Asks /healthz where admin.listen says: does the process answer? With --ready /readyz: is it connected, and does every
/// target take messages? Exits 0 if so and 1 if not, and prints the answer. For a container's HEALTHCHECK; what can
/// ask over HTTP does not need it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook health
  natshook health --ready --config /etc/natshook.toml")]
pub(super) struct Health {
    /// Ask whether it can deliver, not only whether it lives
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let asked = dialled(self.listens(global));
        let path = if self.ready { "readyz" } else { "healthz" };
        let url = format!("http://{asked}/{path}");
        let unwell = |cause: String| Failure::Unwell { url: url.clone(), cause };
        let request =
            http::Request::get(&url).body(Bytes::new()).map_err(|error| unwell(error.to_string()))?;
        let client = PlainClient::new()?;
        let answer = process::block_on(async {
            client.send(request, ANSWER_MAX).await.map_err(|fault| unwell(fault.to_string()))
        })?;
        let text = harmless(String::from_utf8_lossy(answer.body()).trim());
        if !answer.status().is_success() {
            return Err(unwell(format!("{}: {text}", answer.status().as_u16())));
        }
        print(&format!("{text}\n"))
    }

    /// A config that was broken after the start is no illness: what runs goes on with the one before, and would be
    /// ended by whoever believes that it is ill.
    fn listens(&self, global: &Global) -> SocketAddr {
        Admin::load_listen(&global.path()).unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "{error}\nasking {} instead", Admin::DEFAULT_LISTEN);
            Admin::DEFAULT_LISTEN
        })
    }
}

/// Where somebody on this machine finds what listens on `listen`.
fn dialled(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let asked = |listen: &str| dialled(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8822"), "127.0.0.1:8822");
        assert_eq!(asked("[::]:8822"), "[::1]:8822");
        assert_eq!(asked("10.0.0.7:80"), "10.0.0.7:80");
    }
}
