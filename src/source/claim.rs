//! A key of the state bucket that one process at a time holds: taken and renewed only against the revision that was seen
//! last, so that of several who try one succeeds. How long a claim holds is decided by `connector::ordered`.

use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};

use tokio::time::timeout;

use super::{
    broker::{BrokerError, REQUEST_TIMEOUT},
    bucket::Bucket,
};

/// A key that can be claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    bucket: Bucket,
    store: kv::Store,
    key: String,
}

/// Who holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What the holder wrote.
    pub by: String,
    /// The revision, which changes with each renewal.
    pub revision: u64,
}

impl Claim {
    /// Opens `key` of `bucket`, which must be a subject's tokens.
    ///
    /// # Errors
    /// The bucket is not there, or the broker does not answer.
    pub async fn open(bucket: &Bucket, key: String) -> Result<Self, BrokerError> {
        let store = bucket.store().await?;
        Ok(Self { bucket: bucket.clone(), store, key })
    }

    /// Who holds it; `None` when nobody does.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub async fn read(&self) -> Result<Option<Held>, BrokerError> {
        let subject = self.subject();
        let subject = format!("$JS.API.DIRECT.GET.KV_{}.{subject}", self.bucket.name());
        let entry = self.within(&subject, self.store.entry(self.key.as_str())).await?;
        let entry = entry.map_err(|error| self.explain(&subject, &error))?;
        let held = entry.filter(|entry| entry.operation == Operation::Put);
        Ok(held.map(|entry| Held {
            by: String::from_utf8_lossy(&entry.value).into_owned(),
            revision: entry.revision,
        }))
    }

    /// Takes it for `holder` where nobody holds it. Returns the revision; `None` when somebody was faster.
    ///
    /// # Errors
    /// It is not taken, or nobody knows.
    pub async fn take(&self, holder: &str) -> Result<Option<u64>, BrokerError> {
        let value = holder.to_owned().into();
        match self.within(&self.subject(), self.store.create(self.key.as_str(), value)).await? {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(self.explain(&self.subject(), &error)),
        }
    }

    /// Renews it for `holder`, or takes it from somebody, if its revision is still `seen`. Returns the new revision; `None`
    /// when it has changed since.
    ///
    /// # Errors
    /// It is not renewed, or nobody knows.
    pub async fn renew(&self, holder: &str, seen: u64) -> Result<Option<u64>, BrokerError> {
        let value = holder.to_owned().into();
        match self.within(&self.subject(), self.store.update(self.key.as_str(), value, seen)).await? {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(self.explain(&self.subject(), &error)),
        }
    }

    /// Gives it back, if its revision is still `seen`: then nobody else holds it.
    ///
    /// # Errors
    /// It is not given back, or nobody knows.
    pub async fn give_back(&self, seen: u64) -> Result<(), BrokerError> {
        let gone = self.store.delete_expect_revision(self.key.as_str(), Some(seen));
        self.within(&self.subject(), gone).await?.map_err(|error| self.explain(&self.subject(), &error))
    }

    fn subject(&self) -> String {
        format!("$KV.{}.{}", self.bucket.name(), self.key)
    }

    /// Asks something that `subject` has to be allowed for: without that it is not answered.
    async fn within<T>(&self, subject: &str, asked: impl Future<Output = T>) -> Result<T, BrokerError> {
        let answer = timeout(REQUEST_TIMEOUT, asked).await;
        answer.map_err(|_| self.bucket.broker().denied(subject).unwrap_or(BrokerError::TimedOut))
    }

    fn explain(&self, subject: &str, error: &dyn std::error::Error) -> BrokerError {
        self.bucket.broker().explain(subject, error)
    }
}
