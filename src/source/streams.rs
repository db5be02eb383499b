//! Source streams: which ones hold a target's subjects, and the one that natshook makes for subjects that none
//! holds. Publishers need to know nothing of any of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{
    self, ErrorCode,
    stream::{self, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::Deserialize;
use tokio::time::sleep;

use super::{
    broker::{Broker, BrokerError},
    known_streams::KnownStreams,
};
use crate::{
    config::{self, InstanceName},
    subject::{Pattern, PatternSet, disjoint, overlapping_pair, reduce},
};

/// How many subjects the broker is asked about at a time.
const QUESTIONS_AT_ONCE: usize = 64;

/// After how long it is looked whether subjects that were added are still there: much longer than another replica needs
/// between reading a stream and writing it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often they are added again.
const ADDS_MAX: usize = 10;

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

/// Finds the streams that hold `patterns`, and makes one for what none holds where the config allows it. What was learned
/// of the streams comes along.
///
/// # Errors
/// A subject is in no stream and none can be made, or the broker refuses.
pub async fn ensure_source_streams(
    broker: &Broker,
    name: &InstanceName,
    settings: &config::Stream,
    patterns: &[Pattern],
) -> Result<(Vec<TargetStream>, KnownStreams), BrokerError> {
    let found = search(broker, name, patterns).await?;
    if found.missing.is_empty() {
        return Ok(found.streams());
    }
    match extend_stream(broker, name, settings, &found.missing).await {
        Ok(first_new) => {
            let again = search(broker, name, patterns).await?;
            if !again.touches_all_missing() {
                let text = format!("no stream holds {} after all: was one changed?", joined(&again.missing));
                return Err(BrokerError::Refused(text));
            }
            let (mut streams, mut known) = again.streams();
            known.extended(&settings.name, first_new);
            for stream in streams.iter_mut().filter(|stream| *stream.stream == *settings.name) {
                stream.extended_at = Some(first_new);
            }
            Ok((streams, known))
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

/// Finds the streams that hold any of `patterns`, and makes none.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn find_source_streams(
    broker: &Broker,
    name: &InstanceName,
    patterns: &[Pattern],
) -> Result<Vec<TargetStream>, BrokerError> {
    Ok(search(broker, name, patterns).await?.streams().0)
}

/// Which streams there are for a set of patterns.
#[derive(Debug, Default)]
struct Found {
    known: KnownStreams,
    /// Streams that hold some subject of the patterns, with those patterns by their place among all.
    holders: BTreeMap<Arc<str>, BTreeMap<usize, Pattern>>,
    /// Patterns of which no single stream holds every subject.
    missing: Vec<Pattern>,
}

impl Found {
    fn streams(self) -> (Vec<TargetStream>, KnownStreams) {
        let holders = self.holders.into_iter();
        let streams = holders.map(|(stream, patterns)| TargetStream {
            stream,
            filters: disjoint(&patterns.into_values().collect::<Vec<_>>()),
            extended_at: None,
        });
        (streams.collect(), self.known)
    }

    fn touches_all_missing(&self) -> bool {
        let held: HashSet<&Pattern> = self.holders.values().flat_map(BTreeMap::values).collect();
        self.missing.iter().all(|missing| held.contains(missing))
    }

    fn hold(&mut self, stream: Arc<str>, place: usize, pattern: &Pattern) {
        self.holders.entry(stream).or_default().insert(place, pattern.clone());
    }

    /// What `streams` hold is known after this.
    async fn learn(&mut self, broker: &Broker, streams: &[Arc<str>]) -> Result<(), BrokerError> {
        for stream in streams {
            if !self.known.has(stream)
                && let Some(info) = find(broker, stream).await?
            {
                self.known.add(Arc::clone(stream), info.config);
            }
        }
        Ok(())
    }
}

/// Asks about the patterns some at a time, and not about those that a stream is known to hold as a whole: no other one
/// can hold any of it, for the streams of an account do not overlap.
async fn search(broker: &Broker, name: &InstanceName, patterns: &[Pattern]) -> Result<Found, BrokerError> {
    let mut found = Found::default();
    let mut rest = patterns.iter().enumerate();
    // The first one alone: mostly its stream holds the others too.
    let mut at_once = 1;
    loop {
        let mut asked = Vec::new();
        while asked.len() < at_once
            && let Some((place, pattern)) = rest.next()
        {
            match found.known.holder(pattern) {
                Some(stream) => found.hold(stream, place, pattern),
                None => asked.push((place, pattern)),
            }
        }
        if asked.is_empty() {
            return Ok(found);
        }
        let questions = asked.iter().map(|(_, pattern)| overlapping_streams(broker, name, pattern));
        let answers = try_join_all(questions).await?;
        for ((place, pattern), streams) in asked.into_iter().zip(answers) {
            found.learn(broker, &streams).await?;
            streams.into_iter().for_each(|stream| found.hold(stream, place, pattern));
            if found.known.holder(pattern).is_none() {
                found.missing.push(pattern.clone());
            }
        }
        at_once = QUESTIONS_AT_ONCE;
    }
}

/// Whether a stream of somebody's, natshook's own left out, holds any subject that `pattern` matches.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn has_stream(
    broker: &Broker,
    name: &InstanceName,
    pattern: &Pattern,
) -> Result<bool, BrokerError> {
    Ok(!overlapping_streams(broker, name, pattern).await?.is_empty())
}

/// The streams that hold any subject that `pattern` matches, natshook's own left out.
async fn overlapping_streams(
    broker: &Broker,
    name: &InstanceName,
    pattern: &Pattern,
) -> Result<Vec<Arc<str>>, BrokerError> {
    #[derive(Deserialize)]
    struct Names {
        streams: Option<Vec<String>>,
    }
    let question = serde_json::json!({ "subject": pattern.as_str() }).to_string();
    match broker.ask::<Names>("STREAM.NAMES", question.into()).await? {
        Ok(names) => {
            let own = [name.retry_stream(), name.dead_letter_stream()];
            let others = names.streams.unwrap_or_default().into_iter().filter(|s| !own.contains(s));
            Ok(others.map(Arc::from).collect())
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
            let first_new = info.state.last_sequence + 1;
            add_subjects(broker, info, patterns).await?;
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

/// An update replaces all subjects, and another replica may add others at this moment: whoever wrote last has taken away
/// what the other one added. So what was written is looked at once more after a while, and written again if need be.
async fn add_subjects(
    broker: &Broker,
    mut info: stream::Info,
    patterns: &[Pattern],
) -> Result<(), BrokerError> {
    for _ in 0..ADDS_MAX {
        let held = info.config.subjects.iter().filter_map(|subject| Pattern::new(subject).ok());
        let all: Vec<_> = held.chain(patterns.iter().cloned()).collect();
        let subjects: Vec<String> = disjoint(&all).iter().map(ToString::to_string).collect();
        if subjects == info.config.subjects {
            return Ok(());
        }
        let name = info.config.name.clone();
        let config = stream::Config { subjects, ..info.config };
        update(broker, config).await.map_err(|error| crossing(error, &all))?;
        sleep(LOOK_AGAIN.mul_f64(1.0 + fastrand::f64())).await;
        info = find(broker, &name).await?.ok_or(BrokerError::NoStream(name))?;
        let held: PatternSet =
            info.config.subjects.iter().filter_map(|subject| Pattern::new(subject).ok()).collect();
        if patterns.iter().all(|pattern| held.contains(pattern)) {
            return Ok(());
        }
    }
    Err(BrokerError::Refused(format!("somebody takes {} out of the stream again", joined(patterns))))
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
