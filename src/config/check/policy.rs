//! What `[defaults]` and a target can both say: each key singly, and what holds when neither says it.

use std::{num::NonZeroUsize, time::Duration};

use http::{HeaderMap, HeaderName, Method};

use super::{
    bounds::{bytes, duration, within},
    http as parts,
    retry::{self, Retry},
};
use crate::{
    config::{
        SourceKind,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        raw, value,
    },
    outcome::Overrides,
    signature::SigningKeys,
    target::{Auth, Concurrency, Rate, Start},
};

pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
pub(super) const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;

/// Below it even a receiver on the same machine can fail for no other reason.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// A receiver that needs longer should answer first and work afterwards.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Each request in flight holds a connection and its message.
const CONCURRENCY_MAX: u64 = 10_000;
/// The most that a nats-server can be told to accept in one message.
const PAYLOAD_MAX: u64 = 64 << 20;
/// What can be judged otherwise: a 2xx is a success whatever else is said.
const STATUSES: std::ops::RangeInclusive<u64> = 300..=599;

/// What one table says; `None` is inherited.
#[derive(Default)]
pub(super) struct Policy {
    pub(super) method: Option<Method>,
    pub(super) headers: Option<HeaderMap>,
    pub(super) pass_headers: Option<Vec<HeaderName>>,
    pub(super) auth: Option<Auth>,
    pub(super) signing: Option<SigningKeys>,
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: Option<Concurrency>,
    pub(super) rate: Option<Rate>,
    pub(super) retry: Retry,
    pub(super) outcomes: Option<Overrides>,
    pub(super) start: Option<Start>,
    pub(super) max_payload_bytes: Option<usize>,
}

pub(super) fn check(raw: raw::Policy, source: SourceKind, path: &KeyPath, errors: &mut Errors) -> Policy {
    if source == SourceKind::Core && !raw.start.is_absent() {
        errors.add(&path.key("start"), Problem::StartInCore);
    }
    let payload = bytes(raw.max_payload_bytes, 1..=PAYLOAD_MAX, &path.key("max_payload_bytes"), errors);
    Policy {
        method: parts::method(raw.method, &path.key("method"), errors),
        headers: parts::headers(raw.headers, &path.key("headers"), errors),
        pass_headers: parts::pass_headers(raw.pass_headers, &path.key("pass_headers"), errors),
        auth: parts::auth(raw.auth, &path.key("auth"), errors),
        signing: parts::signing(raw.signing, &path.key("signing"), errors),
        timeout: duration(raw.timeout, TIMEOUT_MIN..=TIMEOUT_MAX, &path.key("timeout"), errors),
        concurrency: concurrency(raw.concurrency, &path.key("concurrency"), errors),
        rate: raw.rate.take(&path.key("rate"), errors).map(|rate| rate.0),
        retry: retry::check(raw.retry, &path.key("retry"), errors),
        outcomes: outcomes(raw.outcomes, &path.key("outcomes"), errors),
        start: raw.start.take(&path.key("start"), errors).map(|start| start.0),
        max_payload_bytes: payload.and_then(|n| usize::try_from(n).ok()),
    }
}

fn concurrency(raw: Field<value::Concurrency>, path: &KeyPath, errors: &mut Errors) -> Option<Concurrency> {
    let in_range = |found, path: &KeyPath, errors: &mut Errors| {
        let found = within(found, 1..=CONCURRENCY_MAX, path, errors)?;
        NonZeroUsize::new(usize::try_from(found).ok()?)
    };
    match raw.take(path, errors)? {
        value::Concurrency::Number(found) => in_range(found, path, errors).map(Concurrency::Fixed),
        value::Concurrency::Table(table) => {
            let path_of_max = path.key("max");
            let max = match table.max.take(&path_of_max, errors) {
                Some(found) => in_range(found, &path_of_max, errors)?,
                None => DEFAULT_CONCURRENCY,
            };
            let adaptive = table.adaptive.take(&path.key("adaptive"), errors).unwrap_or(false);
            Some(if adaptive { Concurrency::Adaptive { max } } else { Concurrency::Fixed(max) })
        }
    }
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
        let status = field.require(&path, errors).and_then(|found| within(found, STATUSES, &path, errors));
        statuses.extend(status.and_then(|status| u16::try_from(status).ok()));
    }
    statuses
}
