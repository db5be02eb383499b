//! The right to serve an ordered target: a lease in the state bucket, which one process holds at a time. A leader renews it;
//! one that cannot stops by itself well before another may take over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout_at},
};

use crate::{
    source::{Broker, BrokerError, Bucket, Claim},
    target::TargetName,
};

/// What the keys of leases begin with in the state bucket; a target's name follows.
pub(in crate::connector) const KEY: &str = "order.";
/// How often a leader renews its lease, and how often one who stands by looks at it.
const PERIOD: Duration = Duration::from_secs(5);
/// After a renewal that came to nothing.
const PERIOD_AFTER_ERROR: Duration = Duration::from_secs(1);
/// A leader whose last renewal began longer ago than this does nothing any more.
const HELD_FOR: Duration = Duration::from_secs(15);
/// A lease that was not renewed for so long can be taken over. Later than `HELD_FOR` by more than a leader that stood still
/// needs to notice, and later than the consumers' `ack_wait` of 20 s: what the leader before had is handed out again.
const FREE_AFTER: Duration = Duration::from_secs(25);

/// News of leases that were given back, by the targets' names: whoever follows the state bucket tells it here. Cheap to
/// clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(in crate::connector) struct Releases(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

impl Releases {
    /// Nobody leads `target` at this moment.
    pub(in crate::connector) fn released(&self, target: &str) {
        if let Some(news) = self.news().get(target) {
            news.send_replace(());
        }
    }

    fn of(&self, target: &str) -> watch::Receiver<()> {
        self.news().entry(target.to_owned()).or_default().subscribe()
    }

    fn news(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease of one target, while this process holds it or did.
#[derive(Debug)]
pub(super) struct Lease {
    claim: Claim,
    /// Who holds it: no two terms of office have the same.
    holder: String,
    term: u64,
    revision: AtomicU64,
    /// When the last renewal that succeeded was begun.
    renewed: Mutex<Instant>,
}

/// What is seen of a lease that somebody else holds.
struct Seen {
    revision: u64,
    /// Since when nothing else is seen.
    since: Instant,
}

impl Lease {
    /// Waits until this process may lead `target`.
    pub(super) async fn take(bucket: &Bucket, target: &TargetName, releases: &Releases) -> Self {
        let mut released = releases.of(target.as_str());
        let mut seen = None;
        loop {
            released.mark_unchanged();
            let wait = match Self::try_to_take(bucket, target, &mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => PERIOD,
                Err(error) => {
                    tracing::warn!(%target, %error, "cannot see who leads the ordered target; trying again");
                    PERIOD
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                Ok(()) = released.changed() => {}
            }
        }
    }

    async fn try_to_take(
        bucket: &Bucket,
        target: &TargetName,
        seen: &mut Option<Seen>,
    ) -> Result<Option<Self>, BrokerError> {
        let claim = Claim::open(bucket, format!("{KEY}{target}")).await?;
        let term = fastrand::u64(..);
        let holder = format!("{}-{term:016x}", std::process::id());
        let held = claim.read().await?;
        let now = Instant::now();
        let revision = match held {
            None => claim.take(&holder).await?,
            Some(held) => match seen {
                Some(Seen { revision, since }) if *revision == held.revision => {
                    if now.duration_since(*since) < FREE_AFTER {
                        return Ok(None);
                    }
                    tracing::warn!(%target, leader = held.by, "the leader of the ordered target is gone");
                    claim.renew(&holder, held.revision).await?
                }
                _ => {
                    if seen.is_none() {
                        tracing::info!(%target, leader = held.by, "stands by: another replica leads the ordered target");
                    }
                    *seen = Some(Seen { revision: held.revision, since: now });
                    return Ok(None);
                }
            },
        };
        let lease = |revision| Self {
            claim,
            holder,
            term,
            revision: AtomicU64::new(revision),
            renewed: Mutex::new(now),
        };
        Ok(revision.map(lease))
    }

    /// What tells this term of office from all others.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// Whether this process may still do anything for the target.
    pub(super) fn is_held(&self) -> bool {
        self.renewed().elapsed() < HELD_FOR
    }

    /// Until when, if it is not renewed.
    pub(super) fn held_until(&self) -> Instant {
        *self.renewed() + HELD_FOR
    }

    /// Renews the lease for as long as that succeeds.
    pub(super) async fn keep(&self) {
        let mut wait = PERIOD;
        loop {
            let fence = *self.renewed() + HELD_FOR;
            let renewing = async {
                sleep(wait).await;
                self.renew().await
            };
            wait = match timeout_at(fence.into(), renewing).await {
                Ok(Ok(true)) => PERIOD,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a lease is not renewed yet");
                    PERIOD_AFTER_ERROR
                }
            };
        }
    }

    /// False when somebody else holds it.
    async fn renew(&self) -> Result<bool, BrokerError> {
        if self.renew_once().await? {
            return Ok(true);
        }
        // A renewal that nobody confirmed may have succeeded.
        match self.claim.read().await? {
            Some(held) if held.by == self.holder => {
                self.revision.store(held.revision, Ordering::Relaxed);
                self.renew_once().await
            }
            Some(_) | None => Ok(false),
        }
    }

    async fn renew_once(&self) -> Result<bool, BrokerError> {
        // Whoever stands by counts from when it sees the renewal, which is later.
        let began = Instant::now();
        let Some(revision) = self.claim.renew(&self.holder, self.revision.load(Ordering::Relaxed)).await?
        else {
            return Ok(false);
        };
        self.revision.store(revision, Ordering::Relaxed);
        *self.renewed() = began;
        Ok(true)
    }

    /// Lets another replica lead at once. To be called when nothing is under way any more.
    pub(super) async fn release(self, broker: &Broker) {
        let released = async {
            // What was handed back and acked must be known to the broker first.
            broker.flush().await?;
            self.claim.give_back(self.revision.load(Ordering::Relaxed)).await
        };
        if let Err(error) = released.await {
            tracing::debug!(%error, "a lease is not given back; it ends by itself");
        }
    }

    fn renewed(&self) -> MutexGuard<'_, Instant> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
