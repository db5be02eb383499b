//! A target's `tls`: its files are read and judged here, so that what is wrong with them is told before anything runs.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        raw,
        value::Text,
    },
    tls::{self, Identity, IdentityError, Tls, TlsFileError},
};

pub(super) fn check(raw: Section<raw::TargetTls>, path: &KeyPath, errors: &mut Errors) -> Option<Tls> {
    let raw = raw.take(path, errors)?;
    if !raw.cert_file.is_absent() && raw.key_file.is_absent() {
        errors.add(&path.key("cert_file"), Problem::Needs { other: "key_file" });
    }
    if !raw.key_file.is_absent() && raw.cert_file.is_absent() {
        errors.add(&path.key("key_file"), Problem::Needs { other: "cert_file" });
    }
    let no_authority = raw.ca_file.is_absent();
    let ca_path = path.key("ca_file");
    let authorities = content(raw.ca_file, &ca_path, errors).and_then(|content| {
        tls::authorities(&content.bytes).map_err(|cause| unusable(&content, &ca_path, cause, errors)).ok()
    });
    let system_roots = raw.system_roots.take(&path.key("system_roots"), errors).unwrap_or(true);
    if !system_roots && no_authority {
        errors.add(&path.key("system_roots"), Problem::Needs { other: "ca_file" });
    }
    let (cert_path, key_path) = (path.key("cert_file"), path.key("key_file"));
    let chain = content(raw.cert_file, &cert_path, errors);
    let key = content(raw.key_file, &key_path, errors);
    let identity = chain.zip(key).and_then(|(chain, key)| {
        let read = Identity::read(&chain.bytes, &key.bytes).map_err(|error| match error {
            IdentityError::Chain(cause) => unusable(&chain, &cert_path, cause, errors),
            IdentityError::Key(cause) => unusable(&key, &key_path, cause, errors),
        });
        read.ok()
    });
    // What asks for nothing else shares the connections of all the others.
    if authorities.is_none() && identity.is_none() {
        return None;
    }
    Some(Tls {
        authorities: Arc::new(authorities.unwrap_or_default()),
        system_roots,
        identity: identity.map(Arc::new),
    })
}

/// What a file holds, overwritten when it is dropped: it may be a key.
struct Content {
    file: String,
    bytes: Zeroizing<Vec<u8>>,
}

fn content(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<Content> {
    let file = raw.take(path, errors)?.0;
    match std::fs::read(&file) {
        Ok(bytes) => Some(Content { file, bytes: Zeroizing::new(bytes) }),
        Err(cause) => {
            errors.add(path, Problem::File { path: file.into(), cause });
            None
        }
    }
}

fn unusable(content: &Content, path: &KeyPath, cause: TlsFileError, errors: &mut Errors) {
    errors.add(path, Problem::TlsFile { file: content.file.clone(), cause });
}
