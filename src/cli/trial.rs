//! `natshook try`.

use bytes::Bytes;
use clap::Args;

use super::{
    Failure, Global, body, print, print_on, process,
    sample::{self, Fate, Sent},
};
use crate::message::Headers;

/// Print the request that a target would make of a message
///
/// The message is made up from the arguments. Filter, transform, templates and signature are those of the config; nothing
/// is sent, and neither the broker nor the target is asked. Secrets are not shown. Exits 0 when a request would be sent, or
/// the filter leaves the message out; 1 when it would become a dead letter.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook try policy --subject PolicyUpdated --data @sample.json
  natshook try policy --data '{\"id\":7}' --header 'X-Tenant: acme'
  natshook try policy --data @sample.json --body-only | jq .")]
pub(super) struct Try {
    /// The target's name
    target: String,

    /// The payload: a text, - for stdin, or @file
    #[arg(long, short, value_name = "BODY")]
    data: String,

    /// The message's subject [default: the target's first one without wildcards]
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// A header of the message; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = sample::header)]
    headers: Vec<(String, String)>,

    /// Print the body's exact bytes and nothing else
    #[arg(long)]
    body_only: bool,
}

impl Try {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        let target = sample::target(&config, &self.target)?;
        let headers = Headers(self.headers.clone());
        let delivery = sample::delivery(target, self.subject.as_deref(), headers, body::read(&self.data)?);
        let fate = process::block_on(async {
            let shaper = sample::shaper(target);
            sample::fate(target, shaper.as_ref(), &delivery).await
        })?;
        match fate {
            Fate::Sent(sent) if self.body_only => print_on(&sent.request.body).map(drop),
            Fate::Sent(sent) => {
                print(&sample::shown_head(target, &sent))?;
                print_body(&sent)
            }
            // Nothing is nothing to whoever wants a body.
            Fate::Skipped(_) if self.body_only => Ok(()),
            Fate::Skipped(skip) => print(sample::shown_skip(skip)),
            Fate::Refused(refusal) => {
                print(&sample::shown_refusal(&refusal))?;
                Err(Failure::NotDelivered("it would become a dead letter"))
            }
        }
    }
}

/// The body as it is, if it is text.
fn print_body(sent: &Sent) -> Result<(), Failure> {
    let body: &Bytes = &sent.request.body;
    match std::str::from_utf8(body) {
        Ok("") => print("\n(no body)\n"),
        Ok(text) => print(&format!("\n{text}\n")),
        Err(_) => print(&format!("\n({} bytes that are no text; --body-only prints them)\n", body.len())),
    }
}
