//! From the members of a batch to its request. Pure.

use std::time::SystemTime;

use bytes::Bytes;

use super::{
    Batching, Format, NotJson,
    body::{batch_id, listed_ids},
};
use crate::{
    message::Delivery,
    request::{Content, Request, Several, Template},
};

/// What a batch takes along of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message's `webhook-id`.
    pub id: String,
    /// The message's subject.
    pub subject: String,
    /// Which attempt of the delivery this is, from 1.
    pub attempt: u32,
    /// When the message was published.
    pub published: SystemTime,
    /// What goes into the body.
    pub part: Bytes,
}

impl Entry {
    /// What a batch takes along of `delivery`: of `content`, or of the message as it came.
    ///
    /// # Errors
    /// It is not JSON, and the batch needs that.
    pub fn new(format: Format, delivery: &Delivery, content: Option<&Content>) -> Result<Self, NotJson> {
        let message = &delivery.message;
        Ok(Self {
            id: message.webhook_id(),
            subject: message.subject.clone(),
            attempt: delivery.attempts().saturating_add(1),
            published: message.published,
            part: format.part(message, content)?,
        })
    }
}

/// The request of a batch of `entries`, made at `now`.
#[must_use]
pub fn request(template: &Template, format: Format, entries: &[&Entry], now: SystemTime) -> Request {
    let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let parts: Vec<&Bytes> = entries.iter().map(|entry| &entry.part).collect();
    let subject = entries.first().map(|entry| entry.subject.as_str());
    let several = Several {
        id: batch_id(&ids),
        content_type: format.content_type(),
        subject: subject.filter(|first| entries.iter().all(|entry| entry.subject == *first)),
        attempt: entries.iter().map(|entry| entry.attempt).max().unwrap_or(1),
        size: entries.len(),
        ids: listed_ids(&ids),
        body: format.body(&parts),
    };
    template.batch(several, now)
}

/// The request that `delivery` makes when nobody joins it: one of its own, or a batch of it alone where the target takes
/// batches.
///
/// # Errors
/// No batch can take it along.
pub fn single(
    template: &Template,
    batching: Option<&Batching>,
    delivery: &Delivery,
    content: Option<&Content>,
    now: SystemTime,
) -> Result<Request, NotJson> {
    let Some(batching) = batching else { return Ok(template.request(delivery, content, now)) };
    let entry = Entry::new(batching.format, delivery, content)?;
    Ok(request(template, batching.format, &[&entry], now))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    const TARGET: &str = "[[targets]]\nname = \"a\"\nsubjects = \"a\"\nurl = \"https://hooks.example/\"\n\
                          headers = { \"X-Source\" = \"hms\" }\nauth = { bearer = \"token\" }\n";

    fn template() -> Template {
        Template::new(&Config::from_toml(TARGET, "test").unwrap().connections[0].targets[0])
    }

    fn entry(id: &str, subject: &str, attempt: u32) -> Entry {
        let published = SystemTime::UNIX_EPOCH;
        Entry { id: id.into(), subject: subject.into(), attempt, published, part: Bytes::from_static(b"{}") }
    }

    fn header(request: &Request, name: &str) -> Option<String> {
        request.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_batch_says_what_holds_for_all_and_names_each() {
        let entries = [entry("EVENTS-1", "a", 1), entry("EVENTS-2", "a", 4)];
        let entries: Vec<&Entry> = entries.iter().collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let request = request(&template(), Format::JsonArray, &entries, now);
        for (name, value) in [
            ("content-type", "application/json"),
            ("natshook-batch-size", "2"),
            ("natshook-batch-ids", "EVENTS-1 EVENTS-2"),
            ("natshook-subject", "a"),
            ("natshook-attempt", "4"),
            ("webhook-timestamp", "7"),
            ("x-source", "hms"),
            ("authorization", "Bearer token"),
        ] {
            assert_eq!(header(&request, name).as_deref(), Some(value), "{name}");
        }
        assert!(header(&request, "webhook-id").unwrap().starts_with("batch-"));
        assert_eq!((request.body.as_ref(), request.path), (&b"[{},{}]"[..], None));
    }

    #[test]
    fn a_batch_of_several_subjects_names_none() {
        let entries = [entry("1", "a", 1), entry("2", "b", 1)];
        let request =
            request(&template(), Format::Ndjson, &entries.iter().collect::<Vec<_>>(), SystemTime::UNIX_EPOCH);
        assert_eq!(header(&request, "natshook-subject"), None);
        assert_eq!(header(&request, "content-type").as_deref(), Some("application/x-ndjson"));
    }
}
