//! What natshook is as a service beside its deliveries: the admin listener, traces, operators' decisions, reloads.

use std::{collections::BTreeMap, net::SocketAddr};

use ::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    bounds::share,
    http::{legal_header_name, sensitive, shown_url},
    nats::secret,
    replicas,
};
use crate::{
    config::{
        checked::{Admin, Otlp, Reload},
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
        secret::Secret,
        value::{Private, Text},
    },
    target::HttpUrl,
};

const ENDPOINT_ALLOWED: &str = "a collector's address such as \"http://127.0.0.1:4318\"";

pub(super) fn state_replicas(raw: Section<raw::State>, path: &KeyPath, errors: &mut Errors) -> usize {
    replicas(raw.open(path, errors).replicas, path, errors)
}

pub(super) fn admin(raw: Section<raw::Admin>, path: &KeyPath, errors: &mut Errors) -> Admin {
    let raw = raw.open(path, errors);
    let listen = listen(raw.listen, &path.key("listen"), errors);
    let no_token = raw.token.is_absent();
    let token = token(raw.token, &path.key("token"), errors);
    if no_token && !listen.ip().is_loopback() {
        errors.add(&path.key("listen"), Problem::OpenAdmin { found: listen });
    }
    let open_metrics = raw.open_metrics.take(&path.key("open_metrics"), errors).unwrap_or(false);
    Admin { listen, token: token.map(Into::into), open_metrics }
}

/// Only the address of the listener; what else is wrong with it is passed over.
pub(super) fn admin_listen(raw: Section<raw::Admin>, path: &KeyPath, errors: &mut Errors) -> SocketAddr {
    listen(raw.open(path, errors).listen, &path.key("listen"), errors)
}

fn listen(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> SocketAddr {
    let Some(found) = raw.take(path, errors).map(|text| text.0) else { return limits::LISTEN };
    found.parse().unwrap_or_else(|_| {
        errors.add(path, Problem::Listen { found });
        limits::LISTEN
    })
}

fn token(raw: Field<Secret>, path: &KeyPath, errors: &mut Errors) -> Option<SecretString> {
    let token = secret(raw, path, errors)?;
    if token.expose_secret().chars().count() < limits::TOKEN_CHARS_MIN {
        errors.add(path, Problem::ShortToken { least: limits::TOKEN_CHARS_MIN });
    }
    Some(token)
}

pub(super) fn telemetry(raw: Section<raw::Telemetry>, path: &KeyPath, errors: &mut Errors) -> Option<Otlp> {
    let raw = raw.open(path, errors);
    let headers = otlp_headers(raw.otlp_headers, &path.key("otlp_headers"), errors);
    let sample_ratio = share(raw.sample_ratio, limits::SHARE, &path.key("sample_ratio"), errors);
    let sample_ratio = sample_ratio.unwrap_or(limits::SAMPLE_RATIO_DEFAULT);
    let endpoint = endpoint(raw.otlp_endpoint, &path.key("otlp_endpoint"), errors)?;
    Some(Otlp { endpoint, headers, sample_ratio })
}

fn endpoint(raw: Field<Private>, path: &KeyPath, errors: &mut Errors) -> Option<HttpUrl> {
    let text = raw.take(path, errors)?.0;
    let problem = match Url::parse(&text) {
        Err(cause) => Problem::Url { found: shown_url(&text), allowed: ENDPOINT_ALLOWED, cause },
        Ok(url) => match HttpUrl::new(url) {
            Some(endpoint) => return Some(endpoint),
            None => Problem::UrlKind { found: shown_url(&text), allowed: ENDPOINT_ALLOWED },
        },
    };
    errors.add(path, problem);
    None
}

fn otlp_headers(
    raw: Field<BTreeMap<String, Field<Secret>>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in raw.take(path, errors).unwrap_or_default() {
        let path = path.key(&name);
        let name = legal_header_name(&name, &path, errors);
        let value = secret(value, &path, errors).and_then(|value| sensitive("", &value, &path, errors));
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// The files are added once all of the config is read.
pub(super) fn reload(raw: Section<raw::Reload>, path: &KeyPath, errors: &mut Errors) -> Reload {
    let raw = raw.open(path, errors);
    let on_change = raw.on_change.take(&path.key("on_change"), errors).unwrap_or(true);
    Reload { on_change, files: Vec::new() }
}
