//! A service that anybody on the account can find and ask: the `micro` protocol of NATS (ADR-32), as async-nats speaks it.
//! What is asked and answered is the business of `connector`.

use std::{collections::HashMap, fmt, sync::Arc};

use async_nats::{
    HeaderMap,
    service::{self, NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, ServiceExt},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::SelectAll};
use tokio::time::timeout;

use super::broker::{Broker, BrokerError, REQUEST_TIMEOUT};

/// The most characters of an error in a header; the body has all of it.
const ERROR_CHARS_MAX: usize = 200;

/// The queue group of all replicas: one of them gets a request.
const GROUP: &str = "natshook";

/// What can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The last token of its subject.
    pub verb: &'static str,
    /// What it does, for people.
    pub about: &'static str,
}

/// A service that is being offered, until it is dropped.
pub struct Service {
    service: Option<service::Service>,
    requests: SelectAll<futures_util::stream::BoxStream<'static, Request>>,
}

/// A request that wants an answer.
#[derive(Debug)]
pub struct Request {
    /// The last token of its subject.
    pub verb: &'static str,
    /// What was asked.
    pub payload: Bytes,
    request: service::Request,
}

/// Why a request was not done, as the `micro` protocol tells it.
#[derive(Clone, Debug)]
pub struct ServiceError {
    /// As in HTTP.
    pub code: u16,
    /// In words.
    pub error: String,
    /// All that is to be said.
    pub body: Bytes,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Its task would answer for ever. Nothing in this waits.
        if let Some(service) = self.service.take() {
            let _ = service.stop().now_or_never();
        }
    }
}

impl Service {
    /// Offers `endpoints` under `<group>.<verb>`, as the service `name`.
    ///
    /// # Errors
    /// The client does not take it.
    pub async fn offer(
        broker: &Arc<Broker>,
        name: &str,
        group: &str,
        endpoints: &[Endpoint],
    ) -> Result<Self, BrokerError> {
        match timeout(REQUEST_TIMEOUT, Self::start(broker, name, group, endpoints)).await {
            Ok(started) => started.map_err(|error| BrokerError::Refused(error.to_string())),
            Err(_) => Err(BrokerError::TimedOut),
        }
    }

    async fn start(
        broker: &Arc<Broker>,
        name: &str,
        group: &str,
        endpoints: &[Endpoint],
    ) -> Result<Self, async_nats::Error> {
        let builder = broker.client.service_builder().description("registers webhooks").queue_group(GROUP);
        let service = builder.start(name, env!("CARGO_PKG_VERSION")).await?;
        let group = service.group(group);
        let mut offered = Self { service: Some(service), requests: SelectAll::new() };
        for Endpoint { verb, about } in endpoints.iter().copied() {
            let about = HashMap::from([("description".to_owned(), about.to_owned())]);
            let builder = group.endpoint_builder().name(format!("targets-{verb}")).metadata(about);
            let requests = builder.add(verb).await?.map(move |request| Request {
                verb,
                payload: request.message.payload.clone(),
                request,
            });
            offered.requests.push(requests.boxed());
        }
        Ok(offered)
    }

    /// The next request; never, when the connection was closed for good.
    pub async fn next(&mut self) -> Request {
        match self.requests.next().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

impl Request {
    /// Answers. An answer that gets lost is asked for again by whoever misses it.
    pub async fn answer(self, answer: Result<Bytes, ServiceError>) {
        // With an error the client library sends an empty body, and the body is what says everything.
        let (body, headers) = match answer {
            Ok(body) => (body, HeaderMap::new()),
            Err(ServiceError { code, error, body }) => {
                let mut headers = HeaderMap::new();
                headers.insert(NATS_SERVICE_ERROR, one_line(&error).as_str());
                headers.insert(NATS_SERVICE_ERROR_CODE, code.to_string().as_str());
                (body, headers)
            }
        };
        let answered = timeout(REQUEST_TIMEOUT, self.request.respond_with_headers(Ok(body), headers)).await;
        if !matches!(answered, Ok(Ok(()))) {
            tracing::debug!(verb = self.verb, "an answer was not sent");
        }
    }
}

/// What a header can hold.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(ERROR_CHARS_MAX).collect()
}
