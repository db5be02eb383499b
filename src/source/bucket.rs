//! The key-value buckets in which natshook keeps what it is told while it runs, and who leads ordered targets: what is in
//! them, and how they change. What the values mean is the business of `connector::pauses`, `ordered` and `registry`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    ErrorCode,
    kv::{self, Operation},
    stream::StorageType,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    broker::{Broker, BrokerError, REQUEST_TIMEOUT},
    streams,
};
use crate::config::InstanceName;

/// The largest decision that is kept, in bytes.
const DECISION_BYTES_MAX: i32 = 4096;
/// The largest target that can be registered, in bytes of JSON: with all that it may hold it has a few KB, and the broker
/// takes 1 MiB in a message unless it is told otherwise.
pub const TARGET_BYTES_MAX: i32 = 256 * 1024;

/// The header by which a bucket marks a key that was removed.
const OPERATION: &[u8] = b"KV-Operation";

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    broker: Arc<Broker>,
    name: String,
    about: &'static str,
    value_bytes_max: i32,
    replicas: usize,
}

/// What a bucket holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value; `None` when it was removed, or never there.
    pub value: Option<Bytes>,
    /// What the bucket counts; 0 for a key that was never there.
    pub revision: u64,
    /// When it was kept or removed, by the broker's clock.
    pub kept: SystemTime,
}

/// Why a value was not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Somebody else was faster.
    #[error("it was changed by somebody else in the meantime")]
    Changed,
    /// The broker did not take it, or nobody knows.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Changes of a bucket as they are made.
pub struct Changes(kv::Watch);

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Bucket {
    /// The bucket of what operators of `instance` decided, kept on so many servers. Nothing is made yet.
    #[must_use]
    pub fn decisions(broker: Arc<Broker>, instance: &InstanceName, replicas: usize) -> Self {
        let about = "natshook: what operators decided, such as paused targets, and who leads ordered targets";
        Self { broker, name: instance.state_bucket(), about, value_bytes_max: DECISION_BYTES_MAX, replicas }
    }

    /// The bucket of the targets that registered with `instance`, kept on so many servers. Nothing is made yet.
    #[must_use]
    pub fn targets(broker: Arc<Broker>, instance: &InstanceName, replicas: usize) -> Self {
        let about = "natshook: targets that registered";
        Self { broker, name: instance.registry_bucket(), about, value_bytes_max: TARGET_BYTES_MAX, replicas }
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the bucket, or brings its number of replicas into line.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn ensure(&self) -> Result<(), BrokerError> {
        let stream = self.stream();
        match streams::find(&self.broker, &stream).await? {
            Some(info) if info.config.num_replicas == self.replicas => Ok(()),
            Some(info) => {
                let config =
                    async_nats::jetstream::stream::Config { num_replicas: self.replicas, ..info.config };
                streams::update(&self.broker, config).await
            }
            None => {
                let config = kv::Config {
                    bucket: self.name.clone(),
                    description: self.about.to_owned(),
                    max_value_size: self.value_bytes_max,
                    history: 1,
                    storage: StorageType::File,
                    num_replicas: self.replicas,
                    ..Default::default()
                };
                let made = within(REQUEST_TIMEOUT, self.broker.jetstream.create_key_value(config)).await?;
                let subject = format!("$JS.API.STREAM.CREATE.{stream}");
                made.map_err(|error| self.broker.explain(&subject, &error))?;
                tracing::info!(bucket = self.name, "bucket made");
                Ok(())
            }
        }
    }

    /// Keeps `value` under `key`, which must be a token of a subject.
    ///
    /// # Errors
    /// It is not kept, or nobody knows.
    pub async fn put(&self, key: &str, value: String) -> Result<(), BrokerError> {
        let store = self.store().await?;
        let put = within(REQUEST_TIMEOUT, store.put(key, value.into())).await?;
        let subject = format!("$KV.{}.{key}", self.name);
        put.map(drop).map_err(|error| self.broker.explain(&subject, &error))
    }

    /// What is kept under `key`, as the bucket's leader knows it.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn get(&self, key: &str) -> Result<Entry, BrokerError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Kept,
        }
        #[derive(Deserialize)]
        struct Kept {
            seq: u64,
            time: String,
            #[serde(default)]
            data: String,
            #[serde(default)]
            hdrs: String,
        }
        let question = serde_json::json!({ "last_by_subj": format!("$KV.{}.{key}", self.name) }).to_string();
        let subject = format!("STREAM.MSG.GET.{}", self.stream());
        let kept = match self.broker.ask::<Answer>(&subject, question.into()).await? {
            Ok(answer) => answer.message,
            Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                let kept = SystemTime::UNIX_EPOCH;
                return Ok(Entry { key: key.to_owned(), value: None, revision: 0, kept });
            }
            Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                return Err(BrokerError::NoStream(self.stream()));
            }
            Err(error) => return Err(BrokerError::Refused(error.to_string())),
        };
        let decoded = |text: &str| {
            STANDARD.decode(text).map_err(|error| BrokerError::Refused(format!("unreadable answer: {error}")))
        };
        let headers = decoded(&kept.hdrs)?;
        let is_removed = headers.windows(OPERATION.len()).any(|part| part == OPERATION);
        let value = if is_removed { None } else { Some(Bytes::from(decoded(&kept.data)?)) };
        let time = humantime::parse_rfc3339(&kept.time).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Entry { key: key.to_owned(), value, revision: kept.seq, kept: time })
    }

    /// Keeps `value` under `key` if that is still at `revision`, and returns the new one.
    ///
    /// # Errors
    /// It is at another revision; or the value is not kept, or nobody knows.
    pub async fn replace(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KeepError> {
        let store = self.store().await?;
        let kept = within(REQUEST_TIMEOUT, store.update(key, value, revision)).await?;
        kept.map_err(|error| self.not_kept(key, &error))
    }

    /// Removes `key` if it is still at `revision`.
    ///
    /// # Errors
    /// It is at another revision; or it is not removed, or nobody knows.
    pub async fn remove(&self, key: &str, revision: u64) -> Result<(), KeepError> {
        let store = self.store().await?;
        let removed = within(REQUEST_TIMEOUT, store.delete_expect_revision(key, Some(revision))).await?;
        removed.map_err(|error| self.not_kept(key, &error))
    }

    fn not_kept(&self, key: &str, error: &kv::UpdateError) -> KeepError {
        match error.kind() {
            kv::UpdateErrorKind::WrongLastRevision => KeepError::Changed,
            kv::UpdateErrorKind::InvalidKey | kv::UpdateErrorKind::TimedOut | kv::UpdateErrorKind::Other => {
                self.broker.explain(&format!("$KV.{}.{key}", self.name), error).into()
            }
        }
    }

    /// The newest revision of all keys.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn revision(&self) -> Result<u64, BrokerError> {
        match streams::find(&self.broker, &self.stream()).await? {
            Some(info) => Ok(info.state.last_sequence),
            None => Err(BrokerError::NoStream(self.stream())),
        }
    }

    /// All that is in the bucket now, and what follows.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn open(&self) -> Result<(Vec<Entry>, Changes), BrokerError> {
        let info = streams::find(&self.broker, &self.stream()).await?;
        let Some(info) = info else { return Err(BrokerError::NoStream(self.stream())) };
        let store = self.store().await?;
        let watch = within(REQUEST_TIMEOUT, store.watch_with_history(">")).await?;
        let subject = format!("$JS.API.CONSUMER.CREATE.{}", self.stream());
        let mut changes = Changes(watch.map_err(|error| self.broker.explain(&subject, &error))?);
        let mut entries = Vec::new();
        let mut more = info.state.messages > 0;
        while more {
            let (entry, behind) = changes.entry_within(REQUEST_TIMEOUT).await?;
            entries.push(entry);
            more = behind > 0;
        }
        Ok((entries, changes))
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) async fn store(&self) -> Result<kv::Store, BrokerError> {
        let store = within(REQUEST_TIMEOUT, self.broker.jetstream.get_key_value(&self.name)).await?;
        let subject = format!("$JS.API.STREAM.INFO.{}", self.stream());
        store.map_err(|error| self.broker.explain(&subject, &error))
    }
}

impl Changes {
    /// The next change.
    ///
    /// # Errors
    /// The changes cannot be followed any more: open the bucket again.
    pub async fn next(&mut self) -> Result<Entry, BrokerError> {
        self.entry().await.map(|(entry, _)| entry)
    }

    async fn entry_within(&mut self, limit: Duration) -> Result<(Entry, u64), BrokerError> {
        within(limit, self.entry()).await?
    }

    /// A change, and how many more there are already.
    async fn entry(&mut self) -> Result<(Entry, u64), BrokerError> {
        match self.0.next().await {
            Some(Ok(entry)) => {
                let value = (entry.operation == Operation::Put).then_some(entry.value);
                let kept = entry.created.into();
                Ok((Entry { key: entry.key, value, revision: entry.revision, kept }, entry.delta))
            }
            Some(Err(error)) => Err(BrokerError::Refused(error.to_string())),
            None => Err(BrokerError::Refused("the watch of the bucket ended".to_owned())),
        }
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = T>) -> Result<T, BrokerError> {
    timeout(limit, asked).await.map_err(|_| BrokerError::TimedOut)
}
