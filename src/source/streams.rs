//! Streams: which ones hold a target's subjects, the one that natshook makes for subjects that none holds, and
//! natshook's own two. Publishers need to know nothing of any of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use serde::Deserialize;

use super::broker::{Broker, BrokerError};
use crate::{
    config::{self, InstanceName, Storage},
    subject::{Pattern, disjoint},
};

/// The key in a stream's metadata by which natshook knows the streams that it made.
const MADE_BY: &str = "natshook";

/// How long natshook's own streams know the ids of what was published to them.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// What a target receives from one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStream {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The filters of the target's consumer on it; no two overlap.
    pub filters: Vec<Pattern>,
}

/// Which of natshook's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// Deliveries that wait for their next attempt.
    RetryQueue,
    /// Messages that natshook gave up on.
    DeadLetters,
}

/// One of natshook's own streams.
#[derive(Clone, Debug)]
pub struct OwnStream<'a> {
    /// Which.
    pub role: StreamRole,
    /// Whose.
    pub name: &'a InstanceName,
    /// Its limits.
    pub storage: &'a Storage,
}

/// The streams that hold any subject that `pattern` matches, natshook's own left out.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn covering_streams(
    broker: &Broker,
    name: &InstanceName,
    pattern: &Pattern,
) -> Result<Vec<String>, BrokerError> {
    #[derive(Deserialize)]
    struct Names {
        streams: Option<Vec<String>>,
    }
    let question = serde_json::json!({ "subject": pattern.as_str() }).to_string();
    match broker.ask::<Names>("STREAM.NAMES", question.into()).await? {
        Ok(names) => {
            let own = [name.retry_stream(), name.dead_letter_stream()];
            Ok(names.streams.unwrap_or_default().into_iter().filter(|s| !own.contains(s)).collect())
        }
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}

/// Finds the streams that hold `patterns`, and makes one for those that none holds where the config allows it.
///
/// # Errors
/// A subject is in no stream and none may be made, or the broker refuses.
pub async fn ensure_source_streams(
    broker: &Broker,
    name: &InstanceName,
    settings: &config::Stream,
    patterns: &[Pattern],
) -> Result<Vec<TargetStream>, BrokerError> {
    let mut found: BTreeMap<String, Vec<Pattern>> = BTreeMap::new();
    let mut missing = Vec::new();
    for pattern in patterns {
        let streams = covering_streams(broker, name, pattern).await?;
        if streams.is_empty() {
            missing.push(pattern.clone());
        }
        for stream in streams {
            found.entry(stream).or_default().push(pattern.clone());
        }
    }
    if !missing.is_empty() {
        extend_stream(broker, name, settings, &missing).await?;
        found.entry(settings.name.clone()).or_default().extend(missing);
    }
    let streams = found.into_iter();
    Ok(streams.map(|(stream, p)| TargetStream { stream: stream.into(), filters: disjoint(&p) }).collect())
}

/// Makes the stream of the config hold `patterns` too.
async fn extend_stream(
    broker: &Broker,
    name: &InstanceName,
    settings: &config::Stream,
    patterns: &[Pattern],
) -> Result<(), BrokerError> {
    let subjects = patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
    if !settings.create {
        return Err(BrokerError::Refused(format!(
            "no stream holds {subjects}; make one, or set stream.create = true"
        )));
    }
    match find(broker, &settings.name).await? {
        None => {
            create(broker, source_config(name, settings, patterns)).await?;
            tracing::info!(stream = settings.name, subjects, "stream made");
        }
        Some(info) if info.config.metadata.get(MADE_BY).map(String::as_str) == Some(name.as_str()) => {
            let held = info.config.subjects.iter().filter_map(|s| Pattern::new(s).ok());
            let all: Vec<_> = held.chain(patterns.iter().cloned()).collect();
            let subjects = disjoint(&all).iter().map(ToString::to_string).collect();
            update(broker, stream::Config { subjects, ..info.config }).await?;
            tracing::info!(stream = settings.name, "subjects added to the stream");
        }
        Some(_) => {
            return Err(BrokerError::Refused(format!(
                "stream {} exists, was not made by natshook, and does not hold {subjects}; add them to it, or give \
                 stream.name another name",
                settings.name
            )));
        }
    }
    Ok(())
}

fn source_config(name: &InstanceName, settings: &config::Stream, patterns: &[Pattern]) -> stream::Config {
    stream::Config {
        name: settings.name.clone(),
        description: Some("events for webhooks, made by natshook".to_owned()),
        subjects: disjoint(patterns).iter().map(ToString::to_string).collect(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        metadata: [(MADE_BY.to_owned(), name.as_str().to_owned())].into(),
        ..Default::default()
    }
}

/// Makes one of natshook's own streams, or brings its limits into line.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn ensure_own_stream(broker: &Broker, own: &OwnStream<'_>) -> Result<(), BrokerError> {
    let wanted = own.config();
    match find(broker, &wanted.name).await? {
        None => {
            tracing::info!(stream = wanted.name, "stream made");
            create(broker, wanted).await
        }
        Some(info) => {
            let has = &info.config;
            let same = has.max_age == wanted.max_age
                && has.max_bytes == wanted.max_bytes
                && has.num_replicas == wanted.num_replicas
                && has.subjects == wanted.subjects;
            if same {
                return Ok(());
            }
            let config = stream::Config {
                max_age: wanted.max_age,
                max_bytes: wanted.max_bytes,
                num_replicas: wanted.num_replicas,
                duplicate_window: wanted.duplicate_window,
                subjects: wanted.subjects,
                ..info.config
            };
            tracing::info!(stream = config.name, "stream updated");
            update(broker, config).await
        }
    }
}

impl OwnStream<'_> {
    /// Full streams refuse what is published, and natshook then keeps what it has: with the other policy they
    /// would drop the oldest without a word.
    fn config(&self) -> stream::Config {
        let (name, subject, retention, description) = match self.role {
            StreamRole::RetryQueue => (
                self.name.retry_stream(),
                self.name.retry_subject("*"),
                RetentionPolicy::WorkQueue,
                "natshook: deliveries that wait for their next attempt",
            ),
            StreamRole::DeadLetters => (
                self.name.dead_letter_stream(),
                self.name.dead_letter_subject("*"),
                RetentionPolicy::Limits,
                "natshook: messages that were given up, with the reason",
            ),
        };
        let max_age = self.storage.max_age.unwrap_or_default();
        let window = if max_age.is_zero() { DUPLICATE_WINDOW } else { DUPLICATE_WINDOW.min(max_age) };
        stream::Config {
            name,
            description: Some(description.to_owned()),
            subjects: vec![subject],
            retention,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_age,
            max_bytes: self.storage.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            num_replicas: self.storage.replicas,
            duplicate_window: window,
            allow_direct: true,
            metadata: [(MADE_BY.to_owned(), self.name.as_str().to_owned())].into(),
            ..Default::default()
        }
    }
}

/// A stream as it is, if it is there.
pub(super) async fn find(broker: &Broker, stream: &str) -> Result<Option<stream::Info>, BrokerError> {
    match broker.ask(&format!("STREAM.INFO.{stream}"), Bytes::new()).await? {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}

async fn create(broker: &Broker, config: stream::Config) -> Result<(), BrokerError> {
    let subject = format!("$JS.API.STREAM.CREATE.{}", config.name);
    let made = broker.jetstream.create_stream(config).await;
    made.map(|_: jetstream::stream::Stream| ()).map_err(|error| broker.explain(&subject, &error))
}

async fn update(broker: &Broker, config: stream::Config) -> Result<(), BrokerError> {
    let subject = format!("$JS.API.STREAM.UPDATE.{}", config.name);
    broker.jetstream.update_stream(config).await.map(|_| ()).map_err(|error| broker.explain(&subject, &error))
}
