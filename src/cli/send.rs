//! `natshook send`.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use clap::Args;
use http::HeaderValue;

use super::{
    Failure, Global, REDACTED, body, print, process,
    sample::{self, Fate, Sent},
};
use crate::{
    message::Headers,
    outcome::{self, End, Outcome},
    sender::{HttpClient, Sender},
    target::Target,
};

/// Send one test request to a target
///
/// The request is made as any other: filter, transform, templates, headers, auth, signature, timeout, egress guard. Nothing
/// is taken from the broker, and nothing is retried. Exits 0 when the target answered with a 2xx.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook send policy
  natshook send policy --data @sample.json --subject PolicyUpdated")]
pub(super) struct Send {
    /// The target's name
    target: String,

    /// The body: a text, - for stdin, or @file
    #[arg(long, short, default_value = r#"{"natshook":"test"}"#, value_name = "BODY")]
    data: String,

    /// The subject that the request names [default: the target's first one without wildcards]
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// A header of the message, for filter and templates; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = sample::header)]
    headers: Vec<(String, String)>,
}

impl Send {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        let target = sample::target(&config, &self.target)?;
        let headers = Headers(self.headers.clone());
        let delivery = sample::delivery(target, self.subject.as_deref(), headers, body::read(&self.data)?);
        let http = HttpClient::new(config.egress.clone())?;
        process::block_on(async {
            let shaper = sample::shaper(target);
            match sample::fate(target, shaper.as_ref(), &delivery).await? {
                Fate::Sent(sent) => send(&http, target, &sent).await,
                Fate::Skipped(skip) => {
                    print(sample::shown_skip(skip))?;
                    Err(Failure::NotDelivered("the target's filter leaves this message out"))
                }
                Fate::Refused(refusal) => {
                    print(&sample::shown_refusal(&refusal))?;
                    Err(Failure::NotDelivered("it would become a dead letter"))
                }
            }
        })
    }
}

async fn send(http: &HttpClient, target: &Target, sent: &Sent) -> Result<(), Failure> {
    let request = &sent.request;
    print(&format!("{}  ({} bytes of body)\n\n", sample::shown_head(target, sent), request.body.len()))?;
    let (sender, began) = (Sender::new(http, target), Instant::now());
    let end = sender.attempt(|| request.clone()).await;
    let mut secrets: Vec<HeaderValue> = request.headers.values().cloned().collect();
    secrets.retain(HeaderValue::is_sensitive);
    secrets.extend(sender.access_token());
    print(&shown_end(&end, began.elapsed(), &secrets, target))?;
    match outcome::classify(&end, &target.outcomes) {
        Outcome::Delivered => Ok(()),
        Outcome::Transient(_) => Err(Failure::NotDelivered("a delivery would be tried again")),
        Outcome::Permanent => Err(Failure::NotDelivered("a delivery would become a dead letter at once")),
    }
}

fn shown_end(end: &End, took: Duration, secrets: &[HeaderValue], target: &Target) -> String {
    let took =
        humantime::format_duration(Duration::from_millis(took.as_millis().try_into().unwrap_or(u64::MAX)));
    let mut text = format!("{} answered nothing after {took}: {}\n", target.name, end.describe());
    if let End::Answered(answer) = end {
        text = format!("{} answered {} in {took}\n", target.name, answer.status);
        let excerpt = without_secrets(&String::from_utf8_lossy(&answer.excerpt), secrets);
        for line in excerpt.lines() {
            // What a receiver answers must not steer the terminal.
            let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Receivers that echo requests would otherwise print the credentials.
fn without_secrets(text: &str, secrets: &[HeaderValue]) -> String {
    let mut text = text.to_owned();
    for value in secrets {
        let Ok(value) = value.to_str() else { continue };
        for secret in [Some(value), value.rsplit(' ').next()].into_iter().flatten().filter(|s| !s.is_empty())
        {
            text = text.replace(secret, REDACTED);
        }
    }
    text
}
