//! The `[[targets]]`: each with its defaults filled in, and the rules between them.

use super::{
    http as parts,
    policy::{self, DEFAULT_CONCURRENCY, DEFAULT_MAX_PAYLOAD, DEFAULT_TIMEOUT, Policy},
    texts,
};
use crate::{
    config::{
        InstanceName, SourceKind,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section, Written},
        raw,
        value::{OneOrMore, Text},
    },
    egress::Guard,
    subject::{self, Pattern},
    target::{Auth, Concurrency, Start, Target, TargetName},
};

/// What targets are judged against.
pub(super) struct Context<'a> {
    pub(super) name: &'a InstanceName,
    pub(super) source: SourceKind,
    pub(super) guard: &'a Guard,
}

pub(super) fn all(
    defaults: Section<raw::Policy>,
    targets: Field<Vec<Section<raw::Target>>>,
    context: &Context<'_>,
    root: &KeyPath,
    errors: &mut Errors,
) -> Vec<Target> {
    let path = root.key("defaults");
    let defaults = policy::check(defaults.open(&path, errors), context.source, &path, errors);
    let path = root.key("targets");
    let raw = targets.require(&path, errors);
    if raw.as_ref().is_some_and(Vec::is_empty) {
        errors.add(&path, Problem::Empty);
    }
    let mut targets = Vec::new();
    let mut names: Vec<(usize, TargetName)> = Vec::new();
    for (index, table) in raw.unwrap_or_default().into_iter().enumerate() {
        let path = path.index(index);
        let Some(table) = table.take(&path, errors) else { continue };
        let path = match &table.name {
            Field::Good(name) => path.of_target(&name.0),
            Field::Absent | Field::Bad { .. } => path,
        };
        let (name, target) = one(table, &defaults, context, &path, errors);
        if let Some(name) = name {
            if let Some((first, _)) = names.iter().find(|(_, other)| *other == name) {
                let found = name.as_str().to_owned();
                errors.add(&path.key("name"), Problem::DuplicateName { found, first: *first });
            }
            names.push((index, name));
        }
        targets.extend(target);
    }
    targets
}

/// A target, and its name even where the rest is wrong.
fn one(
    raw: raw::Target,
    defaults: &Policy,
    context: &Context<'_>,
    path: &KeyPath,
    errors: &mut Errors,
) -> (Option<TargetName>, Option<Target>) {
    let name = name(raw.name, &path.key("name"), errors);
    let subjects = subjects(raw.subjects, context, &path.key("subjects"), errors);
    let url = parts::url(raw.url, context.guard, &path.key("url"), errors);
    let own = policy::check(raw.policy, context.source, path, errors);
    let target = name.clone().zip(url).map(|(name, url)| Target {
        name,
        subjects,
        url,
        method: own.method.or_else(|| defaults.method.clone()).unwrap_or(http::Method::POST),
        headers: own.headers.or_else(|| defaults.headers.clone()).unwrap_or_default(),
        pass_headers: own.pass_headers.or_else(|| defaults.pass_headers.clone()).unwrap_or_default(),
        auth: own.auth.or_else(|| defaults.auth.clone()).unwrap_or(Auth::None),
        signing: own.signing.or_else(|| defaults.signing.clone()).unwrap_or_default(),
        timeout: own.timeout.or(defaults.timeout).unwrap_or(DEFAULT_TIMEOUT),
        concurrency: own
            .concurrency
            .or(defaults.concurrency)
            .unwrap_or(Concurrency::Fixed(DEFAULT_CONCURRENCY)),
        rate: own.rate.or(defaults.rate),
        retry: own.retry.over(&defaults.retry),
        outcomes: own.outcomes.or_else(|| defaults.outcomes.clone()).unwrap_or_default(),
        start: own.start.or(defaults.start).unwrap_or(Start::New),
        max_payload_bytes: own
            .max_payload_bytes
            .or(defaults.max_payload_bytes)
            .unwrap_or(DEFAULT_MAX_PAYLOAD),
    });
    (name, target)
}

fn name(raw: Field<Text>, path: &KeyPath, errors: &mut Errors) -> Option<TargetName> {
    let found = raw.require(path, errors)?.0;
    let name = TargetName::new(&found);
    if name.is_none() {
        errors.add(path, Problem::Name { found });
    }
    name
}

/// The subject of natshook's own that `pattern` reaches. With core NATS a wildcard may reach one, since there they are
/// left out when they come; a stream cannot leave anything out.
fn loops(pattern: &Pattern, context: &Context<'_>) -> Option<String> {
    let own = [context.name.retry_subject("*"), context.name.dead_letter_subject("*")];
    let reaches = |own: &String| match (Pattern::new(own), context.source) {
        (Ok(own), SourceKind::JetStream) => own.overlaps(pattern),
        (Ok(own), SourceKind::Core) => own.contains(pattern),
        (Err(_), _) => false,
    };
    own.into_iter().find(reaches)
}

fn subjects(
    raw: Field<OneOrMore<Text>>,
    context: &Context<'_>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Vec<Pattern> {
    if raw.is_absent() {
        errors.add(path, Problem::Missing { allowed: OneOrMore::<Text>::ALLOWED });
    }
    if matches!(&raw, Field::Good(OneOrMore::More(list)) if list.is_empty()) {
        errors.add(path, Problem::Empty);
    }
    let mut patterns = Vec::new();
    for (path, found) in texts(raw, path, errors) {
        match Pattern::new(&found) {
            Ok(pattern) => {
                if let Some(own) = loops(&pattern, context) {
                    errors.add(&path, Problem::Loop { found, own });
                }
                patterns.push(pattern);
            }
            Err(cause) => errors.add(&path, Problem::Subject { found, cause }),
        }
    }
    subject::reduce(&patterns)
}
