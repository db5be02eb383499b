//! The `[nats]` table: servers, who natshook is there, and TLS.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::http::shown_url;
use crate::{
    config::{
        checked::NamedFile,
        connection::{ClientCertificate, Nats, NatsAuth, ServerUrl, Tls},
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
        secret::Secret,
        value::{OneOrMore, Private, Text},
    },
    subject::Pattern,
};

const SERVER_ALLOWED: &str = "a server's address such as \"nats://127.0.0.1:4222\" or \"tls://nats.example\"";

pub(super) fn check(raw: Section<raw::Nats>, path: &KeyPath, errors: &mut Errors) -> Nats {
    let mut raw = raw.open(path, errors);
    let servers = servers(std::mem::take(&mut raw.servers), &path.key("servers"), errors);
    let inbox_prefix = inbox_prefix(std::mem::take(&mut raw.inbox_prefix), &path.key("inbox_prefix"), errors);
    let tls = tls(std::mem::take(&mut raw.tls), &path.key("tls"), errors);
    let auth = auth(raw, path, errors);
    Nats { servers, auth, tls, inbox_prefix }
}

fn servers(raw: Field<OneOrMore<Private>>, path: &KeyPath, errors: &mut Errors) -> Vec<ServerUrl> {
    if raw.is_absent() {
        return server(limits::SERVER, path, errors).into_iter().collect();
    }
    match raw.take(path, errors) {
        None => Vec::new(),
        Some(OneOrMore::One(text)) => {
            let parts: Vec<&str> = text.0.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            if parts.is_empty() {
                errors.add(path, Problem::Empty);
            }
            parts.into_iter().filter_map(|part| server(part, path, errors)).collect()
        }
        Some(OneOrMore::More(list)) => {
            if list.is_empty() {
                errors.add(path, Problem::Empty);
            }
            let mut servers = Vec::new();
            for (index, field) in list.into_iter().enumerate() {
                let path = path.index(index);
                servers.extend(field.require(&path, errors).and_then(|text| server(&text.0, &path, errors)));
            }
            servers
        }
    }
}

fn server(text: &str, path: &KeyPath, errors: &mut Errors) -> Option<ServerUrl> {
    // NATS's own tools take an address without a scheme.
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let found = || shown_url(text);
    match Url::parse(&with_scheme) {
        Err(cause) => {
            errors.add(path, Problem::Url { found: found(), allowed: SERVER_ALLOWED, cause });
            None
        }
        Ok(url) => {
            let server = ServerUrl::new(url);
            if server.is_none() {
                errors.add(path, Problem::UrlKind { found: found(), allowed: SERVER_ALLOWED });
            }
            server
        }
    }
}

fn inbox_prefix(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<String> {
    let found = raw.take(path, errors)?.0;
    match Pattern::new(&found) {
        Ok(pattern) if pattern.is_literal() => Some(found),
        Ok(_) => {
            errors.add(path, Problem::Wildcard { found });
            None
        }
        Err(cause) => {
            errors.add(path, Problem::Subject { found, cause });
            None
        }
    }
}

fn auth(raw: raw::Nats, path: &KeyPath, errors: &mut Errors) -> NatsAuth {
    let kinds = [
        ("credentials_file", !raw.credentials_file.is_absent()),
        ("nkey_seed", !raw.nkey_seed.is_absent()),
        ("token", !raw.token.is_absent()),
        ("user + password", !raw.user.is_absent() || !raw.password.is_absent()),
    ];
    let found: Vec<&'static str> =
        kinds.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind).collect();
    if found.len() > 1 {
        errors.add(path, Problem::Exclusive { found });
    }
    let credentials = file(raw.credentials_file, &path.key("credentials_file"), errors);
    let seed = nkey_seed(raw.nkey_seed, &path.key("nkey_seed"), errors);
    let token = secret(raw.token, &path.key("token"), errors);
    let (has_user, has_password) = (!raw.user.is_absent(), !raw.password.is_absent());
    if has_user && !has_password {
        errors.add(&path.key("user"), Problem::Needs { other: "password" });
    }
    if has_password && !has_user {
        errors.add(&path.key("password"), Problem::Needs { other: "user" });
    }
    let user = raw.user.take(&path.key("user"), errors).map(|text| text.0);
    let password = secret(raw.password, &path.key("password"), errors);
    match (credentials, seed, token, user.zip(password)) {
        (Some(path), ..) => NatsAuth::CredentialsFile(path),
        (_, Some(seed), ..) => NatsAuth::NkeySeed(seed.into()),
        (_, _, Some(token), _) => NatsAuth::Token(token.into()),
        (.., Some((user, password))) => NatsAuth::UserPassword { user, password: password.into() },
        (None, None, None, None) => NatsAuth::None,
    }
}

fn nkey_seed(raw: Field<Secret>, path: &KeyPath, errors: &mut Errors) -> Option<SecretString> {
    let seed = secret(raw, path, errors)?;
    let pair = nkeys::KeyPair::from_seed(seed.expose_secret().trim());
    if !pair.is_ok_and(|pair| pair.key_pair_type() == nkeys::KeyPairType::User) {
        errors.add(path, Problem::NkeySeed);
    }
    Some(seed)
}

/// The secret under a key, if there is one.
pub(super) fn secret(raw: Field<Secret>, path: &KeyPath, errors: &mut Errors) -> Option<SecretString> {
    let secret = raw.take(path, errors)?;
    errors.keep(path, secret.resolve())
}

fn tls(raw: Section<raw::Tls>, path: &KeyPath, errors: &mut Errors) -> Tls {
    let raw = raw.open(path, errors);
    if !raw.cert_file.is_absent() && raw.key_file.is_absent() {
        errors.add(&path.key("cert_file"), Problem::Needs { other: "key_file" });
    }
    if !raw.key_file.is_absent() && raw.cert_file.is_absent() {
        errors.add(&path.key("key_file"), Problem::Needs { other: "cert_file" });
    }
    let cert_file = file(raw.cert_file, &path.key("cert_file"), errors);
    let key_file = file(raw.key_file, &path.key("key_file"), errors);
    Tls {
        ca_file: file(raw.ca_file, &path.key("ca_file"), errors),
        client: cert_file
            .zip(key_file)
            .map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file }),
        first: raw.first.take(&path.key("first"), errors).unwrap_or(false),
    }
}

/// A file that can be read now: better to hear of it here than from the broker's refusal.
fn file(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<NamedFile> {
    let file = PathBuf::from(raw.take(path, errors)?.0);
    match NamedFile::read(file.clone()) {
        Ok(file) => Some(file),
        Err(cause) => {
            errors.add(path, Problem::File { path: file, cause });
            None
        }
    }
}
