//! What a target's requests are made of: URL, method, headers, auth, signing keys.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use super::{nats::secret, texts};
use crate::{
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        raw,
        value::{OneOrMore, Private, Text},
    },
    egress::Guard,
    request::is_reserved,
    signature::SigningKeys,
    target::{Auth, TargetUrl},
};

const URL_ALLOWED: &str = "an address such as \"https://hooks.example/path\"";

/// Methods that carry no body, or mean something else than sending one.
const METHODS_REFUSED: [&str; 4] = ["CONNECT", "TRACE", "GET", "HEAD"];

pub(super) fn url(
    raw: Field<Private>,
    guard: &Guard,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<TargetUrl> {
    let text = raw.require(path, errors)?.0;
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(cause) => {
            errors.add(path, Problem::Url { found: shown_url(&text), allowed: URL_ALLOWED, cause });
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        errors.add(path, Problem::UserInfo);
    }
    if url.fragment().is_some() {
        errors.add(path, Problem::Fragment);
    }
    let Some(target) = TargetUrl::new(url) else {
        errors.add(path, Problem::UrlKind { found: shown_url(&text), allowed: URL_ALLOWED });
        return None;
    };
    errors.keep(path, guard.check_url(target.expose()));
    Some(target)
}

/// A URL without what may be secret in it: user info, query and fragment.
pub(super) fn shown_url(text: &str) -> String {
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

pub(super) fn headers(
    raw: Field<BTreeMap<String, Field<Private>>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in raw.take(path, errors)? {
        let path = path.key(&name);
        let name = header_name(&name, &path, errors);
        let value = value.require(&path, errors).and_then(|text| header_value(&text.0, &path, errors));
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    Some(headers)
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
fn header_name(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderName> {
    let name = legal_header_name(text, path, errors)?;
    if is_reserved(&name) {
        errors.add(path, Problem::ReservedHeader { found: text.to_owned() });
        return None;
    }
    Some(name)
}

fn legal_header_name(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderName> {
    let name = HeaderName::try_from(text).ok();
    if name.is_none() {
        errors.add(path, Problem::HeaderName { found: text.to_owned() });
    }
    name
}

fn header_value(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderValue> {
    // `from_str` takes visible ASCII only, where `from_bytes` would take what receivers read in different ways.
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        errors.add(path, Problem::HeaderValue);
    }
    value
}

pub(super) fn auth(raw: Section<raw::Auth>, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    const KINDS: &[&str] = &["bearer", "basic", "header"];
    let raw = raw.take(path, errors)?;
    let there = [!raw.bearer.is_absent(), !raw.basic.is_absent(), !raw.header.is_absent()];
    let found: Vec<&'static str> =
        KINDS.iter().zip(there).filter(|(_, there)| *there).map(|(kind, _)| *kind).collect();
    match found.len() {
        0 => errors.add(path, Problem::NoneOf { allowed: KINDS }),
        1 => {}
        _ => errors.add(path, Problem::Exclusive { found }),
    }
    let bearer = secret(raw.bearer, &path.key("bearer"), errors);
    let bearer =
        bearer.and_then(|token| sensitive("Bearer ", &token, &path.key("bearer"), errors)).map(Auth::Bearer);
    let basic = raw.basic.take(&path.key("basic"), errors);
    let basic = basic.and_then(|raw| self::basic(raw, &path.key("basic"), errors));
    let header = raw.header.take(&path.key("header"), errors);
    let header = header.and_then(|raw| auth_header(raw, &path.key("header"), errors));
    bearer.or(basic).or(header)
}

fn basic(raw: raw::Basic, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    let user = raw.user.require(&path.key("user"), errors);
    if raw.password.is_absent() {
        errors.add(&path.key("password"), Problem::Missing { allowed: "a secret" });
    }
    let password = secret(raw.password, &path.key("password"), errors);
    let (user, password) = (user?.0, password?);
    if user.contains(|c: char| c == ':' || c.is_control()) {
        errors.add(&path.key("user"), Problem::BasicUser);
    }
    let pair = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
    let pair = STANDARD.encode(pair.as_bytes());
    sensitive("Basic ", &SecretString::from(pair), path, errors).map(Auth::Basic)
}

fn auth_header(raw: raw::AuthHeader, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    let written = raw.name.require(&path.key("name"), errors).map(|text| text.0);
    let name = written.and_then(|text| auth_header_name(&text, &path.key("name"), errors));
    if raw.value.is_absent() {
        errors.add(&path.key("value"), Problem::Missing { allowed: "a secret" });
    }
    let value = secret(raw.value, &path.key("value"), errors);
    let value = value.and_then(|value| sensitive("", &value, &path.key("value"), errors));
    Some(Auth::Header(name?, value?))
}

/// A scheme of the receiver's own ("Authorization: ApiKey …") is written as such a header.
fn auth_header_name(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<HeaderName> {
    let name = legal_header_name(text, path, errors)?;
    if name == AUTHORIZATION {
        return Some(name);
    }
    header_name(text, path, errors)
}

fn sensitive(
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

pub(super) fn signing(
    raw: Section<raw::Signing>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<SigningKeys> {
    let raw = raw.take(path, errors)?;
    let path = path.key("secrets");
    let list = raw.secrets.require(&path, errors)?;
    if list.is_empty() {
        errors.add(&path, Problem::Empty);
    }
    let mut secrets: Vec<(KeyPath, SecretString)> = Vec::new();
    for (index, field) in list.into_iter().enumerate() {
        let path = path.index(index);
        secrets.extend(secret(field, &path, errors).map(|secret| (path, secret)));
    }
    match SigningKeys::parse(secrets.iter().map(|(_, secret)| secret.expose_secret())) {
        Ok(keys) => Some(keys),
        Err(bad) => {
            for (index, error) in bad {
                errors.add(&secrets[index].0, error.into());
            }
            None
        }
    }
}
