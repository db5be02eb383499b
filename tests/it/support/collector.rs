//! A collector of traces: a receiver that reads what came as OTLP, by the OpenTelemetry project's own definitions.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{Receiver, secs, until};

/// Where spans come to.
pub(crate) const TRACES: &str = "/v1/traces";

/// A span, and who sent it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) span: Span,
    resource: Vec<KeyValue>,
}

impl Seen {
    /// The value of an attribute of the span, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        value(&self.span.attributes, key)
    }

    /// The value of an attribute of who sent it, as text.
    pub(crate) fn sender(&self, key: &str) -> Option<String> {
        value(&self.resource, key)
    }

    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub(crate) fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is neither text nor number: {other:?}"),
    }
}

/// Every span that has come, in the order in which they began.
pub(crate) fn spans(collector: &Receiver) -> Vec<Seen> {
    let mut seen = Vec::new();
    for request in collector.at(TRACES) {
        let request = ExportTraceServiceRequest::decode(&request.body[..]).expect("OTLP");
        for resource in request.resource_spans {
            let sender = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.extend(spans.map(|span| Seen { span, resource: sender.clone() }));
        }
    }
    seen.sort_by_key(|seen| seen.span.start_time_unix_nano);
    seen
}

/// Waits for `n` spans, and returns all there are.
pub(crate) async fn wait_for_spans(collector: &Receiver, n: usize) -> Vec<Seen> {
    until(&format!("{n} spans"), secs(20), async || spans(collector).len() >= n).await;
    spans(collector)
}
