//! What `[defaults]` and a target can both say: each key singly, and what holds when neither says it.

use std::{num::NonZeroUsize, time::Duration};

use http::{HeaderName, Method};

use super::{
    answers::{self, Asking},
    auth, batch,
    bounds::{bytes, duration, within},
    format::{self, Format},
    http as parts,
    retry::{self, Retry},
    shape::{self as shapes, Headers},
    signing::{self, Signing},
    target::Context,
    tls,
};
use crate::{
    batch::Batching,
    config::{
        SourceKind,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw, value, words,
    },
    order::Order,
    outcome::Overrides,
    reply::Reply,
    shape::{Filter, OnFilterError, Transform},
    target::{Auth, Concurrency, Rate, Start},
    tls::Tls,
};

/// What one table says; `None` is inherited.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Policy {
    pub(super) method: Option<Method>,
    pub(super) headers: Option<Headers>,
    pub(super) pass_headers: Option<Vec<HeaderName>>,
    pub(super) auth: Option<Auth>,
    pub(super) signing: Option<Signing>,
    pub(super) tls: Option<Tls>,
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: Option<Concurrency>,
    pub(super) rate: Option<Rate>,
    pub(super) format: Format,
    pub(super) handshake: Option<Asking>,
    pub(super) reply: Option<Reply>,
    pub(super) retry: Retry,
    pub(super) outcomes: Option<Overrides>,
    /// `Some(None)` where it says that there is none.
    pub(super) order: Option<Option<Order>>,
    pub(super) start: Option<Start>,
    pub(super) max_payload_bytes: Option<usize>,
    pub(super) filter: Option<Filter>,
    pub(super) on_filter_error: Option<OnFilterError>,
    pub(super) transform: Option<Transform>,
    pub(super) batch: Option<Batching>,
}

pub(super) fn check(raw: raw::Policy, context: &Context<'_>, path: &KeyPath, errors: &mut Errors) -> Policy {
    if context.source == SourceKind::Core && !raw.start.is_absent() {
        errors.add(&path.key("start"), Problem::StartInCore);
    }
    let order = order(raw.order, &path.key("order"), errors);
    if context.source == SourceKind::Core && matches!(order, Some(Some(_))) {
        errors.add(&path.key("order"), Problem::OrderInCore);
    }
    let payload = bytes(raw.max_payload_bytes, limits::PAYLOAD, &path.key("max_payload_bytes"), errors);
    Policy {
        method: parts::method(raw.method, &path.key("method"), errors),
        headers: shapes::headers(raw.headers, &path.key("headers"), errors),
        pass_headers: parts::pass_headers(raw.pass_headers, &path.key("pass_headers"), errors),
        auth: auth::check(raw.auth, context.guard, &path.key("auth"), errors),
        signing: signing::check(raw.signing, &path.key("signing"), errors),
        tls: tls::check(raw.tls, &path.key("tls"), errors),
        timeout: duration(raw.timeout, limits::TIMEOUT, &path.key("timeout"), errors),
        concurrency: concurrency(raw.concurrency, &path.key("concurrency"), errors),
        rate: raw.rate.take(&path.key("rate"), errors).map(|rate| rate.0),
        format: format::check(raw.format, raw.cloudevents, path, errors),
        handshake: answers::handshake(raw.handshake, &path.key("handshake"), errors),
        reply: answers::reply(raw.reply, context.source, &path.key("reply"), errors),
        retry: retry::check(raw.retry, &path.key("retry"), errors),
        outcomes: outcomes(raw.outcomes, &path.key("outcomes"), errors),
        order,
        start: raw.start.take(&path.key("start"), errors).map(|start| start.0),
        max_payload_bytes: payload.and_then(|n| usize::try_from(n).ok()),
        filter: shapes::filter(raw.filter, &path.key("filter"), errors),
        on_filter_error: raw.on_filter_error.take(&path.key("on_filter_error"), errors).map(Into::into),
        transform: shapes::transform(raw.transform, &path.key("transform"), errors),
        batch: batch::check(raw.batch, &path.key("batch"), errors),
    }
}

fn concurrency(raw: Field<value::Concurrency>, path: &KeyPath, errors: &mut Errors) -> Option<Concurrency> {
    let in_range = |found, path: &KeyPath, errors: &mut Errors| {
        let found = within(found, limits::CONCURRENCY, path, errors)?;
        NonZeroUsize::new(usize::try_from(found).ok()?)
    };
    match raw.take(path, errors)? {
        value::Concurrency::Number(found) => in_range(found, path, errors).map(Concurrency::Fixed),
        value::Concurrency::Table(table) => {
            let path_of_max = path.key("max");
            let max = match table.max.take(&path_of_max, errors) {
                Some(found) => in_range(found, &path_of_max, errors)?,
                None => limits::CONCURRENCY_DEFAULT,
            };
            let adaptive = table.adaptive.take(&path.key("adaptive"), errors).unwrap_or(false);
            Some(if adaptive { Concurrency::Adaptive { max } } else { Concurrency::Fixed(max) })
        }
    }
}

/// `Some(None)` for no order.
fn order(raw: Field<words::Order>, path: &KeyPath, errors: &mut Errors) -> Option<Option<Order>> {
    let table = match raw.take(path, errors)? {
        words::Order::Word(words::OrderWord::None) => return Some(None),
        words::Order::Word(words::OrderWord::Target) => return Some(Some(Order::Target)),
        words::Order::Word(words::OrderWord::Subject) => return Some(Some(Order::Subject)),
        words::Order::Table(table) => table,
    };
    match (table.token.is_absent(), table.header.is_absent()) {
        (true, true) => errors.add(path, Problem::NoneOf { allowed: &["token", "header"] }),
        (false, false) => errors.add(path, Problem::Exclusive { found: vec!["token", "header"] }),
        (false, true) => {
            let path = path.key("token");
            let token = within(table.token.take(&path, errors)?, limits::ORDER_TOKEN, &path, errors)?;
            return Some(Some(Order::Token(NonZeroUsize::new(usize::try_from(token).ok()?)?)));
        }
        (true, false) => {
            let path = path.key("header");
            let name = table.header.take(&path, errors)?.0;
            return parts::legal_header_name(&name, &path, errors).map(|name| Some(Order::Header(name)));
        }
    }
    None
}

fn outcomes(raw: Section<raw::Outcomes>, path: &KeyPath, errors: &mut Errors) -> Option<Overrides> {
    let raw = raw.take(path, errors)?;
    let transient = statuses(raw.transient, &path.key("transient"), errors);
    let permanent = statuses(raw.permanent, &path.key("permanent"), errors);
    for status in transient.iter().filter(|status| permanent.contains(status)) {
        errors.add(path, Problem::BothOutcomes { status: *status });
    }
    Some(Overrides { transient, permanent })
}

fn statuses(raw: Field<Vec<Field<u64>>>, path: &KeyPath, errors: &mut Errors) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (index, field) in raw.take(path, errors).unwrap_or_default().into_iter().enumerate() {
        let path = path.index(index);
        let status =
            field.require(&path, errors).and_then(|found| within(found, limits::STATUSES, &path, errors));
        statuses.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    statuses
}
