//! Operators' words about targets, kept in the state bucket so that they hold for all replicas and survive restarts.
//! Every replica follows the bucket; a word is also held for targets that are not in the config at the moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};

use super::{
    START_WAIT_MAX, START_WAIT_MIN,
    couriers::Couriers,
    ordered::{self, Releases},
};
use crate::{
    source::{Broker, BrokerError, Bucket, Changes, Entry},
    status::Pause,
};

/// What the keys of pauses begin with in the state bucket; a target's name follows.
pub const KEY: &str = "pause.";
/// A bucket that says nothing for so long is read again: a watch can end without a word.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The words by targets' names. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses {
    words: Arc<Mutex<HashMap<String, Pause>>>,
    releases: Releases,
}

impl Pauses {
    /// News of leases that were given back, which the same bucket holds.
    pub(super) fn releases(&self) -> &Releases {
        &self.releases
    }

    /// The word about `target`, if there ever was one.
    pub(super) fn get(&self, target: &str) -> Option<Pause> {
        self.words().get(target).copied()
    }

    /// Keeps a word about `target`, and has it obeyed here at once; the other replicas follow.
    pub(super) async fn decide(
        &self,
        bucket: &Bucket,
        target: &str,
        pause: Pause,
        couriers: &Couriers,
    ) -> Result<(), BrokerError> {
        bucket.put(&key(target), pause.to_json()).await?;
        self.obey(target, pause, couriers);
        Ok(())
    }

    /// Reads all words before there is anybody to obey them.
    pub(super) async fn read(&self, bucket: &Bucket) -> Result<Changes, BrokerError> {
        bucket.ensure().await?;
        let (entries, changes) = bucket.open().await?;
        for Entry { key, value, .. } in entries {
            if let Some((target, pause)) = word(&key, value.as_deref()) {
                self.words().insert(target.to_owned(), pause);
            }
        }
        Ok(changes)
    }

    /// Follows the bucket for ever. What goes wrong is reported and tried again; the words stay as they are meanwhile.
    pub(super) async fn follow(
        self,
        broker: Arc<Broker>,
        bucket: Bucket,
        couriers: Couriers,
        first: Changes,
    ) {
        let mut changes = first;
        let mut wait = START_WAIT_MIN;
        loop {
            let error = self.follow_once(&broker, &mut changes, &couriers).await;
            if let Some(error) = error {
                tracing::warn!(%error, bucket = bucket.name(), "cannot follow operators' decisions; trying again");
            }
            changes = loop {
                match self.read_again(&bucket, &couriers).await {
                    Ok(changes) => break changes,
                    Err(error) => tracing::error!(
                        %error, bucket = bucket.name(), retry_in = %humantime::format_duration(wait),
                        "cannot read operators' decisions; targets stay paused or running as they are"
                    ),
                }
                sleep(wait).await;
                wait = (wait * 2).min(START_WAIT_MAX);
            };
            wait = START_WAIT_MIN;
        }
    }

    /// Takes changes until the bucket should be read again; the error that made it so, if one did.
    async fn follow_once(
        &self,
        broker: &Broker,
        changes: &mut Changes,
        couriers: &Couriers,
    ) -> Option<BrokerError> {
        loop {
            let change = tokio::select! {
                change = timeout(READ_AGAIN, changes.next()) => change,
                () = broker.reconnected() => return None,
            };
            match change {
                Ok(Ok(Entry { key, value, .. })) => self.take(&key, value.as_deref(), couriers),
                Ok(Err(error)) => return Some(error),
                Err(_) => return None,
            }
        }
    }

    /// A bucket that somebody deleted is made again, with the pauses that this replica knows.
    async fn read_again(&self, bucket: &Bucket, couriers: &Couriers) -> Result<Changes, BrokerError> {
        let known: Vec<_> = self.words().iter().map(|(target, pause)| (target.clone(), *pause)).collect();
        match self.open(bucket, couriers).await {
            Err(BrokerError::NoStream(_)) => {
                tracing::error!(
                    bucket = bucket.name(),
                    "the bucket of operators' decisions is gone; making it again"
                );
                bucket.ensure().await?;
                for (target, pause) in known.into_iter().filter(|(_, pause)| pause.is_paused()) {
                    bucket.put(&key(&target), pause.to_json()).await?;
                }
                self.open(bucket, couriers).await
            }
            opened => opened,
        }
    }

    /// Obeys all that is in the bucket.
    async fn open(&self, bucket: &Bucket, couriers: &Couriers) -> Result<Changes, BrokerError> {
        let (entries, changes) = bucket.open().await?;
        for Entry { key, value, .. } in entries {
            self.take(&key, value.as_deref(), couriers);
        }
        Ok(changes)
    }

    fn take(&self, key: &str, value: Option<&[u8]>, couriers: &Couriers) {
        // The bucket is followed once, for all that is in it.
        if let (Some(target), None) = (key.strip_prefix(ordered::KEY), value) {
            self.releases.released(target);
        }
        if let Some((target, pause)) = word(key, value) {
            self.obey(target, pause, couriers);
        }
    }

    fn obey(&self, target: &str, pause: Pause, couriers: &Couriers) {
        self.words().insert(target.to_owned(), pause);
        let Some(courier) = couriers.get(target) else { return };
        if courier.lane.set_pause(pause) {
            let word = if pause.is_paused() { "paused" } else { "resumed" };
            tracing::info!(target, "an operator {word} the target");
        }
    }

    fn words(&self) -> MutexGuard<'_, HashMap<String, Pause>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry of the bucket says of which target; a removed one lets it run.
fn word<'a>(key: &'a str, value: Option<&[u8]>) -> Option<(&'a str, Pause)> {
    let target = key.strip_prefix(KEY)?;
    let pause = match value {
        Some(value) => Pause::from_json(value),
        None => Some(Pause::Lifted { at: SystemTime::now() }),
    };
    if pause.is_none() {
        tracing::warn!(key, "an operator's decision cannot be read; it changes nothing");
    }
    Some((target, pause?))
}

fn key(target: &str) -> String {
    format!("{KEY}{target}")
}
