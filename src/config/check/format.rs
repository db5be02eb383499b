//! As what kind of event messages are sent.

use http::header::CONTENT_TYPE;

use super::shape::Headers;

use crate::{
    cloud_event::Mode,
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        raw, value, words,
    },
    shape,
};

/// What a table says of formats; `None` is inherited.
#[derive(Clone, Debug, Default)]
pub(super) struct Format {
    /// `None` within for messages as they came.
    mode: Option<Option<Mode>>,
    attributes: Option<Attributes>,
}

#[derive(Clone, Debug)]
struct Attributes {
    source: Option<shape::Template>,
    kind: Option<shape::Template>,
}

pub(super) fn check(
    format: Field<words::Format>,
    attributes: Section<raw::CloudEvents>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Format {
    let mode = format.take(&path.key("format"), errors).map(|format| match format {
        words::Format::Raw => None,
        words::Format::CloudEventsBinary => Some(Mode::Binary),
        words::Format::CloudEventsStructured => Some(Mode::Structured),
    });
    let path = path.key("cloudevents");
    let attributes = attributes.take(&path, errors).map(|raw| Attributes {
        source: template(raw.source, &path.key("source"), errors),
        kind: template(raw.kind, &path.key("type"), errors),
    });
    Format { mode, attributes }
}

fn template(raw: Field<value::Text>, path: &KeyPath, errors: &mut Errors) -> Option<shape::Template> {
    let text = raw.take(path, errors)?.0;
    if text.is_empty() {
        errors.add(path, Problem::EmptyAttribute);
        return None;
    }
    errors.keep(path, shape::Template::new(&text))
}

impl Format {
    /// What holds for a target that says this, where `defaults` say that. `headers` are the target's.
    pub(super) fn over(
        &self,
        defaults: &Self,
        headers: &Headers,
        path: &KeyPath,
        errors: &mut Errors,
    ) -> Option<shape::Format> {
        let Some(mode) = self.mode.or(defaults.mode).flatten() else {
            if self.attributes.is_some() {
                const OTHER: &str = "format = \"cloudevents-binary\" or \"cloudevents-structured\"";
                errors.add(&path.key("cloudevents"), Problem::Needs { other: OTHER });
            }
            return None;
        };
        if mode == Mode::Structured
            && (headers.fixed.contains_key(CONTENT_TYPE)
                || headers.made.iter().any(|(name, _)| name == CONTENT_TYPE))
        {
            errors.add(&path.key("headers"), Problem::StructuredContentType);
        }
        let attributes = self.attributes.as_ref().or(defaults.attributes.as_ref()).cloned();
        let (source, kind) = attributes.map_or((None, None), |own| (own.source, own.kind));
        Some(shape::Format { mode, source, kind })
    }
}
