//! The `[[targets]]`: each with its defaults filled in, and the rules between them.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use serde_json::Value;

use super::{
    answers, batch, http as parts,
    policy::{self, Policy},
    shape as shapes,
    signing::Signing,
    texts,
};
use crate::{
    config::{
        InstanceName, SourceKind, TargetTest,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section, Written},
        limits, raw,
        schema::find_unknown_keys_of_target,
        value::{OneOrMore, Text},
    },
    egress::Guard,
    subject::{self, Pattern},
    target::{Auth, Concurrency, Start, Target, TargetName},
};

/// What targets are judged against.
pub(in crate::config) struct Context<'a> {
    pub(in crate::config) name: &'a InstanceName,
    pub(in crate::config) source: SourceKind,
    pub(in crate::config) guard: &'a Guard,
    /// Whether targets can register.
    pub(in crate::config) registry: bool,
}

/// The target that `written` is, which stands alone at `path`.
pub(in crate::config) fn check_target(
    written: Value,
    context: &Context<'_>,
    defaults: &Policy,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Target> {
    find_unknown_keys_of_target(&written, path, errors);
    let raw = serde_json::from_value::<Section<raw::Target>>(written).unwrap_or_default();
    // Its tests are for whoever writes it.
    let (_, target) = one(raw.take(path, errors)?, defaults, context, path, &mut Vec::new(), errors);
    target
}

/// The names of targets so far, and where they stand: over all connections.
#[derive(Default)]
pub(super) struct Names(Vec<(TargetName, String)>);

impl Names {
    fn add(&mut self, name: TargetName, table: &KeyPath, errors: &mut Errors) {
        if let Some((_, first)) = self.0.iter().find(|(other, _)| *other == name) {
            let found = name.as_str().to_owned();
            errors.add(&table.key("name"), Problem::DuplicateName { found, first: first.clone() });
        }
        self.0.push((name, table.keys().to_owned()));
    }
}

/// What holds for every target that does not say otherwise.
pub(super) fn defaults(
    raw: Section<raw::Policy>,
    context: &Context<'_>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Policy {
    policy::check(raw.open(path, errors), context, path, errors)
}

/// The targets of a connection.
pub(super) fn all(
    raw: Field<Vec<Section<raw::Target>>>,
    defaults: &Policy,
    context: &Context<'_>,
    names: &mut Names,
    path: &KeyPath,
    errors: &mut Errors,
) -> (Vec<Target>, Vec<TargetTest>) {
    // Where targets can register, none need be there before.
    let raw = if context.registry { raw.take(path, errors) } else { raw.require(path, errors) };
    if !context.registry && raw.as_ref().is_some_and(Vec::is_empty) {
        errors.add(path, Problem::Empty);
    }
    let (mut targets, mut tests) = (Vec::new(), Vec::new());
    for (index, table) in raw.unwrap_or_default().into_iter().enumerate() {
        let path = path.index(index);
        let Some(table) = table.take(&path, errors) else { continue };
        let path = match &table.name {
            Field::Good(name) => path.of_target(&name.0),
            Field::Absent | Field::Bad { .. } => path,
        };
        let (name, target) = one(table, defaults, context, &path, &mut tests, errors);
        if let Some(name) = name {
            names.add(name, &path, errors);
        }
        targets.extend(target);
    }
    (targets, tests)
}

/// A target, and its name even where the rest is wrong. Its tests go to `tests`.
fn one(
    raw: raw::Target,
    defaults: &Policy,
    context: &Context<'_>,
    path: &KeyPath,
    tests: &mut Vec<TargetTest>,
    errors: &mut Errors,
) -> (Option<TargetName>, Option<Target>) {
    let name = name(raw.name, &path.key("name"), errors);
    let subjects = subjects(raw.subjects, context, &path.key("subjects"), errors);
    let url = parts::url(raw.url, context.guard, &path.key("url"), errors);
    let own = policy::check(raw.policy, context, path, errors);
    let auth = own.auth.clone().or_else(|| defaults.auth.clone()).unwrap_or(Auth::None);
    let signing = own.signing.clone().or_else(|| defaults.signing.clone()).unwrap_or_default();
    signed_before_it_is_set(&auth, &signing, path, errors);
    let reply = own.reply.clone().or_else(|| defaults.reply.clone());
    if let Some(reply) = &reply {
        answers::reply_loops(reply, &subjects, context, path, errors);
    }
    tests.extend(shapes::tests(raw.tests, name.as_ref(), &path.key("tests"), errors));
    let headers = own.headers.as_ref().or(defaults.headers.as_ref()).cloned().unwrap_or_default();
    let format = own.format.over(&defaults.format, &headers, path, errors);
    let max_payload_bytes = own.max_payload_bytes.or(defaults.max_payload_bytes);
    let max_payload_bytes = max_payload_bytes.unwrap_or(limits::PAYLOAD_DEFAULT as usize);
    let batch = own.batch.as_ref().or(defaults.batch.as_ref()).cloned();
    let order = own.order.clone().or_else(|| defaults.order.clone()).unwrap_or_default();
    let target = name.clone().zip(url).map(|(name, (url, made))| Target {
        shape: shapes::shape(&own, defaults, headers.made, made, format, max_payload_bytes).map(Arc::new),
        name,
        subjects,
        url,
        method: own.method.or_else(|| defaults.method.clone()).unwrap_or(http::Method::POST),
        headers: headers.fixed,
        pass_headers: own.pass_headers.or_else(|| defaults.pass_headers.clone()).unwrap_or_default(),
        auth,
        signing: signing.keys,
        message_signatures: signing.messages,
        tls: own.tls.or_else(|| defaults.tls.clone()),
        timeout: own.timeout.or(defaults.timeout).unwrap_or(limits::TIMEOUT_DEFAULT),
        concurrency: own
            .concurrency
            .or(defaults.concurrency)
            .unwrap_or(Concurrency::Fixed(limits::CONCURRENCY_DEFAULT)),
        rate: own.rate.or(defaults.rate),
        handshake: own
            .handshake
            .clone()
            .or_else(|| defaults.handshake.clone())
            .and_then(|asking| asking.handshake(context)),
        reply,
        retry: own.retry.over(&defaults.retry),
        outcomes: own.outcomes.or_else(|| defaults.outcomes.clone()).unwrap_or_default(),
        order,
        start: own.start.or(defaults.start).unwrap_or(Start::New),
        max_payload_bytes,
        batch,
    });
    if let Some(target) = target.as_ref().filter(|target| target.batch.is_some()) {
        batch::exclusions(target, path, errors);
    }
    (name, target)
}

/// Access tokens and AWS's signature are laid over the signed request, so that a renewed token needs no other signature.
fn signed_before_it_is_set(auth: &Auth, signing: &Signing, path: &KeyPath, errors: &mut Errors) {
    let auth = match auth {
        Auth::OAuth2(_) => "oauth2",
        Auth::SigV4(_) => "sigv4",
        Auth::None | Auth::Bearer(_) | Auth::Basic(_) | Auth::Header(..) => return,
    };
    if signing.messages.as_ref().is_some_and(|messages| messages.signs(&AUTHORIZATION)) {
        let path = path.key("signing").key("message_signatures").key("components");
        errors.add(&path, Problem::SignedTooEarly { auth });
    }
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
    let name = context.name;
    let own = [name.retry_subject("*"), name.ordered_subject("*"), name.dead_letter_subject("*")];
    let reaches = |own: &String| match (Pattern::new(own), context.source) {
        (Ok(own), SourceKind::JetStream) => own.overlaps(pattern),
        (Ok(own), SourceKind::Core) => own.contains(pattern),
        (Err(_), _) => false,
    };
    own.into_iter().find(reaches)
}

/// The subject of the registry that `pattern` reaches.
fn reaches_registry(pattern: &Pattern, context: &Context<'_>) -> Option<String> {
    let own = [context.name.registry_subject("*"), format!("$KV.{}.>", context.name.registry_bucket())];
    let reaches = |own: &String| Pattern::new(own).is_ok_and(|own| own.overlaps(pattern));
    own.into_iter().filter(|_| context.registry).find(reaches)
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
                } else if let Some(own) = reaches_registry(&pattern, context) {
                    errors.add(&path, Problem::Registry { found, own });
                }
                patterns.push(pattern);
            }
            Err(cause) => errors.add(&path, Problem::Subject { found, cause }),
        }
    }
    subject::reduce(&patterns)
}
