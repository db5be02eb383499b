//! Values that are written as text and mean something else: durations, sizes, rates, start positions. How each
//! is written is known here and nowhere else; bounds are the business of `check`.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    field::{Field, Written},
    raw::ConcurrencyTable,
};
use crate::{config::SourceKind, target};

/// The text is not what it has to be; what is allowed stands in [`Written::ALLOWED`].
#[derive(Debug, thiserror::Error)]
#[error("not allowed")]
pub(super) struct NotAllowed;

/// What is written as a word, or as a table that says more.
pub(super) fn word_or_table<T, Word: DeserializeOwned, Table: DeserializeOwned>(
    written: Value,
    word: impl FnOnce(Word) -> T,
    table: impl FnOnce(Table) -> T,
) -> Result<T, NotAllowed> {
    let read = match written {
        text @ Value::String(_) => serde_json::from_value(text).ok().map(word),
        object @ Value::Object(_) => serde_json::from_value(object).ok().map(table),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    };
    read.ok_or(NotAllowed)
}

/// Text that an error may show.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline, description = "A text.")]
pub(super) struct Text(pub(super) String);

impl Written for Text {
    const ALLOWED: &'static str = "a text";
}

/// Text that may hold a secret: URLs, values of headers.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline, description = "A text.")]
pub(super) struct Private(pub(super) String);

impl Written for Private {
    const ALLOWED: &'static str = "a text";
    const SHOWN: bool = false;
}

/// A duration such as `30s`, `5m` or `1h 30m`.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, title = "duration", extend("examples" = ["500ms", "30s", "5m", "1h 30m"]))]
pub(super) struct Span(#[schemars(with = "String")] pub(super) Duration);

impl Written for Span {
    const ALLOWED: &'static str = "a duration such as \"500ms\", \"30s\", \"5m\" or \"1h 30m\"";
}

impl TryFrom<String> for Span {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_duration(&text).map(Self)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum NumberOrText {
    Number(u64),
    Text(String),
}

/// Bytes: a number, or text such as `512KiB` or `1MiB`.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "NumberOrText")]
#[schemars(inline, title = "bytes", extend("examples" = ["1MiB", "512KiB", 1_048_576]))]
pub(super) struct Size(#[schemars(with = "NumberOrText")] pub(super) u64);

impl Written for Size {
    const ALLOWED: &'static str = "bytes such as 1048576, \"512KiB\", \"1MiB\" or \"2GiB\"";
}

impl TryFrom<NumberOrText> for Size {
    type Error = NotAllowed;

    fn try_from(written: NumberOrText) -> Result<Self, NotAllowed> {
        let text = match written {
            NumberOrText::Number(bytes) => return Ok(Self(bytes)),
            NumberOrText::Text(text) => text,
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(NotAllowed),
        };
        let number: u64 = number.parse().map_err(|_| NotAllowed)?;
        number.checked_mul(factor).map(Self).ok_or(NotAllowed)
    }
}

/// The most requests in flight: a number, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(inline, !try_from, untagged, extend("examples" = [64, { "max": 64, "adaptive": true }]))]
pub(super) enum Concurrency {
    Number(u64),
    Table(ConcurrencyTable),
}

impl Written for Concurrency {
    const ALLOWED: &'static str = "a whole number, or a table such as { max = 64, adaptive = true }";
}

impl TryFrom<Value> for Concurrency {
    type Error = NotAllowed;

    fn try_from(written: Value) -> Result<Self, NotAllowed> {
        let read = match written {
            Value::Number(number) => number.as_u64().map(Self::Number),
            table @ Value::Object(_) => serde_json::from_value(table).ok().map(Self::Table),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
        };
        read.ok_or(NotAllowed)
    }
}

/// Requests in a second, minute or hour.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, title = "rate", extend("examples" = ["100/s", "30/m", "5/h"]))]
pub(super) struct Rate(#[schemars(with = "String")] pub(super) target::Rate);

impl Written for Rate {
    const ALLOWED: &'static str = "a rate such as \"100/s\", \"30/m\" or \"5/h\"";
}

impl TryFrom<String> for Rate {
    type Error = NotAllowed;

    fn try_from(text: String) -> Result<Self, NotAllowed> {
        let (requests, unit) = text.split_once('/').ok_or(NotAllowed)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(NotAllowed),
        };
        let requests: NonZeroU32 = requests.trim().parse().map_err(|_| NotAllowed)?;
        Ok(Self(target::Rate { requests, per: Duration::from_secs(seconds) }))
    }
}

/// A rate as it is written on the command line too: `100/s`, `30/m`, `5/h`.
pub(crate) fn rate(text: &str) -> Option<target::Rate> {
    Rate::try_from(text.to_owned()).ok().map(|rate| rate.0)
}

/// Where a new consumer begins.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "NumberOrText")]
#[schemars(inline, title = "start", extend("examples" = ["new", "all", "2026-01-31T08:00:00Z", 1200]))]
pub(super) struct Start(#[schemars(with = "NumberOrText")] pub(super) target::Start);

impl Written for Start {
    const ALLOWED: &'static str =
        "\"new\", \"all\", a time such as \"2026-01-31T08:00:00Z\", or a sequence of the stream from 1";
}

impl TryFrom<NumberOrText> for Start {
    type Error = NotAllowed;

    fn try_from(written: NumberOrText) -> Result<Self, NotAllowed> {
        let start = match written {
            NumberOrText::Number(0) => return Err(NotAllowed),
            NumberOrText::Number(sequence) => target::Start::Sequence(sequence),
            NumberOrText::Text(text) => match text.as_str() {
                "new" => target::Start::New,
                "all" => target::Start::All,
                time => target::Start::Time(rfc3339(time).ok_or(NotAllowed)?),
            },
        };
        Ok(Self(start))
    }
}

/// A time of RFC 3339 with `Z` or a numeric offset.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let zulu = |text: &str| humantime::parse_rfc3339(text).ok();
    if text.ends_with(['Z', 'z']) {
        return zulu(&text.to_ascii_uppercase());
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |text: &str, most: u64| text.parse().ok().filter(|n: &u64| *n <= most);
    let offset_by = Duration::from_secs(number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
    let time = zulu(&format!("{}Z", local.to_ascii_uppercase()))?;
    match offset.as_bytes().first()? {
        b'+' => time.checked_sub(offset_by),
        b'-' => time.checked_add(offset_by),
        _ => None,
    }
}

/// Where messages come from.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Source {
    /// A JetStream stream: nothing is lost.
    JetStream,
    /// Plain subscriptions, for brokers without JetStream.
    Core,
}

impl Written for Source {
    const ALLOWED: &'static str = "\"jetstream\" or \"core\"";
}

impl From<Source> for SourceKind {
    fn from(written: Source) -> Self {
        match written {
            Source::JetStream => Self::JetStream,
            Source::Core => Self::Core,
        }
    }
}

/// A schedule known by name.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum Preset {
    /// The schedule that Standard Webhooks recommends.
    StandardWebhooks,
}

impl Written for Preset {
    const ALLOWED: &'static str = "\"standard-webhooks\"";
}

/// A text, or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline, bound = "T: JsonSchema")]
#[serde(bound = "T: Written")]
pub(super) enum OneOrMore<T> {
    One(T),
    More(Vec<Field<T>>),
}

impl<T: Written> Written for OneOrMore<T> {
    const ALLOWED: &'static str = "a text or a list of texts";
    const SHOWN: bool = T::SHOWN;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn size(text: &str) -> Option<u64> {
        Size::try_from(NumberOrText::Text(text.into())).ok().map(|size| size.0)
    }

    #[test]
    fn sizes_take_decimal_and_binary_units() {
        assert_eq!(size("1MiB"), Some(1_048_576));
        assert_eq!(size("512 KiB"), Some(524_288));
        assert_eq!(size("10kb"), Some(10_000));
        assert_eq!(size("7"), Some(7));
        for bad in ["", "MiB", "1.5MiB", "-1", "1 parsec", "99999999999TiB"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rates_are_requests_in_a_unit_of_time() {
        let rate = Rate::try_from("30/m".to_owned()).unwrap().0;
        assert_eq!((rate.requests.get(), rate.per), (30, Duration::from_secs(60)));
        for bad in ["", "30", "0/s", "-1/s", "30/d", "1.5/s", "/s"] {
            assert!(Rate::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_take_an_offset() {
        let at = |text| rfc3339(text).map(|t| humantime::format_rfc3339(t).to_string());
        assert_eq!(at("2026-01-31T08:00:00Z"), Some("2026-01-31T08:00:00Z".into()));
        assert_eq!(at("2026-01-31T08:00:00+02:00"), Some("2026-01-31T06:00:00Z".into()));
        assert_eq!(at("2026-01-31t08:00:00-00:30"), Some("2026-01-31T08:30:00Z".into()));
        for bad in ["", "2026-01-31", "yesterday", "2026-01-31T08:00:00", "2026-01-31T08:00:00+99:00", "ééé"]
        {
            assert_eq!(at(bad), None, "{bad:?}");
        }
    }
}
