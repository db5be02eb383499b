//! What targets make of messages: filters, transforms, templates, and the tests of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::{
    http::{header_name, header_value, legal_header_name},
    policy::Policy,
};
use crate::{
    config::{
        Expected, ExpectedBody, ExpectedRequest, TargetTest,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        raw,
        value::{Private, Text},
        words,
    },
    disposition::Reason,
    message::Headers as MessageHeaders,
    request::ascii_value,
    shape::{Filter, Format, Misread, PathTemplate, Shape, Template, Transform},
    target::TargetName,
};

/// The headers of a target: those that are the same in every request, and those that are made for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    pub(super) fixed: HeaderMap,
    pub(super) made: Vec<(HeaderName, Template)>,
}

pub(super) fn headers(
    raw: Field<BTreeMap<String, Field<Private>>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Headers> {
    let mut headers = Headers::default();
    for (name, value) in raw.take(path, errors)? {
        let path = path.key(&name);
        let name = header_name(&name, &path, errors);
        let Some(Private(text)) = value.require(&path, errors) else { continue };
        if Template::has_places(&text) {
            let template = header_template(&text, &path, errors);
            headers.made.extend(name.zip(template));
        } else if let (Some(name), Some(value)) = (name, header_value(&text, &path, errors)) {
            headers.fixed.insert(name, value);
        }
    }
    Some(headers)
}

/// What stands around the places is judged here, what comes into them with each message.
fn header_template(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<Template> {
    let template =
        Template::new(text).map_err(|misread| errors.add(path, template_problem(&misread))).ok()?;
    if template.literals().any(|literal| ascii_value(literal).is_none()) {
        errors.add(path, Problem::HeaderValue);
    }
    Some(template)
}

/// The text itself may be secret.
pub(super) fn template_problem(misread: &Misread) -> Problem {
    Problem::Template { problem: misread.without_excerpt() }
}

pub(super) fn filter(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<Filter> {
    let Text(text) = raw.take(path, errors)?;
    errors.keep(path, Filter::new(&text))
}

pub(super) fn transform(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<Transform> {
    let Text(text) = raw.take(path, errors)?;
    errors.keep(path, Transform::new(&text))
}

/// What a target makes of messages, by its `own` words and the defaults'.
pub(super) fn shape(
    own: &Policy,
    defaults: &Policy,
    headers: Vec<(HeaderName, Template)>,
    path: Option<PathTemplate>,
    format: Option<Format>,
    max_payload_bytes: usize,
) -> Option<Shape> {
    let shape = Shape {
        filter: own.filter.as_ref().or(defaults.filter.as_ref()).cloned(),
        on_filter_error: own.on_filter_error.or(defaults.on_filter_error).unwrap_or_default(),
        transform: own.transform.as_ref().or(defaults.transform.as_ref()).cloned(),
        max_payload_bytes,
        headers,
        path,
        format,
    };
    shape.is_something().then_some(shape)
}

/// The tests of `target`; those of a target without a name are judged and nothing else.
pub(super) fn tests(
    raw: Field<Vec<Section<raw::TargetTest>>>,
    target: Option<&TargetName>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Vec<TargetTest> {
    let mut tests = Vec::new();
    for (index, table) in raw.take(path, errors).unwrap_or_default().into_iter().enumerate() {
        let path = path.index(index);
        let Some(raw) = table.take(&path, errors) else { continue };
        let name = raw.name.require(&path.key("name"), errors);
        let subject = raw.subject.take(&path.key("subject"), errors).map(|text| text.0);
        let headers = test_headers(raw.headers, &path.key("headers"), errors);
        let data = raw.data.take(&path.key("data"), errors);
        let expected = raw.expect.require(&path.key("expect"), errors);
        let expected = expected.and_then(|raw| expectation(raw, &path.key("expect"), errors));
        if let (Some(target), Some(Text(name)), Some(expected)) = (target, name, expected) {
            let headers =
                headers.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect();
            tests.push(TargetTest {
                target: target.clone(),
                name,
                subject,
                headers: MessageHeaders(headers),
                payload: payload(data),
                expected,
            });
        }
    }
    tests
}

fn payload(data: Option<words::Content>) -> Bytes {
    match data.map(|data| data.0) {
        None => Bytes::from_static(b"{}"),
        Some(Value::String(text)) => text.into(),
        Some(json) => json.to_string().into(),
    }
}

fn test_headers(
    raw: Field<BTreeMap<String, Field<Text>>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    for (name, value) in raw.take(path, errors).unwrap_or_default() {
        let path = path.key(&name);
        let name = legal_header_name(&name, &path, errors);
        headers.extend(name.zip(value.require(&path, errors).map(|text| text.0)));
    }
    headers
}

fn expectation(raw: words::Expectation, path: &KeyPath, errors: &mut Errors) -> Option<Expected> {
    match raw {
        words::Expectation::Word(word) => match word {
            words::ExpectedEnd::Skip => Some(Expected::Skip),
            words::ExpectedEnd::FilterError => Some(Expected::Refused(Reason::FilterError)),
            words::ExpectedEnd::TransformError => Some(Expected::Refused(Reason::TransformError)),
        },
        words::Expectation::Request(raw) => Some(Expected::Request(ExpectedRequest {
            path: raw.path.take(&path.key("path"), errors).map(|text| text.0),
            headers: test_headers(raw.headers, &path.key("headers"), errors),
            body: raw.body.take(&path.key("body"), errors).map(|body| match body.0 {
                Value::String(text) => ExpectedBody::Text(text),
                json => ExpectedBody::Json(json),
            }),
        })),
    }
}
