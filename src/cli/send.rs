//! `natshook send`.

use std::{
    fmt::Write,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;

use super::{Failure, Global, REDACTED, body, print, process};
use crate::{
    message::{Delivery, Headers, Message, Origin},
    outcome::{self, End, Outcome},
    request::{Request, Template},
    sender::{HttpClient, Sender},
    subject::Pattern,
    target::Target,
};

/// Send one test request to a target
///
/// The request is made as any other: headers, auth, signature, timeout, egress guard. Nothing is taken from the
/// broker, and nothing is retried. Exits 0 when the target answered with a 2xx.
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
}

impl Send {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        let target = config.targets.iter().find(|target| target.name.as_str() == self.target);
        let Some(target) = target else {
            let known: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
            return Err(Failure::Usage(format!(
                "no target {:?}; known are {}",
                self.target,
                known.join(", ")
            )));
        };
        let delivery = self.delivery(target, body::read(&self.data)?);
        let request = Template::new(target).request(&delivery, SystemTime::now());
        print(&shown_request(target, &request))?;
        let http = HttpClient::new(config.egress.clone())?;
        let (end, took) = process::block_on(async {
            let (sender, began) = (Sender::new(&http, target), Instant::now());
            Ok((sender.attempt(|| request.clone()).await, began.elapsed()))
        })?;
        print(&shown_end(&end, took, &request, target))?;
        match outcome::classify(&end, &target.outcomes) {
            Outcome::Delivered => Ok(()),
            Outcome::Transient(_) => Err(Failure::NotDelivered("a delivery would be tried again")),
            Outcome::Permanent => Err(Failure::NotDelivered("a delivery would become a dead letter at once")),
        }
    }

    fn delivery(&self, target: &Target, payload: bytes::Bytes) -> Delivery {
        let literal = target.subjects.iter().find(|subject| subject.is_literal()).map(Pattern::as_str);
        let subject = self.subject.as_deref().or(literal).unwrap_or("natshook.test");
        let published = SystemTime::now();
        let since_1970 = published.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Delivery::fresh(Message {
            subject: subject.to_owned(),
            payload,
            headers: Headers::default(),
            origin: Origin::Passing { id: format!("natshook-send-{}", since_1970.as_millis()) },
            published,
        })
    }
}

fn shown_request(target: &Target, request: &Request) -> String {
    let mut text = format!("{} {}\n", target.method, target.url);
    for (name, value) in &request.headers {
        let value =
            if value.is_sensitive() { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
        let _ = writeln!(text, "  {name}: {value}");
    }
    let _ = writeln!(text, "  ({} bytes of body)\n", request.body.len());
    text
}

fn shown_end(end: &End, took: Duration, request: &Request, target: &Target) -> String {
    let took =
        humantime::format_duration(Duration::from_millis(took.as_millis().try_into().unwrap_or(u64::MAX)));
    let mut text = format!("{} answered nothing after {took}: {}\n", target.name, end.describe());
    if let End::Answered(answer) = end {
        text = format!("{} answered {} in {took}\n", target.name, answer.status);
        let excerpt = without_secrets(&String::from_utf8_lossy(&answer.excerpt), request);
        for line in excerpt.lines() {
            // What a receiver answers must not steer the terminal.
            let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Receivers that echo requests would otherwise print the credentials.
fn without_secrets(text: &str, request: &Request) -> String {
    let mut text = text.to_owned();
    for value in request.headers.values().filter(|value| value.is_sensitive()) {
        let Ok(value) = value.to_str() else { continue };
        for secret in [Some(value), value.rsplit(' ').next()].into_iter().flatten().filter(|s| !s.is_empty())
        {
            text = text.replace(secret, REDACTED);
        }
    }
    text
}
