//! What a target's requests are made of: URL, method, headers.

use http::{HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use super::{shape::template_problem, texts};
use crate::{
    config::{
        error::{Errors, KeyPath, Problem},
        field::Field,
        value::{OneOrMore, Private, Text},
    },
    egress::Guard,
    request::{ascii_value, is_reserved},
    shape::{BadAddress, PathTemplate, Template},
    target::HttpUrl,
};

const URL_ALLOWED: &str = "an address such as \"https://hooks.example/path\"";

/// Methods that carry no body, or mean something else than sending one.
const METHODS_REFUSED: [&str; 4] = ["CONNECT", "TRACE", "GET", "HEAD"];

/// Where a target receives, and its path and query if they are made for each message.
pub(super) fn url(
    raw: Field<Private>,
    guard: &Guard,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<(HttpUrl, Option<PathTemplate>)> {
    let text = raw.require(path, errors)?.0;
    let (url, template) = parse_url(&text).map_err(|problem| errors.add(path, problem)).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        errors.add(path, Problem::UserInfo);
    }
    if url.fragment().is_some() {
        errors.add(path, Problem::Fragment);
    }
    let Some(target) = HttpUrl::new(url) else {
        errors.add(path, Problem::UrlKind { found: shown_url(&text), allowed: URL_ALLOWED });
        return None;
    };
    errors.keep(path, guard.check_url(target.expose()));
    let target = match &template {
        Some(template) => target.with_shown_path(template.shown()),
        None => target,
    };
    Some((target, template))
}

fn parse_url(text: &str) -> Result<(Url, Option<PathTemplate>), Problem> {
    let no_url = |cause| Problem::Url { found: shown_url(text), allowed: URL_ALLOWED, cause };
    if !Template::has_places(text) {
        return Url::parse(text).map(|url| (url, None)).map_err(no_url);
    }
    match PathTemplate::read(text) {
        Ok((url, template)) => Ok((url, Some(template))),
        Err(BadAddress::Misread(misread)) => Err(template_problem(&misread)),
        Err(BadAddress::InHost) => Err(Problem::TemplateInHost),
        Err(BadAddress::Lost) => Err(Problem::TemplateLost),
        Err(BadAddress::Url(cause)) => Err(no_url(cause)),
    }
}

/// A URL without what may be secret in it: user info, query and fragment.
pub(crate) fn shown_url(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let text = &text[..end];
    let start = text.find("://").map_or(0, |i| i + 3);
    match text.rfind('@') {
        Some(at) if at >= start => format!("{}…@{}", &text[..start], &text[at + 1..]),
        _ => text.to_owned(),
    }
}

pub(super) fn method(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<Method> {
    let found = raw.take(path, errors)?.0;
    let method = Method::from_bytes(found.as_bytes()).ok().filter(|_| {
        // Methods are case-sensitive (RFC 9110, 9.1): "post" is another method, which nobody means.
        !found.contains(|c: char| c.is_ascii_lowercase()) && !METHODS_REFUSED.contains(&found.as_str())
    });
    if method.is_none() {
        errors.add(path, Problem::Method { found });
    }
    method
}

pub(super) fn pass_headers(
    raw: Field<OneOrMore<Text>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Vec<HeaderName>> {
    if raw.is_absent() {
        return None;
    }
    let names = texts(raw, path, errors);
    Some(names.into_iter().filter_map(|(path, name)| header_name(&name, &path, errors)).collect())
}

/// A name that is neither natshook's nor the connection's.
pub(super) fn header_name(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderName> {
    let name = legal_header_name(text, path, errors)?;
    if is_reserved(&name) {
        errors.add(path, Problem::ReservedHeader { found: text.to_owned() });
        return None;
    }
    Some(name)
}

pub(super) fn legal_header_name(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderName> {
    let name = HeaderName::try_from(text).ok();
    if name.is_none() {
        errors.add(path, Problem::HeaderName { found: text.to_owned() });
    }
    name
}

pub(super) fn header_value(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderValue> {
    let value = ascii_value(text);
    if value.is_none() {
        errors.add(path, Problem::HeaderValue);
    }
    value
}

pub(super) fn sensitive(
    scheme: &str,
    secret: &SecretString,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme}{}", secret.expose_secret()));
    let mut value = header_value(&text, path, errors)?;
    value.set_sensitive(true);
    Some(value)
}
