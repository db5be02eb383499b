//! How a target's requests prove who sends them: `auth`.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    http::{header_name, legal_header_name, sensitive, url},
    nats::secret,
    texts,
};
use crate::{
    access_token::{ClientAuth, ClientCredentials, OWN_PARAMETERS},
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section, Written},
        raw,
        secret::Secret,
        value::{self, Private},
        words,
    },
    egress::Guard,
    sigv4::SigV4,
    target::Auth,
};

pub(super) fn check(
    raw: Section<raw::Auth>,
    guard: &Guard,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Auth> {
    const KINDS: &[&str] = &["bearer", "basic", "header", "oauth2", "sigv4"];
    let raw = raw.take(path, errors)?;
    let there = [
        !raw.bearer.is_absent(),
        !raw.basic.is_absent(),
        !raw.header.is_absent(),
        !raw.oauth2.is_absent(),
        !raw.sigv4.is_absent(),
    ];
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
    let oauth2 = raw.oauth2.take(&path.key("oauth2"), errors);
    let oauth2 = oauth2.and_then(|raw| self::oauth2(raw, guard, &path.key("oauth2"), errors));
    let sigv4 = raw.sigv4.take(&path.key("sigv4"), errors);
    let sigv4 = sigv4.and_then(|raw| self::sigv4(raw, &path.key("sigv4"), errors));
    bearer.or(basic).or(header).or(oauth2).or(sigv4)
}

/// A secret that has to be there.
fn required(raw: Field<Secret>, path: &KeyPath, errors: &mut Errors) -> Option<SecretString> {
    if raw.is_absent() {
        errors.add(path, Problem::Missing { allowed: Secret::ALLOWED });
    }
    secret(raw, path, errors)
}

fn basic(raw: raw::Basic, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    let user = raw.user.require(&path.key("user"), errors);
    let password = required(raw.password, &path.key("password"), errors);
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
    let value = required(raw.value, &path.key("value"), errors);
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

fn oauth2(raw: raw::OAuth2, guard: &Guard, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    let token_url = match url(raw.token_url, guard, &path.key("token_url"), errors) {
        // Tokens are for all messages of a target.
        Some((_, Some(_))) => {
            errors.add(&path.key("token_url"), Problem::TemplateInTokenUrl);
            None
        }
        found => found.map(|(url, _)| url),
    };
    let client_id = raw.client_id.require(&path.key("client_id"), errors);
    let client_secret = required(raw.client_secret, &path.key("client_secret"), errors);
    let mut scopes = Vec::new();
    for (path, scope) in texts(raw.scope, &path.key("scope"), errors) {
        // Printable ASCII without quotation mark and backslash; a space separates (RFC 6749, 3.3).
        if !scope.is_empty() && scope.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
            scopes.push(scope);
        } else {
            errors.add(&path, Problem::Scope { found: scope });
        }
    }
    let audience = raw.audience.take(&path.key("audience"), errors).map(|text| text.0);
    let parameters = parameters(raw.parameters, &path.key("parameters"), errors);
    let client_auth = match raw.client_auth.take(&path.key("client_auth"), errors) {
        None | Some(words::ClientAuth::Basic) => ClientAuth::Basic,
        Some(words::ClientAuth::Body) => ClientAuth::Body,
    };
    Some(Auth::OAuth2(Arc::new(ClientCredentials {
        token_url: token_url?,
        client_id: client_id?.0,
        client_secret: client_secret?.into(),
        scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
        audience,
        parameters,
        client_auth,
    })))
}

fn parameters(
    raw: Field<BTreeMap<String, Field<Private>>>,
    path: &KeyPath,
    errors: &mut Errors,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, value) in raw.take(path, errors).unwrap_or_default() {
        let path = path.key(&name);
        if OWN_PARAMETERS.contains(&name.as_str()) {
            errors.add(&path, Problem::OwnParameter);
        }
        parameters.extend(value.require(&path, errors).map(|text| (name, text.0)));
    }
    parameters
}

fn sigv4(raw: raw::SigV4, path: &KeyPath, errors: &mut Errors) -> Option<Auth> {
    let access_key_id = required(raw.access_key_id, &path.key("access_key_id"), errors);
    let secret_access_key = required(raw.secret_access_key, &path.key("secret_access_key"), errors);
    let session_token = secret(raw.session_token, &path.key("session_token"), errors);
    let mut place = |raw: Field<value::Text>, key: &str| {
        let path = path.key(key);
        let found = raw.require(&path, errors)?.0;
        let good = !found.is_empty() && found.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            errors.add(&path, Problem::AwsName { found });
            return None;
        }
        Some(found)
    };
    let (region, service) = (place(raw.region, "region"), place(raw.service, "service"));
    if service.as_deref() == Some("s3") {
        errors.add(&path.key("service"), Problem::S3);
    }
    let key = SigV4::new(
        access_key_id?.expose_secret(),
        secret_access_key?.expose_secret(),
        session_token.as_ref().map(ExposeSecret::expose_secret),
        region?,
        service?,
    );
    Some(Auth::SigV4(key))
}
