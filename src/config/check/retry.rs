//! The `retry` table: a schedule of one of three kinds, and what surrounds it.

use std::{num::NonZeroU32, time::Duration};

use super::bounds::{count, duration, share};
use crate::{
    backoff::{Jitter, RetryPolicy, Schedule},
    config::{
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
        value::{Preset, Span},
    },
};

/// What one `retry` table says; the rest is inherited.
#[derive(Clone, Debug, Default)]
pub(super) struct Retry {
    schedule: Option<Written>,
    jitter: Option<Jitter>,
    max_age: Option<Duration>,
    overload_wait: Option<Duration>,
}

/// A schedule, and the `max_age` that it brings along.
#[derive(Clone, Debug)]
struct Written {
    schedule: Schedule,
    max_age: Option<Duration>,
}

impl Retry {
    /// The policy of a target that says `self`, where `defaults` holds for what it does not say. A schedule is
    /// replaced as a whole; the rest singly.
    pub(super) fn over(self, defaults: &Self) -> RetryPolicy {
        let max_age = |retry: &Self| retry.max_age.or(retry.schedule.as_ref().and_then(|s| s.max_age));
        let max_age = max_age(&self).or(max_age(defaults)).unwrap_or(limits::RETRY_AGE_DEFAULT);
        let usual = delays(&limits::DELAYS_DEFAULT);
        let written = self.schedule.or_else(|| defaults.schedule.clone());
        let schedule = written.map_or_else(|| usual.clone(), |written| written.schedule);
        // Under a schedule of seconds nobody expects a minute's wait that nobody wrote.
        let overload_default = if schedule == usual { limits::OVERLOAD_WAIT_DEFAULT } else { Duration::ZERO };
        RetryPolicy {
            schedule,
            jitter: self.jitter.or(defaults.jitter).unwrap_or(Jitter::DEFAULT),
            max_age,
            overload_wait: self.overload_wait.or(defaults.overload_wait).unwrap_or(overload_default),
        }
    }
}

fn delays(seconds: &[u64]) -> Schedule {
    Schedule::Delays(seconds.iter().copied().map(Duration::from_secs).collect())
}

pub(super) fn check(raw: Section<raw::Retry>, path: &KeyPath, errors: &mut Errors) -> Retry {
    let mut raw = raw.open(path, errors);
    let jitter = share(std::mem::take(&mut raw.jitter), limits::SHARE, &path.key("jitter"), errors);
    let max_age = duration(std::mem::take(&mut raw.max_age), limits::RETRY_AGE, &path.key("max_age"), errors);
    let overload_wait = std::mem::take(&mut raw.overload_wait);
    let overload_wait = duration(overload_wait, limits::OVERLOAD_WAIT, &path.key("overload_wait"), errors);
    Retry {
        schedule: schedule(raw, path, errors),
        jitter: jitter.and_then(|share| Jitter::new(share).ok()),
        max_age,
        overload_wait,
    }
}

fn schedule(raw: raw::Retry, path: &KeyPath, errors: &mut Errors) -> Option<Written> {
    let grows = !(raw.initial.is_absent()
        && raw.factor.is_absent()
        && raw.max.is_absent()
        && raw.attempts.is_absent());
    let kinds = [
        ("delays", !raw.delays.is_absent()),
        ("initial, factor, max, attempts", grows),
        ("preset", !raw.preset.is_absent()),
    ];
    let found: Vec<&'static str> =
        kinds.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind).collect();
    if found.len() > 1 {
        errors.add(path, Problem::Exclusive { found });
    }
    let preset = raw.preset.take(&path.key("preset"), errors).map(|Preset::StandardWebhooks| Written {
        schedule: delays(&limits::STANDARD_WEBHOOKS),
        max_age: Some(limits::STANDARD_WEBHOOKS_AGE),
    });
    let listed = listed(raw.delays, &path.key("delays"), errors);
    let growing =
        if grows { exponential(raw.initial, raw.factor, raw.max, raw.attempts, path, errors) } else { None };
    let own = listed.or(growing).map(|schedule| Written { schedule, max_age: None });
    own.or(preset)
}

fn listed(raw: Field<Vec<Field<Span>>>, path: &KeyPath, errors: &mut Errors) -> Option<Schedule> {
    let list = raw.take(path, errors)?;
    if list.len() > limits::DELAYS_MAX {
        errors.add(path, Problem::TooMany { found: list.len(), most: limits::DELAYS_MAX });
    }
    let entries = list.into_iter().enumerate();
    let delays =
        entries.filter_map(|(index, field)| duration(field, limits::WAIT, &path.index(index), errors));
    Some(Schedule::Delays(delays.collect()))
}

fn exponential(
    initial: Field<Span>,
    factor: Field<f64>,
    max: Field<Span>,
    attempts: Field<u64>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Schedule> {
    let needed =
        [("initial", initial.is_absent()), ("max", max.is_absent()), ("attempts", attempts.is_absent())];
    for (key, absent) in needed {
        if absent {
            let allowed =
                if key == "attempts" { "a whole number" } else { "a duration such as \"1s\" or \"1h\"" };
            errors.add(&path.key(key), Problem::Missing { allowed });
        }
    }
    let initial = duration(initial, limits::GROWING_WAIT, &path.key("initial"), errors);
    let factor = share(factor, limits::FACTOR, &path.key("factor"), errors).unwrap_or(limits::FACTOR_DEFAULT);
    let max = duration(max, limits::GROWING_WAIT, &path.key("max"), errors);
    let attempts = count(attempts, limits::ATTEMPTS, &path.key("attempts"), errors);
    let (initial, max) = (initial?, max?);
    if initial > max {
        errors.add(&path.key("initial"), Problem::InitialOverMax { initial, max });
    }
    let attempts = NonZeroU32::new(u32::try_from(attempts?).ok()?)?;
    Some(Schedule::Exponential { initial, factor, max, attempts })
}
