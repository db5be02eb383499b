//! The last thing that is done to a message: it is sent as a CloudEvent. What an event is lives in `cloud_event`.

use http::header::CONTENT_TYPE;

use super::template::{Parts, Template};
use crate::{
    cloud_event::{self, CloudEvent, Making, Mode},
    message::Message,
    request::Content,
};

/// How messages are sent as CloudEvents.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// In which mode of the HTTP binding.
    pub mode: Mode,
    /// The `source` of messages that are no events yet, if it is not [`cloud_event::default_source`].
    pub source: Option<Template>,
    /// Their `type`, if it is not their subject.
    pub kind: Option<Template>,
}

impl Format {
    /// What is sent of `message`, or of `content` that was made of it.
    ///
    /// # Errors
    /// The message lacks what an attribute needs; what, in one line without anything from the message.
    pub fn content(&self, message: &Message, content: Option<Content>) -> Result<Content, String> {
        let (event_headers, body) = self.event(message, content.as_ref())?.write(self.mode);
        let (mut headers, path) =
            content.map_or_else(Default::default, |content| (content.headers, content.path));
        headers.remove(CONTENT_TYPE);
        for (name, value) in &event_headers {
            headers.insert(name, value.clone());
        }
        Ok(Content { headers, body, path })
    }

    /// The event that `message` is, with the body of `content` if that was made of it, or becomes.
    ///
    /// # Errors
    /// The message lacks what an attribute needs; what, in one line without anything from the message.
    pub fn event(&self, message: &Message, content: Option<&Content>) -> Result<CloudEvent, String> {
        let said = content.and_then(|content| content.headers.get(CONTENT_TYPE)?.to_str().ok());
        let body = content.map_or(&message.payload, |content| &content.body);
        if let Some(event) = CloudEvent::read(&message.headers, said, body) {
            return Ok(event);
        }
        let parts = Parts::new(message);
        let source = match &self.source {
            Some(template) => cloud_event::uri_reference(&attribute("source", template, &parts)?),
            None => cloud_event::default_source(message),
        };
        let kind = self.kind.as_ref().map(|template| attribute("type", template, &parts)).transpose()?;
        Ok(CloudEvent::make(Making {
            id: &message.webhook_id(),
            source: &source,
            kind: kind.as_deref().unwrap_or(&message.subject),
            subject: &message.subject,
            time: message.published,
            content_type: said.or_else(|| message.headers.get("Content-Type")),
            body,
        }))
    }
}

/// No required attribute may be empty (CloudEvents, 3.1).
fn attribute(name: &str, template: &Template, parts: &Parts<'_>) -> Result<String, String> {
    let value = template.render(parts).map_err(|error| format!("cloudevents.{name}: {error}"))?;
    if value.chars().all(char::is_control) {
        return Err(format!("cloudevents.{name}: nothing is left of it, and it must not be empty"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::message::{Headers, Origin};

    fn format(mode: Mode) -> Format {
        Format { mode, source: None, kind: None }
    }

    fn message(headers: &[(&str, &str)], payload: &'static str) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Message {
            subject: "orders.eu".into(),
            payload: Bytes::from_static(payload.as_bytes()),
            headers: Headers(headers.collect()),
            origin: Origin::Stored { stream: "EVENTS".into(), sequence: 7 },
            published: SystemTime::UNIX_EPOCH,
        }
    }

    fn json(content: &Content) -> serde_json::Value {
        serde_json::from_slice(&content.body).unwrap()
    }

    #[test]
    fn attributes_are_made_of_the_message() {
        let template = |text| Some(Template::new(text).unwrap());
        let format = Format {
            mode: Mode::Structured,
            source: template("https://shop.example/{{ headers[\"X-Shop\"] }}"),
            kind: template("com.example.{{ subject[0] }}"),
        };
        let content = format.content(&message(&[("X-Shop", "a shop")], "{}"), None).unwrap();
        assert_eq!(json(&content)["source"], "https://shop.example/a%20shop");
        assert_eq!(json(&content)["type"], "com.example.orders");
        assert_eq!(json(&content)["id"], "EVENTS-7");
        let error = format.content(&message(&[], "{}"), None).unwrap_err();
        assert!(error.starts_with("cloudevents.source: headers[\"X-Shop\"] is missing"), "{error}");
        let empty = Format { kind: template("{{ headers[\"X\"] | default(\"\") }}"), source: None, ..format };
        assert!(empty.content(&message(&[], "{}"), None).unwrap_err().contains("cloudevents.type"));
    }

    #[test]
    fn what_was_made_before_is_the_data_and_its_other_headers_and_path_stay() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("x-tenant", HeaderValue::from_static("a"));
        headers.insert("ce-id", HeaderValue::from_static("another"));
        let made =
            Content { headers, body: Bytes::from_static(b"{\"a\":1}"), path: Some("/x".parse().unwrap()) };
        let sent = format(Mode::Structured).content(&message(&[], "payload"), Some(made.clone())).unwrap();
        assert_eq!(json(&sent)["data"], serde_json::json!({"a": 1}));
        assert_eq!(sent.headers["content-type"], "application/cloudevents+json");
        assert_eq!((&sent.headers["x-tenant"], &sent.path), (&HeaderValue::from_static("a"), &made.path));
        let sent = format(Mode::Binary).content(&message(&[], "payload"), Some(made.clone())).unwrap();
        assert_eq!((&sent.headers["ce-id"], &sent.body), (&HeaderValue::from_static("EVENTS-7"), &made.body));
    }

    #[test]
    fn a_transformed_event_is_still_that_event() {
        let event = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"data\":1}";
        let claim = [("Content-Type", "application/cloudevents+json")];
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let body = Bytes::from(event.replace(":1}", ":2}"));
        let made = Content { headers, body: body.clone(), path: None };
        let sent = format(Mode::Structured).content(&message(&claim, event), Some(made)).unwrap();
        assert_eq!(sent.body, body);
    }
}
