//! The spans of deliveries and attempts, and what they say. Where traces are off, or a trace is not recorded, nothing is
//! gathered. Never in a span: bodies, headers, and anything of a URL beyond host and port.

use std::{borrow::Cow, sync::Arc};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::context;
use crate::{
    disposition::Disposition,
    message::{Delivery, Origin},
    outcome::{End, Outcome},
    request::Request,
    target::Target,
};

/// What the spans of one target have in common.
#[derive(Debug)]
pub(super) struct Common {
    tracer: SdkTracer,
    target: Arc<str>,
    method: String,
    host: Arc<str>,
    port: i64,
    /// The name of its deliveries' spans.
    deliver: String,
}

impl Common {
    pub(super) fn new(tracer: SdkTracer, target: &Target) -> Self {
        let url = target.url.expose();
        Self {
            tracer,
            target: target.name.as_str().into(),
            method: target.method.to_string(),
            host: url.host_str().unwrap_or_default().into(),
            port: url.port_or_known_default().unwrap_or_default().into(),
            deliver: format!("deliver {}", target.name),
        }
    }
}

/// A delivery being worked on. Its span ends with the value.
#[derive(Debug)]
pub(super) struct Working {
    common: Arc<Common>,
    span: Span,
    /// What its attempts follow.
    context: Context,
}

/// An attempt under way. Its span ends with the value.
#[derive(Debug)]
pub(super) struct Attempting {
    span: Span,
}

impl Working {
    /// Begins to work on `delivery`, and notes in it where it belongs if this is the first time.
    pub(super) fn begin(common: &Arc<Common>, delivery: &mut Delivery) -> Self {
        let parent = context::parent(&delivery.message, delivery.trace);
        let name = common.deliver.clone();
        let mut span = common.tracer.build_with_context(builder(name, SpanKind::Consumer), &parent);
        delivery.trace = delivery.trace.or_else(|| context::trace_parent(span.span_context()));
        if span.is_recording() {
            span.set_attributes(about(common, delivery));
        }
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        Self { common: Arc::clone(common), span, context }
    }

    /// Begins the next attempt of `delivery`.
    pub(super) fn attempt(&self, delivery: &Delivery) -> Attempting {
        let common = &self.common;
        let builder = builder(common.method.clone(), SpanKind::Client);
        let mut span = common.tracer.build_with_context(builder, &self.context);
        if span.is_recording() {
            span.set_attributes([
                KeyValue::new("natshook.target", Arc::clone(&common.target)),
                KeyValue::new("natshook.attempt", i64::from(delivery.attempts().saturating_add(1))),
                KeyValue::new("http.request.method", common.method.clone()),
                KeyValue::new("server.address", Arc::clone(&common.host)),
                KeyValue::new("server.port", common.port),
            ]);
        }
        Attempting { span }
    }

    /// What follows for the delivery; `None` when it goes back to where it came from.
    pub(super) fn decided(&mut self, disposition: Option<Disposition>) {
        if !self.span.is_recording() {
            return;
        }
        let (word, error) = match disposition {
            None => ("handed_back", None),
            Some(Disposition::Ack) => ("ack", None),
            Some(Disposition::Skip) => ("skip", None),
            Some(Disposition::Retry { .. }) => ("retry", Some("attempt_failed")),
            Some(Disposition::DeadLetter(reason)) => ("dead_letter", Some(reason.as_str())),
        };
        self.span.set_attribute(KeyValue::new("natshook.disposition", word));
        if let Some(error) = error {
            self.span.set_attribute(KeyValue::new("error.type", error));
            self.span.set_status(Status::error(error));
        }
    }
}

impl Attempting {
    /// Makes the receiver of `request` follow this attempt.
    pub(super) fn carried_by(&self, mut request: Request) -> Request {
        context::write(self.span.span_context(), &mut request.headers);
        request
    }

    /// How the attempt ended.
    pub(super) fn ended(&mut self, end: &End, outcome: Outcome) {
        if !self.span.is_recording() {
            return;
        }
        if let Some(status) = end.status() {
            self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if outcome != Outcome::Delivered {
            // A status says enough about itself (semantic conventions for HTTP spans).
            let (error, description) = match end {
                End::Answered(answer) => (Cow::from(answer.status.to_string()), String::new()),
                End::Broken(fault) => (Cow::from(end.word()), fault.to_string()),
            };
            self.span.set_attribute(KeyValue::new("error.type", error));
            self.span.set_status(Status::error(description));
        }
    }
}

fn builder(name: String, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

fn about(common: &Common, delivery: &Delivery) -> impl Iterator<Item = KeyValue> {
    let message = &delivery.message;
    let place = match &message.origin {
        Origin::Stored { stream, sequence } => [
            Some(KeyValue::new("natshook.stream", Arc::clone(stream))),
            Some(KeyValue::new("natshook.sequence", i64::try_from(*sequence).unwrap_or(i64::MAX))),
        ],
        Origin::Passing { .. } => [None, None],
    };
    let bytes = i64::try_from(message.payload.len()).unwrap_or(i64::MAX);
    [
        KeyValue::new("messaging.system", "nats"),
        KeyValue::new("messaging.operation.name", "deliver"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.destination.name", message.subject.clone()),
        KeyValue::new("messaging.message.id", message.webhook_id()),
        KeyValue::new("messaging.message.body.size", bytes),
        KeyValue::new("natshook.target", Arc::clone(&common.target)),
    ]
    .into_iter()
    .chain(place.into_iter().flatten())
}
