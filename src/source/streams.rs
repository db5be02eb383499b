//! Source streams: which ones hold a target's subjects, and the one that natshook makes for subjects that none
//! holds. Publishers need to know nothing of any of them.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::jetstream::{
    self, ErrorCode,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use serde::Deserialize;

use super::broker::{Broker, BrokerError};
use crate::{
    config::{self, InstanceName},
    subject::{Pattern, disjoint, overlapping_pair, reduce},
    target::Target,
};

/// The key in a stream's metadata by which natshook knows the streams that it made.
pub(super) const MADE_BY: &str = "natshook";

/// What a target receives from one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStream {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The filters of the target's consumer on it; no two overlap.
    pub filters: Vec<Pattern>,
    /// Where natshook has just made or extended the stream: the first sequence that may hold something new. What is
    /// stored between that moment and the making of a consumer is new too.
    pub extended_at: Option<u64>,
}

/// Finds the streams that hold `patterns`, and makes one for what none holds where the config allows it.
///
/// # Errors
/// A subject is in no stream and none can be made, or the broker refuses.
pub async fn ensure_source_streams(
    broker: &Broker,
    name: &InstanceName,
    settings: &config::Stream,
    patterns: &[Pattern],
) -> Result<Vec<TargetStream>, BrokerError> {
    let found = search(broker, name, patterns).await?;
    if found.missing.is_empty() {
        return Ok(found.streams());
    }
    match extend_stream(broker, name, settings, &found.missing).await {
        Ok(first_new) => {
            let mut streams = search(broker, name, patterns).await?.streams();
            for stream in streams.iter_mut().filter(|stream| *stream.stream == *settings.name) {
                stream.extended_at = Some(first_new);
            }
            Ok(streams)
        }
        Err(error) if found.touches_all_missing() => {
            tracing::error!(
                %error, subjects = joined(&found.missing),
                "no stream holds all of these subjects; messages that none stores cannot be delivered"
            );
            Ok(found.streams())
        }
        Err(error) => Err(error),
    }
}

/// Which streams there are for a set of patterns.
#[derive(Debug, Default)]
struct Found {
    /// Streams that hold some subject of the patterns, with those patterns.
    holders: BTreeMap<String, Vec<Pattern>>,
    /// Patterns of which no single stream holds every subject.
    missing: Vec<Pattern>,
}

impl Found {
    fn streams(self) -> Vec<TargetStream> {
        let holders = self.holders.into_iter();
        holders
            .map(|(stream, patterns)| TargetStream {
                stream: stream.into(),
                filters: disjoint(&patterns),
                extended_at: None,
            })
            .collect()
    }

    fn touches_all_missing(&self) -> bool {
        self.missing.iter().all(|missing| self.holders.values().flatten().any(|pattern| pattern == missing))
    }
}

async fn search(broker: &Broker, name: &InstanceName, patterns: &[Pattern]) -> Result<Found, BrokerError> {
    let mut subjects: BTreeMap<String, Vec<Pattern>> = BTreeMap::new();
    let mut found = Found::default();
    for pattern in patterns {
        let mut is_held = false;
        for stream in overlapping_streams(broker, name, pattern).await? {
            if !subjects.contains_key(&stream) {
                let info = find(broker, &stream).await?;
                let held = info.map(|info| info.config.subjects).unwrap_or_default();
                let held = held.iter().filter_map(|subject| Pattern::new(subject).ok()).collect();
                subjects.insert(stream.clone(), held);
            }
            is_held |= subjects[&stream].iter().any(|held| held.contains(pattern));
            found.holders.entry(stream).or_default().push(pattern.clone());
        }
        if !is_held {
            found.missing.push(pattern.clone());
        }
    }
    Ok(found)
}

/// The streams that hold any subject that `pattern` matches, natshook's own left out.
async fn overlapping_streams(
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

/// Makes the stream of the config hold `patterns` too. Returns the first sequence that is stored after that.
async fn extend_stream(
    broker: &Broker,
    name: &InstanceName,
    settings: &config::Stream,
    patterns: &[Pattern],
) -> Result<u64, BrokerError> {
    if !settings.create {
        return Err(BrokerError::Refused(format!(
            "no stream holds {}; make one, or set stream.create = true",
            joined(patterns)
        )));
    }
    let existing = find(broker, &settings.name).await?;
    match existing {
        None => {
            create(broker, source_config(name, settings, patterns))
                .await
                .map_err(|error| crossing(error, patterns))?;
            tracing::info!(stream = settings.name, subjects = joined(patterns), "stream made");
            Ok(1)
        }
        Some(info) if info.config.metadata.get(MADE_BY).map(String::as_str) == Some(name.as_str()) => {
            let held = info.config.subjects.iter().filter_map(|subject| Pattern::new(subject).ok());
            let all: Vec<_> = held.chain(patterns.iter().cloned()).collect();
            let subjects = disjoint(&all).iter().map(ToString::to_string).collect();
            let first_new = info.state.last_sequence + 1;
            let config = stream::Config { subjects, ..info.config };
            update(broker, config).await.map_err(|error| crossing(error, &all))?;
            tracing::info!(
                stream = settings.name,
                subjects = joined(patterns),
                "subjects added to the stream"
            );
            Ok(first_new)
        }
        Some(_) => Err(BrokerError::Refused(format!(
            "stream {} exists, was not made by natshook, and does not hold {}; add them to it, or give stream.name \
             another name",
            settings.name,
            joined(patterns)
        ))),
    }
}

/// Warns where a stream forgets messages sooner than a target may need to get them: they would be lost without a
/// trace.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn warn_of_limits(broker: &Broker, stream: &str, target: &Target) -> Result<(), BrokerError> {
    let Some(info) = find(broker, stream).await? else { return Ok(()) };
    let config = info.config;
    if !config.max_age.is_zero() && config.max_age < target.retry.max_age {
        tracing::warn!(
            target = %target.name, stream, max_age = %humantime::format_duration(config.max_age),
            "the stream drops messages by max_age sooner than the target's retries would give up: what a target \
             that is down has not been sent by then is lost"
        );
    }
    let bounded = config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    if bounded && config.discard == DiscardPolicy::Old {
        tracing::warn!(
            target = %target.name, stream, max_bytes = config.max_bytes, max_messages = config.max_messages,
            max_messages_per_subject = config.max_messages_per_subject,
            "the stream drops its oldest messages when it is full, also ones that the target was not sent yet"
        );
    }
    Ok(())
}

/// Names the subjects that cross each other where that is why the server refuses a stream: it would have to hold
/// both under one pattern, which may reach into the broker's own subjects.
fn crossing(error: BrokerError, patterns: &[Pattern]) -> BrokerError {
    match overlapping_pair(&reduce(patterns)) {
        None => error,
        Some((one, other)) => BrokerError::Refused(format!(
            "no stream can hold {one} and {other} together, which cross each other ({error}); narrow one of them, make \
             a stream for it yourself, or use source = \"core\""
        )),
    }
}

fn joined(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
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

/// A stream as it is, if it is there.
pub(super) async fn find(broker: &Broker, stream: &str) -> Result<Option<stream::Info>, BrokerError> {
    match broker.ask(&format!("STREAM.INFO.{stream}"), Bytes::new()).await? {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(BrokerError::Refused(error.to_string())),
    }
}

pub(super) async fn create(broker: &Broker, config: stream::Config) -> Result<(), BrokerError> {
    let subject = format!("$JS.API.STREAM.CREATE.{}", config.name);
    let made = broker.jetstream.create_stream(config).await;
    made.map(|_: jetstream::stream::Stream| ()).map_err(|error| broker.explain(&subject, &error))
}

pub(super) async fn update(broker: &Broker, config: stream::Config) -> Result<(), BrokerError> {
    let subject = format!("$JS.API.STREAM.UPDATE.{}", config.name);
    broker.jetstream.update_stream(config).await.map(|_| ()).map_err(|error| broker.explain(&subject, &error))
}
