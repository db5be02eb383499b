//! From what was read to what is valid. Every check adds what is wrong to the errors and goes on, with a default
//! in the place of what is wrong, so that no error hides another. Files and environment variables are read here
//! only for the secrets that the config names; nothing is sent anywhere.

mod answers;
mod auth;
mod batch;
mod bounds;
mod connection;
mod egress;
mod format;
mod http;
mod nats;
mod policy;
mod registry;
mod retry;
mod service;
mod shape;
mod signing;
mod target;
mod tls;

use std::net::SocketAddr;

use serde_json::Value;

use super::{
    checked::{Config, InstanceName, Shutdown},
    connection::Reach,
    error::{ConfigError, Errors, KeyPath, Problem},
    field::{Field, Section},
    limits, raw,
    schema::find_unknown_keys,
    value::{OneOrMore, Text},
};
use bounds::{count, duration};
pub(crate) use http::shown_url;
pub(super) use policy::Policy;
pub(super) use target::{Context, check_target};

/// Judges `tree`; `errors` holds what was wrong before.
pub(super) fn check(tree: Value, mut errors: Errors) -> Result<Config, Vec<ConfigError>> {
    find_unknown_keys(&tree, &mut errors);
    let here = KeyPath::default();
    let root =
        serde_json::from_value::<Section<raw::Root>>(tree).unwrap_or_default().open(&here, &mut errors);
    let config = root_table(root, &here, &mut errors);
    let errors = errors.into_list();
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

/// Judges the part of `tree` that tells how to reach each account. Nothing else is looked at but for unknown keys, and no
/// secret of a target is asked for: commands for operators run where those are not.
pub(super) fn check_reaches(tree: Value, mut errors: Errors) -> Result<Vec<Reach>, Vec<ConfigError>> {
    find_unknown_keys(&tree, &mut errors);
    let here = KeyPath::default();
    let targets = connection::target_names(&tree);
    let mut raw =
        serde_json::from_value::<Section<raw::Root>>(tree).unwrap_or_default().open(&here, &mut errors);
    let name = instance_name(std::mem::take(&mut raw.name), &here.key("name"), &mut errors);
    let reaches = connection::reaches(raw, &name, targets, &here, &mut errors);
    let errors = errors.into_list();
    if errors.is_empty() { Ok(reaches) } else { Err(errors) }
}

/// Judges nothing of `tree` but where the admin listener listens.
pub(super) fn check_admin_listen(tree: Value, mut errors: Errors) -> Result<SocketAddr, Vec<ConfigError>> {
    let here = KeyPath::default();
    let raw = serde_json::from_value::<Section<raw::Root>>(tree).unwrap_or_default().open(&here, &mut errors);
    let listen = service::admin_listen(raw.admin, &here.key("admin"), &mut errors);
    let errors = errors.into_list();
    if errors.is_empty() { Ok(listen) } else { Err(errors) }
}

fn root_table(mut raw: raw::Root, here: &KeyPath, errors: &mut Errors) -> Config {
    let name = instance_name(std::mem::take(&mut raw.name), &here.key("name"), errors);
    let shutdown = shutdown(std::mem::take(&mut raw.shutdown), &here.key("shutdown"), errors);
    let admin = service::admin(std::mem::take(&mut raw.admin), &here.key("admin"), errors);
    let otlp = service::telemetry(std::mem::take(&mut raw.telemetry), &here.key("telemetry"), errors);
    let reload = service::reload(std::mem::take(&mut raw.reload), &here.key("reload"), errors);
    let egress = egress::check(std::mem::take(&mut raw.egress), &here.key("egress"), errors);
    let (connections, tests) = connection::all(raw, &name, &egress, here, errors);
    Config { name, connections, tests, admin, otlp, reload, egress, shutdown }
}

fn instance_name(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> InstanceName {
    let Some(Text(found)) = raw.take(path, errors) else { return InstanceName::default() };
    InstanceName::new(&found).unwrap_or_else(|| {
        errors.add(path, Problem::Name { found });
        InstanceName::default()
    })
}

fn shutdown(raw: Section<raw::Shutdown>, path: &KeyPath, errors: &mut Errors) -> Shutdown {
    let raw = raw.open(path, errors);
    let grace_period = duration(raw.grace_period, limits::GRACE_PERIOD, &path.key("grace_period"), errors);
    Shutdown { grace_period: grace_period.unwrap_or(limits::GRACE_PERIOD_DEFAULT) }
}

fn replicas(raw: Field<u64>, table: &KeyPath, errors: &mut Errors) -> usize {
    let found = count(raw, limits::REPLICAS, &table.key("replicas"), errors);
    found.and_then(|n| usize::try_from(n).ok()).unwrap_or(limits::REPLICAS_DEFAULT as usize)
}

/// The texts of a key that takes one or a list, each with its place.
fn texts(raw: Field<OneOrMore<Text>>, path: &KeyPath, errors: &mut Errors) -> Vec<(KeyPath, String)> {
    match raw.take(path, errors) {
        None => Vec::new(),
        Some(OneOrMore::One(text)) => vec![(path.clone(), text.0)],
        Some(OneOrMore::More(list)) => list
            .into_iter()
            .enumerate()
            .filter_map(|(index, field)| {
                let path = path.index(index);
                field.require(&path, errors).map(|text| (path, text.0))
            })
            .collect(),
    }
}

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod tests;
