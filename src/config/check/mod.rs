//! From what was read to what is valid. Every check adds what is wrong to the errors and goes on, with a default
//! in the place of what is wrong, so that no error hides another. Files and environment variables are read here
//! only for the secrets that the config names; nothing is sent anywhere.

mod bounds;
mod egress;
mod http;
mod nats;
mod policy;
mod retry;
mod target;

use std::time::Duration;

use serde_json::Value;

use super::{
    checked::{Admin, Config, InstanceName, Shutdown, SourceKind, Storage, Stream},
    error::{ConfigError, Errors, KeyPath, Problem},
    field::{Field, Section},
    raw,
    schema::find_unknown_keys,
    value::{OneOrMore, Text},
};
use crate::message::is_stream_name;
use bounds::{DAY, HOUR, SECOND, bytes, count, duration};

const DEFAULT_STREAM: &str = "EVENTS";
const DEFAULT_LISTEN: &str = "127.0.0.1:8822";
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(35);
const DEFAULT_DEAD_LETTER_AGE: Duration = Duration::from_secs(30 * 86_400);

/// On how many servers JetStream can keep a stream.
const REPLICAS: std::ops::RangeInclusive<u64> = 1..=5;

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

fn root_table(raw: raw::Root, here: &KeyPath, errors: &mut Errors) -> Config {
    let name = instance_name(raw.name, &here.key("name"), errors);
    let source = raw.source.take(&here.key("source"), errors).map_or(SourceKind::JetStream, Into::into);
    let shutdown = shutdown(raw.shutdown, &here.key("shutdown"), errors);
    let nats = nats::check(raw.nats, &here.key("nats"), errors);
    let stream = stream(raw.stream, &name, &here.key("stream"), errors);
    let retry_queue = retry_queue(raw.retry_queue, &here.key("retry_queue"), errors);
    let dead_letter = dead_letter(raw.dead_letter, &here.key("dead_letter"), errors);
    let admin = admin(raw.admin, &here.key("admin"), errors);
    let egress = egress::check(raw.egress, &here.key("egress"), errors);
    let context = target::Context { name: &name, source, guard: &egress };
    let targets = target::all(raw.defaults, raw.targets, &context, here, errors);
    Config { name, source, nats, stream, retry_queue, dead_letter, admin, egress, shutdown, targets }
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
    let grace_period = duration(raw.grace_period, Duration::ZERO..=HOUR, &path.key("grace_period"), errors);
    Shutdown { grace_period: grace_period.unwrap_or(DEFAULT_GRACE_PERIOD) }
}

fn stream(raw: Section<raw::Stream>, instance: &InstanceName, path: &KeyPath, errors: &mut Errors) -> Stream {
    let raw = raw.open(path, errors);
    let name =
        raw.name.take(&path.key("name"), errors).map_or_else(|| DEFAULT_STREAM.to_owned(), |text| text.0);
    if !is_stream_name(&name) {
        errors.add(&path.key("name"), Problem::StreamName { found: name.clone() });
    }
    if name == instance.retry_stream() || name == instance.dead_letter_stream() {
        errors.add(&path.key("name"), Problem::OwnStream { found: name.clone() });
    }
    Stream {
        name,
        create: raw.create.take(&path.key("create"), errors).unwrap_or(true),
        replicas: replicas(raw.replicas, path, errors),
    }
}

fn retry_queue(raw: Section<raw::RetryQueue>, path: &KeyPath, errors: &mut Errors) -> Storage {
    let raw = raw.open(path, errors);
    Storage {
        replicas: replicas(raw.replicas, path, errors),
        max_bytes: bytes(raw.max_bytes, 1..=i64::MAX as u64, &path.key("max_bytes"), errors),
        max_age: None,
    }
}

fn dead_letter(raw: Section<raw::DeadLetter>, path: &KeyPath, errors: &mut Errors) -> Storage {
    let raw = raw.open(path, errors);
    let max_age = duration(raw.max_age, SECOND..=3650 * DAY, &path.key("max_age"), errors);
    Storage {
        replicas: replicas(raw.replicas, path, errors),
        max_bytes: bytes(raw.max_bytes, 1..=i64::MAX as u64, &path.key("max_bytes"), errors),
        max_age: Some(max_age.unwrap_or(DEFAULT_DEAD_LETTER_AGE)),
    }
}

fn replicas(raw: Field<u64>, table: &KeyPath, errors: &mut Errors) -> usize {
    let found = count(raw, REPLICAS, &table.key("replicas"), errors);
    found.and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
}

fn admin(raw: Section<raw::Admin>, path: &KeyPath, errors: &mut Errors) -> Admin {
    let raw = raw.open(path, errors);
    let listen = raw.listen.take(&path.key("listen"), errors).map(|text| text.0);
    let listen = listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let address = listen.parse().unwrap_or_else(|_| {
        errors.add(&path.key("listen"), Problem::Listen { found: listen });
        ([127, 0, 0, 1], 0).into()
    });
    Admin { listen: address }
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
mod tests;
