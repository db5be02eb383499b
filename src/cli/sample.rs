//! What `send`, `try` and the tests of targets have in common: a message that somebody makes up, what a target makes of it,
//! and how the request is shown.

use std::{fmt::Write, sync::Arc, time::SystemTime};

use bytes::Bytes;
use url::Position;

use super::{Failure, REDACTED};
use crate::{
    batch,
    config::Config,
    disposition::Reason,
    message::{Delivery, Headers},
    request::{Content, Request, Template},
    shape::{Parts, Refusal, Skip, Verdict},
    shaper::Shaper,
    target::Target,
};

/// What becomes of a message.
pub(super) enum Fate {
    /// It is sent.
    Sent(Box<Sent>),
    /// It is left out.
    Skipped(Skip),
    /// It becomes a dead letter.
    Refused(Refusal),
}

/// A request, and how its address is shown.
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) address: String,
}

/// The target of this name.
///
/// # Errors
/// There is none; those that there are.
pub(super) fn target<'a>(config: &'a Config, name: &str) -> Result<&'a Target, Failure> {
    config.targets().find(|target| target.name.as_str() == name).ok_or_else(|| {
        let known: Vec<&str> = config.targets().map(|target| target.name.as_str()).collect();
        Failure::Usage(format!("no target {name:?}; known are {}", known.join(", ")))
    })
}

/// `Name: value`, as it is written on the command line.
///
/// # Errors
/// It is not.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected a header as \"Name: value\"".to_owned()),
    }
}

/// A message to `target` that nobody published.
pub(super) fn delivery(target: &Target, subject: Option<&str>, headers: Headers, payload: Bytes) -> Delivery {
    let mut delivery = target.sample(subject, payload, SystemTime::now());
    delivery.message.headers = headers;
    delivery
}

/// What shapes the messages of `target`, if anything does.
pub(super) fn shaper(target: &Target) -> Option<Shaper> {
    target.shape.clone().map(Shaper::new)
}

/// What becomes of `delivery`, as natshook would decide while it runs.
///
/// # Errors
/// The shape's programs cannot be run.
pub(super) async fn fate(
    target: &Target,
    shaper: Option<&Shaper>,
    delivery: &Delivery,
) -> Result<Fate, Failure> {
    let verdict = match shaper {
        None => Verdict::AsItIs,
        Some(shaper) => shaper.shape(&delivery.message).await?,
    };
    let content = match verdict {
        Verdict::AsItIs => None,
        Verdict::Content(content) => Some(content),
        Verdict::Skipped(skip) => return Ok(Fate::Skipped(skip)),
        Verdict::Refused(refusal) => return Ok(Fate::Refused(refusal)),
    };
    let (template, batching) = (Template::new(target), target.batch.as_ref());
    let request = batch::single(&template, batching, delivery, content.as_deref(), SystemTime::now());
    let request = match request {
        Ok(request) => request,
        Err(not_json) => {
            let error = not_json.to_string().into();
            return Ok(Fate::Refused(Refusal { reason: Reason::NotJson, error, detail: None }));
        }
    };
    let address = address(target, content.as_deref(), delivery);
    Ok(Fate::Sent(Box::new(Sent { request, address })))
}

/// The address of a request, without what may be secret in it: of the query only what messages say.
fn address(target: &Target, content: Option<&Content>, delivery: &Delivery) -> String {
    let url = target.url.expose();
    let shape = target.shape.as_ref().map(Arc::as_ref);
    let template = shape.and_then(|shape| shape.path.as_ref()).filter(|_| content.is_some());
    match template.map(|template| template.render_shown(&Parts::new(&delivery.message))) {
        Some(Ok(path)) => format!("{}{path}", &url[..Position::BeforePath]),
        Some(Err(_)) | None if url.query().is_some() => format!("{}?{REDACTED}", target.url),
        Some(Err(_)) | None => target.url.to_string(),
    }
}

/// Why nothing is sent, in a line or two.
pub(super) fn shown_skip(skip: Skip) -> &'static str {
    match skip {
        Skip::Filter => "skipped: the filter is false for this message\n",
        Skip::FilterError => {
            "skipped: the filter cannot judge this message, and on_filter_error is \"skip\"\n"
        }
    }
}

pub(super) fn shown_refusal(Refusal { reason, error, detail }: &Refusal) -> String {
    let detail = detail.as_ref().map(|detail| format!("  {detail}\n")).unwrap_or_default();
    format!("refused: it would become a dead letter ({})\n  {error}\n{detail}", reason.as_str())
}

/// Method, address and headers, a line each; secrets are not shown.
pub(super) fn shown_head(target: &Target, sent: &Sent) -> String {
    let mut text = format!("{} {}\n", target.method, sent.address);
    for (name, value) in &sent.request.headers {
        let value =
            if value.is_sensitive() { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
        let _ = writeln!(text, "  {name}: {value}");
    }
    text
}
