//! `natshook publish`.

use std::path::Path;

use bytes::Bytes;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Failure, Global, body, print, process};
use crate::{
    config::{InstanceName, Nats, NatsAuth, Reach, ServerUrl, SourceKind, Tls},
    message::Headers,
    source::{self, StoreError},
    subject::Pattern,
};

/// Where a broker is expected when neither a config nor an argument says so.
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// Publish a message
///
/// Where a stream has the subject, waits until the stream has stored the message and prints where; else publishes
/// it plainly, for whoever listens at the moment, and exits 1 unless the config says source = "core". Without a
/// config file it talks to nats://127.0.0.1:4222.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook publish PolicyUpdated '{\"id\":7}'
  natshook publish orders.created @order.json --header Nats-Msg-Id:order-7 --header traceparent:00-…
  echo '{}' | natshook publish orders.created - --server nats://nats.example:4222")]
pub(super) struct Publish {
    /// The subject, without wildcards
    #[arg(value_parser = subject)]
    subject: String,

    /// The body: a text, - for stdin, or @file
    #[arg(default_value = "", hide_default_value = true)]
    body: String,

    /// A header, as NAME:VALUE; can be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// The broker, instead of the config's
    // Read later: an argument that its parser refuses is printed, and this one may hold a password.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    server: Option<SecretString>,
}

fn subject(text: &str) -> Result<String, String> {
    match Pattern::new(text) {
        Ok(pattern) if pattern.is_literal() => Ok(text.to_owned()),
        Ok(_) => Err("a message is published to one subject, without wildcards".to_owned()),
        Err(error) => Err(format!("it {error}")),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    let value = value.trim();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("the name is empty or has white space".to_owned());
    }
    if value.contains(char::is_control) {
        return Err("the value has a control character".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn server(text: &str) -> Result<ServerUrl, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let url = Url::parse(&url).ok().and_then(ServerUrl::new);
    url.ok_or_else(|| "expected an address such as nats://127.0.0.1:4222 or tls://nats.example".to_owned())
}

/// Where to publish.
struct Place {
    nats: Nats,
    name: InstanceName,
    source: SourceKind,
}

impl Publish {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let place = self.place(global)?;
        let payload = body::read(&self.body)?;
        let done = process::block_on(self.publish(&place, payload))?;
        print(&format!("{}: {done}\n", self.subject))
    }

    async fn publish(&self, place: &Place, payload: Bytes) -> Result<String, Failure> {
        let headers = Headers(self.headers.clone());
        let broker = source::connect(&place.nats, &place.name).await?;
        match broker.store(&self.subject, &headers, payload.clone()).await {
            Ok(stored) if stored.duplicate => Ok(format!(
                "not stored again: stream {} has a message with this Nats-Msg-Id already, sequence {}",
                stored.stream, stored.sequence
            )),
            Ok(stored) => Ok(format!("stored in stream {}, sequence {}", stored.stream, stored.sequence)),
            Err(StoreError::NoStream(_)) => {
                broker.publish(&self.subject, &headers, payload).await?;
                broker.flush().await?;
                match place.source {
                    SourceKind::Core => Ok("published".to_owned()),
                    SourceKind::JetStream => Err(Failure::NotStored { subject: self.subject.clone() }),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The broker of `--server`, or of the config, or the default one where there is no config either.
    fn place(&self, global: &Global) -> Result<Place, Failure> {
        let server = match &self.server {
            Some(given) => server(given.expose_secret())
                .map_err(|expected| Failure::Usage(format!("--server (or NATS_URL): {expected}")))?,
            None if global.config.is_some() || Path::new(Global::DEFAULT_CONFIG).exists() => {
                let Reach { nats, name, source, .. } = global.reach(None)?;
                return Ok(Place { nats, name, source });
            }
            None => server(DEFAULT_SERVER).map_err(Failure::Usage)?,
        };
        let nats =
            Nats { servers: vec![server], auth: NatsAuth::None, tls: Tls::default(), inbox_prefix: None };
        Ok(Place { nats, name: InstanceName::default(), source: SourceKind::JetStream })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_are_split_at_the_first_colon() {
        assert_eq!(header("a: b:c").unwrap(), ("a".to_owned(), "b:c".to_owned()));
        for bad in ["a", ":b", "a b:c", "a:b\r\nc:d"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_subject_is_published_to() {
        assert!(subject("orders.created").is_ok());
        for bad in ["", "a..b", "a.*", "a b"] {
            assert!(subject(bad).is_err(), "{bad:?}");
        }
    }
}
