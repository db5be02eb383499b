//! From ended spans to the collector. The SDK's batch processor encodes and waits on a thread of its own, so that no
//! delivery does; the request itself runs on natshook's runtime. What the collector does not take in time is lost, and
//! nothing else: the number of spans that wait is bounded, and a delivery never waits for one.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanProcessor},
};
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use url::Url;

use super::{TraceError, trouble::Trouble};
use crate::{
    config::Otlp,
    sender::{PlainClient, dialled},
};

/// The most spans that wait for the collector or are on their way to it: some 8 MB.
const WAITING_MAX: usize = 4096;
/// How many spans go in one request.
const BATCH: usize = 512;
/// The longest a span waits for others to go along with.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// The longest that one request to the collector takes.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// What hands spans to the collector at `otlp`.
pub(super) fn processor(otlp: &Otlp) -> Result<Bounded, TraceError> {
    let tally = Arc::new(Tally::default());
    let collector = Collector::new(otlp, Arc::clone(&tally))?;
    let exporter = SpanExporter::builder()
        .with_http()
        // Said for the exporter's own sake: where requests go is the collector's business.
        .with_endpoint(shown(otlp.endpoint.expose()))
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_timeout(REQUEST_MAX)
        .with_retry_policy(RetryPolicy::recommended())
        .with_http_client(collector)
        .build()?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_MAX)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(BATCH_WAIT)
        .build();
    let watched = Watched { exporter, tally: Arc::clone(&tally) };
    let batches = BatchSpanProcessor::builder(watched).with_batch_config(config).build();
    Ok(Bounded { batches, tally })
}

/// `<base>/v1/traces`, keeping a query.
fn traces_url(base: &Url) -> Url {
    let mut url = base.clone();
    let path = format!("{}/v1/traces", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Without what may be secret.
fn shown(base: &Url) -> String {
    let url = traces_url(base);
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}:{}{}", url.scheme(), url.port_or_known_default().unwrap_or_default(), url.path())
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

/// Where spans go. Printed without its headers and query, which may hold secrets.
struct Collector {
    client: PlainClient,
    runtime: Handle,
    uri: Uri,
    headers: HeaderMap,
    tally: Arc<Tally>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl Collector {
    fn new(otlp: &Otlp, tally: Arc<Tally>) -> Result<Self, TraceError> {
        let url = traces_url(otlp.endpoint.expose());
        let uri = dialled(&url).ok_or(TraceError::Endpoint)?;
        let mut headers = otlp.headers.clone();
        let has_user = !url.username().is_empty() || url.password().is_some();
        if let (true, Some(value)) = (has_user, basic(&url)) {
            headers.entry(AUTHORIZATION).or_insert(value);
        }
        Ok(Self { client: PlainClient::new()?, runtime: Handle::current(), uri, headers, tally })
    }
}

impl Collector {
    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let client = self.client.clone();
        // Whoever waits here has no reactor.
        let sent = self.runtime.spawn(async move { client.send(request, REQUEST_MAX).await }).await?;
        Ok(sent.inspect_err(|fault| *lock(&self.tally.fault) = Some(fault.to_string()))?)
    }
}

// As the trait's macro would write it, which needs no crate more.
impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sending<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

/// What `Authorization: Basic` says for the user info of a URL.
fn basic(url: &Url) -> Option<HeaderValue> {
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let pair = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What becomes of spans, counted: the SDK does not tell.
#[derive(Debug, Default)]
struct Tally {
    waiting: AtomicUsize,
    trouble: Mutex<Trouble>,
    /// Why the last request had no answer; the exporter does not say.
    fault: Mutex<Option<String>>,
}

impl Tally {
    fn took(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if let Some(over) = lock(&self.trouble).fine(Instant::now()) {
            let lasted = humantime::format_duration(Duration::from_secs(over.lasted.as_secs()));
            tracing::info!(lost = over.lost, %lasted, "the collector takes spans again");
        }
    }

    fn failed(&self, spans: usize, error: &str) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let error = lock(&self.fault).take().unwrap_or_else(|| error.to_owned());
        self.lost(spans, &error);
    }

    fn lost(&self, spans: usize, error: &str) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        if lock(&self.trouble).lost(spans, Instant::now()) {
            tracing::warn!(error, "spans are lost: the collector does not take them");
        }
    }
}

/// The exporter, and what comes of it.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    tally: Arc<Tally>,
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => self.tally.took(spans),
            Err(error) => self.tally.failed(spans, &error.to_string()),
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The batch processor, never given more than it may hold; its own bound says nothing when it is reached.
#[derive(Debug)]
pub(super) struct Bounded {
    batches: BatchSpanProcessor,
    tally: Arc<Tally>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.tally.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            return self.batches.on_end(span);
        }
        self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        self.tally.lost(1, "more spans than it takes in time");
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let done = self.batches.shutdown_with_timeout(timeout);
        let waiting = u64::try_from(self.tally.waiting.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        let lost = lock(&self.tally.trouble).end().saturating_add(waiting);
        if lost > 0 {
            tracing::warn!(lost, "natshook ends and the collector has not taken all spans");
        }
        done
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
