//! The targets that registered: every replica follows their bucket, judges what is in it, and says when something has
//! changed. Which targets run is decided by the parent; what a stored one means, by `registry`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{START_WAIT_MAX, START_WAIT_MIN};
use crate::{
    registry::{Judge, State, Verdict, Wrong},
    source::{Broker, BrokerError, Bucket, Changes, Entry, KeepError},
    target::Target,
};

/// A bucket that says nothing for so long is asked whether it has anything new: a watch can end without a word.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The targets that registered, by their names. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Registered(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bucket: Bucket,
    book: Mutex<Book>,
    changed: Notify,
    /// Whether the bucket has been read.
    known: watch::Sender<bool>,
}

#[derive(Debug)]
struct Book {
    judge: Judge,
    pages: BTreeMap<String, Page>,
    /// The newest revision of all.
    revision: u64,
}

/// A target that registered.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Its revision in the bucket.
    pub(super) revision: u64,
    /// When it was stored, by the broker's clock.
    since: SystemTime,
    /// As it is stored; null when that is no JSON.
    pub(super) stored: Value,
    /// What becomes of it.
    pub(super) verdict: Verdict,
    /// The bytes in the bucket, to make it again.
    bytes: Bytes,
}

impl Registered {
    /// None is known yet.
    pub(super) fn new(bucket: Bucket, judge: Judge) -> Self {
        let book = Book { judge, pages: BTreeMap::new(), revision: 0 };
        let (book, known) = (Mutex::new(book), watch::Sender::new(false));
        Self(Arc::new(Inner { bucket, book, changed: Notify::new(), known }))
    }

    /// Where they are kept.
    pub(super) fn bucket(&self) -> &Bucket {
        &self.0.bucket
    }

    /// Whether the bucket has been read.
    pub(super) fn known(&self) -> watch::Receiver<bool> {
        self.0.known.subscribe()
    }

    /// Those that can be used, and since when they are what they are.
    pub(super) fn targets(&self) -> Vec<(Target, SystemTime)> {
        let active = |page: &Page| match &page.verdict {
            Verdict::Active(target) => Some((target.as_ref().clone(), page.since)),
            Verdict::Overridden | Verdict::Invalid(_) => None,
        };
        self.book().pages.values().filter_map(active).collect()
    }

    /// How many there are in each state, in the order of [`State::ALL`].
    pub(super) fn count(&self) -> [u64; State::ALL.len()] {
        let book = self.book();
        State::ALL.map(|state| {
            let there = book.pages.values().filter(|page| page.verdict.state() == state);
            u64::try_from(there.count()).unwrap_or(u64::MAX)
        })
    }

    /// The first ones after `after`, with one more than `most` to tell that there are others.
    pub(super) fn pages(&self, after: &str, most: usize) -> Vec<(String, Page)> {
        let book = self.book();
        let rest = book.pages.iter().skip_while(|(name, _)| name.as_str() <= after);
        rest.take(most.saturating_add(1)).map(|(name, page)| (name.clone(), page.clone())).collect()
    }

    /// Whether `target` may have registered, for all that is known.
    pub(super) fn may_have(&self, target: &str) -> bool {
        !*self.0.known.borrow() || self.book().pages.contains_key(target)
    }

    /// What they are judged by.
    pub(super) fn judge(&self) -> Judge {
        self.book().judge.clone()
    }

    /// From now on they are judged by `judge`.
    pub(super) fn judge_by(&self, judge: Judge) {
        let mut book = self.book();
        book.judge = judge;
        let Book { judge, pages, .. } = &mut *book;
        for (name, page) in pages {
            let verdict = judge.judge(name, &page.stored);
            if verdict != page.verdict {
                tell(name, &verdict);
                page.verdict = verdict;
            }
        }
    }

    /// Reads all of the bucket, which is made first if it is not there.
    pub(super) async fn read(&self) -> Result<Changes, BrokerError> {
        self.0.bucket.ensure().await?;
        self.open().await
    }

    async fn open(&self) -> Result<Changes, BrokerError> {
        let (entries, changes) = self.0.bucket.open().await?;
        {
            let mut book = self.book();
            let there =
                |name: &String| entries.iter().any(|entry| entry.value.is_some() && entry.key == *name);
            let gone: Vec<String> = book.pages.keys().filter(|name| !there(name)).cloned().collect();
            for name in gone {
                book.pages.remove(&name);
            }
            entries.into_iter().for_each(|entry| book.take(entry));
        }
        self.0.known.send_replace(true);
        self.0.changed.notify_one();
        Ok(changes)
    }

    /// Follows the bucket for ever. What goes wrong is reported and tried again; targets run on as they are meanwhile.
    pub(super) async fn follow(self, broker: Arc<Broker>, first: Option<Changes>) {
        let mut changes = first;
        let mut wait = START_WAIT_MIN;
        loop {
            if let Some(changes) = &mut changes {
                wait = START_WAIT_MIN;
                if let Some(error) = self.follow_once(&broker, changes).await {
                    tracing::warn!(%error, "cannot follow which targets register; trying again");
                }
            } else {
                sleep(wait).await;
                wait = (wait * 2).min(START_WAIT_MAX);
            }
            changes = self.read_again().await.map_err(|error| not_read(&error, wait)).ok();
        }
    }

    /// Takes changes until the bucket should be read again; the error that made it so, if one did.
    async fn follow_once(&self, broker: &Broker, changes: &mut Changes) -> Option<BrokerError> {
        loop {
            let change = tokio::select! {
                change = timeout(ASK_AGAIN, changes.next()) => change,
                () = broker.reconnected() => return None,
            };
            match change {
                Ok(Ok(entry)) => {
                    self.book().take(entry);
                    self.0.changed.notify_one();
                }
                Ok(Err(error)) => return Some(error),
                Err(_) => match self.0.bucket.revision().await {
                    Ok(revision) if revision == self.book().revision => {}
                    Ok(_) => return None,
                    Err(error) => return Some(error),
                },
            }
        }
    }

    /// A bucket that somebody deleted is made again, with the targets that this replica knows.
    async fn read_again(&self) -> Result<Changes, BrokerError> {
        match self.0.bucket.revision().await {
            Ok(_) => return self.open().await,
            Err(BrokerError::NoStream(_)) if *self.0.known.borrow() => {}
            Err(BrokerError::NoStream(_)) => return self.read().await,
            Err(error) => return Err(error),
        }
        tracing::error!("the bucket of registered targets is gone; making it again");
        self.0.bucket.ensure().await?;
        let known = self.book().pages.clone();
        for (name, page) in known {
            match self.0.bucket.replace(&name, page.bytes, 0).await {
                // Another replica was faster.
                Ok(_) | Err(KeepError::Changed) => {}
                Err(KeepError::Broker(error)) => return Err(error),
            }
        }
        self.open().await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn take(&mut self, entry: Entry) {
        let Entry { key: name, value, revision, kept: since } = entry;
        self.revision = self.revision.max(revision);
        let Some(bytes) = value else {
            if self.pages.remove(&name).is_some() {
                tracing::info!(target = name, revision, "a registered target was removed");
            }
            return;
        };
        let before = self.pages.get(&name);
        if before.is_some_and(|page| page.revision == revision && page.bytes == bytes) {
            return;
        }
        let stored = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let verdict = self.judge.judge(&name, &stored);
        tell(&name, &verdict);
        self.pages.insert(name, Page { revision, since, stored, verdict, bytes });
    }
}

/// Resolves when what has registered is no longer what it was; never where nothing can.
pub(super) async fn changed(registered: Option<Registered>) -> Registered {
    match registered {
        Some(registered) => {
            registered.0.changed.notified().await;
            registered
        }
        None => std::future::pending().await,
    }
}

pub(super) fn not_read(error: &BrokerError, wait: Duration) {
    tracing::error!(
        %error, retry_in = %humantime::format_duration(wait),
        "cannot read which targets have registered; they stay as they are"
    );
}

/// A target that cannot be used holds up no other one, and must not be overlooked.
fn tell(name: &str, verdict: &Verdict) {
    match verdict {
        Verdict::Active(_) => tracing::info!(target = name, "a target is registered"),
        Verdict::Overridden => tracing::warn!(
            target = name,
            "the config has a target of the name of a registered one: the config's is used"
        ),
        Verdict::Invalid(errors) => {
            let errors = errors.iter().map(Wrong::to_string).collect::<Vec<_>>().join("; ");
            tracing::error!(target = name, errors, "a registered target cannot be used");
        }
    }
}
