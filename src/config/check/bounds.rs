//! Values with a least and a most. A value outside is an error and counts as absent.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{
    error::{Errors, KeyPath, Problem},
    field::Field,
    value::{Size, Span},
};

pub(super) fn duration(
    raw: Field<Span>,
    allowed: RangeInclusive<Duration>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Duration> {
    let found = raw.take(path, errors)?.0;
    if allowed.contains(&found) {
        return Some(found);
    }
    errors.add(path, Problem::DurationRange { found, least: *allowed.start(), most: *allowed.end() });
    None
}

pub(super) fn count(
    raw: Field<u64>,
    allowed: RangeInclusive<u64>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<u64> {
    let found = raw.take(path, errors)?;
    within(found, allowed, path, errors)
}

pub(super) fn bytes(
    raw: Field<Size>,
    allowed: RangeInclusive<u64>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<u64> {
    let found = raw.take(path, errors)?.0;
    within(found, allowed, path, errors)
}

pub(super) fn within(
    found: u64,
    allowed: RangeInclusive<u64>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<u64> {
    if allowed.contains(&found) {
        return Some(found);
    }
    errors.add(path, Problem::NumberRange { found, least: *allowed.start(), most: *allowed.end() });
    None
}

pub(super) fn share(
    raw: Field<f64>,
    allowed: RangeInclusive<f64>,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<f64> {
    let found = raw.take(path, errors)?;
    if allowed.contains(&found) {
        return Some(found);
    }
    errors.add(path, Problem::ShareRange { found, least: *allowed.start(), most: *allowed.end() });
    None
}
