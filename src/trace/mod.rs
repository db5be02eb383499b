//! Traces: a span for each time that a delivery is worked on and one for each of its attempts, sent to a collector by
//! OTLP. `spans` says what is in them, `context` reads and writes W3C trace context, `export` hands them over, `trouble`
//! says when that fails. This is the only room that knows OpenTelemetry. It decides nothing about a delivery, and where
//! traces are off it costs a check.

mod context;
mod export;
mod spans;
mod trouble;

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};

use crate::{
    config::{InstanceName, Otlp},
    disposition::Disposition,
    message::Delivery,
    outcome::{End, Outcome},
    request::Request,
    sender::HttpClientError,
    target::Target,
};
use spans::{Attempting, Common, Working};

/// How long the last spans may take when natshook ends.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Traces cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The address makes no request.
    #[error("telemetry.otlp_endpoint: the address cannot be dialled")]
    Endpoint,
    /// The client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] HttpClientError),
    /// A variable of the environment asks for what this build does not have.
    #[error("telemetry.otlp_endpoint: {0}; look at the OTEL_… variables of the environment")]
    Exporter(#[from] ExporterBuildError),
}

/// Makes traces, or does not. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Tracer {
    /// No traces.
    Off,
    /// Traces go to a collector.
    On(SdkTracerProvider),
}

impl Tracer {
    /// Traces for the instance `name`, to the collector at `otlp` if there is one. What is sent runs on the runtime that
    /// this is called on.
    ///
    /// # Errors
    /// There is one, and it cannot be sent to; whether it answers is not asked.
    pub fn start(otlp: Option<&Otlp>, name: &InstanceName) -> Result<Self, TraceError> {
        let Some(otlp) = otlp else { return Ok(Self::Off) };
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(otlp.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(export::processor(otlp)?)
            .with_sampler(sampler)
            .with_resource(resource(name))
            .build();
        Ok(Self::On(provider))
    }

    /// Traces of the deliveries to `target`.
    #[must_use]
    pub fn target(&self, target: &Target) -> TargetTracer {
        TargetTracer(match self {
            Self::Off => None,
            Self::On(provider) => Some(Arc::new(Common::new(provider.tracer("natshook"), target))),
        })
    }

    /// Sends the last spans; takes 3 s at most. Spans that end later are lost.
    pub async fn shutdown(self) {
        let Self::On(provider) = self else { return };
        // It blocks, and the request that it waits for runs here.
        let done = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_MAX));
        if let Ok(Err(error)) = done.await {
            tracing::debug!(%error, "traces ended");
        }
    }
}

/// Who sends the spans. What `OTEL_RESOURCE_ATTRIBUTES` says is kept.
fn resource(name: &InstanceName) -> Resource {
    let instance = format!("{:032x}", fastrand::u128(..));
    Resource::builder()
        .with_service_name("natshook")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
            KeyValue::new("natshook.name", name.as_str().to_owned()),
        ])
        .build()
}

/// Traces of the deliveries to one target, if any.
#[derive(Clone, Debug)]
pub struct TargetTracer(Option<Arc<Common>>);

impl TargetTracer {
    /// Begins the span of a delivery that is worked on now. From its first one on, `delivery` holds where it belongs.
    #[must_use]
    pub fn delivery(&self, delivery: &mut Delivery) -> DeliverySpan {
        DeliverySpan(self.0.as_ref().map(|common| Box::new(Working::begin(common, delivery))))
    }
}

/// The span of a delivery, if it has one. It ends with the value.
#[derive(Debug)]
pub struct DeliverySpan(Option<Box<Working>>);

impl DeliverySpan {
    /// Begins the span of the next attempt of `delivery`.
    #[must_use]
    pub fn attempt(&self, delivery: &Delivery) -> AttemptSpan {
        AttemptSpan(self.0.as_ref().map(|working| Box::new(working.attempt(delivery))))
    }

    /// Says what follows; `None` for a delivery that goes back to where it came from.
    pub fn decided(&mut self, disposition: Option<Disposition>) {
        if let Some(working) = &mut self.0 {
            working.decided(disposition);
        }
    }
}

/// The span of an attempt, if it has one. It ends with the value.
#[derive(Debug)]
pub struct AttemptSpan(Option<Box<Attempting>>);

impl AttemptSpan {
    /// Makes whoever receives `request` continue the trace; without one, what the message says passes unchanged.
    #[must_use]
    pub fn carried_by(&self, request: Request) -> Request {
        match &self.0 {
            None => request,
            Some(attempting) => attempting.carried_by(request),
        }
    }

    /// Says how it ended.
    pub fn ended(mut self, end: &End, outcome: Outcome) {
        if let Some(attempting) = &mut self.0 {
            attempting.ended(end, outcome);
        }
    }
}
