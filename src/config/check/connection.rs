//! The accounts that messages come from: the only one of a config, whose keys stand above all tables, or those of
//! `[[connections]]`, each with its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    bounds::{bytes, duration},
    nats, registry, replicas, service, target,
};
use crate::{
    config::{
        TargetTest,
        checked::InstanceName,
        connection::{Connection, ConnectionName, Reach, SourceKind, Storage, Stream},
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
        rules::TargetRules,
        value::{self, Text},
    },
    egress::Guard,
    message::is_stream_name,
    target::TargetName,
};

/// The keys that stand in each of `[[connections]]` where there are some, and not above.
const OWN_KEYS: [&str; 8] =
    ["source", "nats", "stream", "retry_queue", "dead_letter", "state", "registry", "targets"];

/// A connection as written, its name, and where.
struct Written {
    name: ConnectionName,
    raw: raw::Connection,
    path: KeyPath,
}

pub(super) fn all(
    mut raw: raw::Root,
    instance: &InstanceName,
    guard: &Guard,
    root: &KeyPath,
    errors: &mut Errors,
) -> (Vec<Connection>, Vec<TargetTest>) {
    let defaults = std::mem::take(&mut raw.defaults);
    let written = written(raw, root, errors);
    let source = |connection: &mut Written, errors: &mut Errors| {
        source(std::mem::take(&mut connection.raw.source), &connection.path.key("source"), errors)
    };
    let mut sources = Vec::new();
    let mut connections = written;
    for connection in &mut connections {
        sources.push(source(connection, errors));
    }
    // What can be said nowhere is wrong there; what some connection can obey is not.
    let any = if sources.contains(&SourceKind::JetStream) { SourceKind::JetStream } else { SourceKind::Core };
    let context = target::Context { name: instance, source: any, guard, registry: false };
    let defaults = target::defaults(defaults, &context, &root.key("defaults"), errors);
    let mut names = target::Names::default();
    let (mut checked, mut tests) = (Vec::new(), Vec::new());
    let mut has_registry = false;
    for (Written { name, raw, path }, source) in connections.into_iter().zip(sources) {
        let registry = registry::check(raw.registry, source, &path.key("registry"), errors);
        if registry.is_some() && std::mem::replace(&mut has_registry, true) {
            errors.add(&path.key("registry"), Problem::SecondRegistry);
        }
        let context = target::Context { name: instance, source, guard, registry: registry.is_some() };
        let rules = registry
            .is_some()
            .then(|| TargetRules::new(instance.clone(), source, guard.clone(), defaults.clone()));
        let (targets, more) =
            target::all(raw.targets, &defaults, &context, &mut names, &path.key("targets"), errors);
        tests.extend(more);
        checked.push(Connection {
            name,
            instance: instance.clone(),
            source,
            nats: nats::check(raw.nats, &path.key("nats"), errors),
            stream: stream(raw.stream, instance, &path.key("stream"), errors),
            retry_queue: retry_queue(raw.retry_queue, &path.key("retry_queue"), errors),
            dead_letter: dead_letter(raw.dead_letter, &path.key("dead_letter"), errors),
            state_replicas: service::state_replicas(raw.state, &path.key("state"), errors),
            registry,
            rules,
            elsewhere: BTreeSet::new(),
            targets,
            registered: BTreeMap::new(),
        });
    }
    name_others(&mut checked);
    (checked, tests)
}

/// Tells each connection of the targets of the others, whose names are taken.
fn name_others(connections: &mut [Connection]) {
    let names =
        |connection: &Connection| connection.targets.iter().map(|target| target.name.clone()).collect();
    let all: Vec<BTreeSet<TargetName>> = connections.iter().map(names).collect();
    for (at, connection) in connections.iter_mut().enumerate().filter(|(_, one)| one.registry.is_some()) {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        connection.elsewhere = others.flat_map(|(_, names)| names.iter().cloned()).collect();
    }
}

/// How each connection is reached; `targets` are the names of its targets.
pub(super) fn reaches(
    raw: raw::Root,
    instance: &InstanceName,
    targets: Vec<Vec<TargetName>>,
    root: &KeyPath,
    errors: &mut Errors,
) -> Vec<Reach> {
    let mut targets = targets.into_iter();
    let mut reach = |Written { name, raw, path }| Reach {
        connection: name,
        name: instance.clone(),
        source: source(raw.source, &path.key("source"), errors),
        nats: nats::check(raw.nats, &path.key("nats"), errors),
        state_replicas: service::state_replicas(raw.state, &path.key("state"), errors),
        registry: registry::enabled(raw.registry, &path.key("registry"), errors),
        targets: targets.next().unwrap_or_default(),
    };
    let mut found = Errors::default();
    let written = written(raw, root, &mut found);
    let reaches = written.into_iter().map(&mut reach).collect();
    errors.append(found);
    reaches
}

/// The names of each connection's targets, as far as they are valid.
pub(super) fn target_names(tree: &Value) -> Vec<Vec<TargetName>> {
    let names = |table: &Value| {
        let targets = table.get("targets").and_then(Value::as_array).into_iter().flatten();
        targets.filter_map(|target| TargetName::new(target.get("name")?.as_str()?)).collect()
    };
    match tree.get("connections").and_then(Value::as_array) {
        Some(connections) => connections.iter().map(names).collect(),
        None => vec![names(tree)],
    }
}

fn written(raw: raw::Root, root: &KeyPath, errors: &mut Errors) -> Vec<Written> {
    let raw::Root { source, nats, stream, retry_queue, dead_letter, state, .. } = raw;
    let raw::Root { registry, targets, connections, .. } = raw;
    if connections.is_absent() {
        let name = Field::Absent;
        let raw = raw::Connection {
            name,
            source,
            nats,
            stream,
            retry_queue,
            dead_letter,
            state,
            registry,
            targets,
        };
        return vec![Written { name: ConnectionName::default(), raw, path: root.clone() }];
    }
    let there = [
        !source.is_absent(),
        !nats.is_absent(),
        !stream.is_absent(),
        !retry_queue.is_absent(),
        !dead_letter.is_absent(),
        !state.is_absent(),
        !registry.is_absent(),
        !targets.is_absent(),
    ];
    for (key, _) in OWN_KEYS.iter().zip(there).filter(|(_, there)| *there) {
        errors.add(&root.key(key), Problem::OfConnection);
    }
    named(connections, &root.key("connections"), errors)
}

fn named(raw: Field<Vec<Section<raw::Connection>>>, path: &KeyPath, errors: &mut Errors) -> Vec<Written> {
    let list = raw.take(path, errors).unwrap_or_default();
    if list.is_empty() {
        errors.add(path, Problem::Empty);
    }
    let mut written: Vec<Written> = Vec::new();
    for (index, table) in list.into_iter().enumerate() {
        let path = path.index(index);
        let Some(mut raw) = table.take(&path, errors) else { continue };
        let name = name(std::mem::take(&mut raw.name), &path.key("name"), errors);
        if let Some(first) = written.iter().find(|other| other.name == name) {
            let (found, first) = (name.to_string(), first.path.keys().to_owned());
            errors.add(&path.key("name"), Problem::DuplicateName { found, first });
        }
        written.push(Written { name, raw, path });
    }
    written
}

fn name(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> ConnectionName {
    let Some(Text(found)) = raw.require(path, errors) else { return ConnectionName::default() };
    ConnectionName::new(&found).unwrap_or_else(|| {
        errors.add(path, Problem::Name { found });
        ConnectionName::default()
    })
}

fn source(raw: Field<value::Source>, path: &KeyPath, errors: &mut Errors) -> SourceKind {
    raw.take(path, errors).map_or(SourceKind::JetStream, Into::into)
}

fn stream(raw: Section<raw::Stream>, instance: &InstanceName, path: &KeyPath, errors: &mut Errors) -> Stream {
    let raw = raw.open(path, errors);
    let name =
        raw.name.take(&path.key("name"), errors).map_or_else(|| limits::STREAM.to_owned(), |text| text.0);
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
        max_bytes: bytes(raw.max_bytes, limits::STREAM_BYTES, &path.key("max_bytes"), errors),
        max_age: None,
    }
}

fn dead_letter(raw: Section<raw::DeadLetter>, path: &KeyPath, errors: &mut Errors) -> Storage {
    let raw = raw.open(path, errors);
    let max_age = duration(raw.max_age, limits::DEAD_LETTER_AGE, &path.key("max_age"), errors);
    Storage {
        replicas: replicas(raw.replicas, path, errors),
        max_bytes: bytes(raw.max_bytes, limits::STREAM_BYTES, &path.key("max_bytes"), errors),
        max_age: Some(max_age.unwrap_or(limits::DEAD_LETTER_AGE_DEFAULT)),
    }
}
