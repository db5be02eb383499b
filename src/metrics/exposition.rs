//! Metrics as text, in the two formats that Prometheus reads, and which of them a scraper gets.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel, EncodeLabelSet, EncodeMetric,
        LabelSetEncoder, MetricEncoder, NoLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{MetricType, histogram::Histogram},
    registry::Registry,
};

use super::{
    State,
    families::{FAMILIES, Family, Kind},
};

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, version 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0, for who asks for it.
    OpenMetrics,
}

impl Format {
    /// The format for a request whose `Accept` header is this (RFC 9110, 12.5.1): OpenMetrics where it is named and
    /// nothing else that natshook has is wanted more.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let mut open_metrics = 0;
        let mut prometheus = 0;
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        for range in accept.split(',').filter_map(MediaRange::read) {
            match range.media_type {
                "application/openmetrics-text" if range.version.is_none_or(|version| version == "1.0.0") => {
                    open_metrics = open_metrics.max(range.quality);
                }
                "text/plain" if range.version.is_none_or(|version| version == "0.0.4") => {
                    prometheus = prometheus.max(range.quality);
                }
                _ => {}
            }
        }
        if open_metrics > 0 && open_metrics >= prometheus { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One element of an `Accept` header.
struct MediaRange<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> MediaRange<'a> {
    /// `None` when it cannot be read.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { media_type: parts.next()?, version: None, quality: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim_end() {
                "version" => range.version = Some(value.trim().trim_matches('"')),
                "q" => range.quality = quality(value.trim())?,
                _ => {}
            }
        }
        Some(range)
    }
}

/// A quality value (RFC 9110, 12.4.2) in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok().filter(|_| digits)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

pub(super) fn encode(state: &Arc<State>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { state: Arc::clone(state), format }));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    if format == Format::OpenMetrics {
        encode_eof(&mut text)?;
    }
    Ok(text)
}

/// All families, as one collector: rows are written from the counts as they stand, so nothing has to be registered
/// for a target, or found again when it leaves.
#[derive(Debug)]
struct Page {
    state: Arc<State>,
    format: Format,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &FAMILIES {
            let name = self.described_name(family);
            let encoder = encoder.encode_descriptor(name, family.help, None, metric_type(family.kind))?;
            family.rows(&self.state, &mut Rows { encoder, family, format: self.format })?;
        }
        Ok(())
    }
}

impl Page {
    /// OpenMetrics describes a counter without the suffix that its rows have.
    fn described_name(&self, family: &Family) -> &'static str {
        match self.format {
            Format::OpenMetrics => family.name.strip_suffix("_total").unwrap_or(family.name),
            Format::Prometheus => family.name,
        }
    }
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    }
}

/// Takes the rows of one family.
pub(super) struct Rows<'a> {
    encoder: MetricEncoder<'a>,
    family: &'a Family,
    format: Format,
}

impl Rows<'_> {
    /// A row of a counter or a gauge; `values` are those of the family's labels.
    pub(super) fn row<N>(&mut self, values: &[&str], number: N) -> fmt::Result
    where
        N: EncodeCounterValue + EncodeGaugeValue,
    {
        // The encoder gives a counter's row the suffix; in Prometheus's own format the described name has it already.
        let suffixed = self.format == Format::OpenMetrics && self.family.kind == Kind::Counter;
        let write = |encoder: &mut MetricEncoder<'_>| match suffixed {
            true => encoder.encode_counter::<NoLabelSet, N, f64>(&number, None),
            false => encoder.encode_gauge(&number),
        };
        let labels = self.labels(values);
        if values.is_empty() {
            write(&mut self.encoder)
        } else {
            write(&mut self.encoder.encode_family(&labels)?)
        }
    }

    /// The rows of a histogram.
    pub(super) fn histogram(&mut self, values: &[&str], histogram: &Histogram) -> fmt::Result {
        let labels = self.labels(values);
        histogram.encode(self.encoder.encode_family(&labels)?)
    }

    fn labels<'a>(&self, values: &'a [&'a str]) -> Labels<'a> {
        debug_assert_eq!(self.family.labels.len(), values.len(), "{}", self.family.name);
        Labels { names: self.family.labels, values }
    }
}

struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [&'a str],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.values) {
            (*name, *value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            // Prometheus 2.42 and 3.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,\
             */*;q=0.1",
        ] {
            assert_eq!(Format::accepted(Some(accept)), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_what_everything_reads() {
        assert_eq!(Format::accepted(None), Format::Prometheus);
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=much",
            ";;;,,,=;q",
        ] {
            assert_eq!(Format::accepted(Some(accept)), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn a_quality_is_a_number_from_0_to_1_with_three_digits() {
        for (text, thousandths) in
            [("1", 1000), ("1.000", 1000), ("0", 0), ("0.5", 500), ("0.075", 75), ("0.", 0)]
        {
            assert_eq!(quality(text), Some(thousandths), "{text}");
        }
        for text in ["", "1.001", "2", "-1", "0.5555", ".5", "0.+5", "0.é"] {
            assert_eq!(quality(text), None, "{text}");
        }
    }
}
