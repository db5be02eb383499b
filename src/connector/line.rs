//! A connection for those who look at it or steer it: the admin page, and the commands that speak over NATS. Whoever asks over a
//! connection learns nothing of the others. Nothing here delivers anything but the test that somebody asked for.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::{Instant, SystemTime},
};

use bytes::Bytes;

use super::{
    control::{ControlError, Process, TestReport},
    couriers::Couriers,
    pauses::Pauses,
    readiness::Readiness,
    shown,
};
use crate::{
    batch,
    config::{Connection, ConnectionName, InstanceName, SourceKind},
    delivery::Courier,
    metrics::Metrics,
    shape::Verdict,
    source::{Broker, Bucket},
    status::{Pause, Snapshot, TargetDetail, TargetSnapshot},
};

/// What a test request sends.
const TEST_PAYLOAD: &[u8] = br#"{"natshook":"test"}"#;

/// A connection of a running natshook. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: ConnectionName,
    process: Process,
    couriers: Couriers,
    life: RwLock<Life>,
}

/// What a reload can change.
#[derive(Debug)]
struct Life {
    instance: InstanceName,
    source: SourceKind,
    readiness: Readiness,
    link: Link,
}

/// The way to the broker.
#[derive(Clone, Debug)]
enum Link {
    Connecting,
    Connected { broker: Arc<Broker>, bucket: Bucket, pauses: Pauses },
}

impl Line {
    /// A connection that has not been made yet.
    #[must_use]
    pub(super) fn new(process: Process, connection: &Connection) -> Self {
        let life = Life {
            instance: connection.instance.clone(),
            source: connection.source,
            readiness: Readiness::default(),
            link: Link::Connecting,
        };
        Self(Arc::new(Inner {
            connection: connection.name.clone(),
            process,
            couriers: Couriers::default(),
            life: RwLock::new(life),
        }))
    }

    /// What it is called among the connections.
    #[must_use]
    pub fn connection(&self) -> &ConnectionName {
        &self.0.connection
    }

    /// What has to stand for its targets to get their messages.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.life().readiness.clone()
    }

    pub(super) fn couriers(&self) -> &Couriers {
        &self.0.couriers
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.0.process.metrics()
    }

    /// What everything goes over from now on.
    pub(super) fn connected(
        &self,
        connection: &Connection,
        broker: &Arc<Broker>,
        bucket: Bucket,
        pauses: Pauses,
        readiness: Readiness,
    ) {
        let mut life = self.0.life.write().unwrap_or_else(PoisonError::into_inner);
        life.instance = connection.instance.clone();
        life.source = connection.source;
        life.link = Link::Connected { broker: Arc::clone(broker), bucket, pauses };
        life.readiness = readiness;
    }

    /// The instance's name.
    #[must_use]
    pub fn instance(&self) -> InstanceName {
        self.life().instance.clone()
    }

    /// Where its messages come from.
    #[must_use]
    pub fn source(&self) -> SourceKind {
        self.life().source
    }

    /// The connection to the broker.
    ///
    /// # Errors
    /// It has not been made yet.
    pub fn broker(&self) -> Result<Arc<Broker>, ControlError> {
        match &self.life().link {
            Link::Connecting => Err(ControlError::NotConnected),
            Link::Connected { broker, .. } => Ok(Arc::clone(broker)),
        }
    }

    /// The replica at this moment, and the targets of this connection.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let targets: Vec<TargetSnapshot> =
            self.0.couriers.all().iter().map(|courier| shown::target_snapshot(courier)).collect();
        let broker = self.broker().ok();
        let life = self.life();
        Snapshot {
            instance: life.instance.as_str().to_owned(),
            broker_connected: broker.as_ref().is_some_and(|broker| broker.is_connected()),
            broker_version: broker.map(|broker| broker.version()).unwrap_or_default(),
            missing: life.readiness.missing(),
            retry_waiting: targets.iter().map(|target| target.retry_waiting).sum(),
            dead_letters: targets.iter().map(|target| target.dead_letters).sum(),
            targets,
            ..self.0.process.snapshot()
        }
    }

    /// All that is known of `target`.
    ///
    /// # Errors
    /// The connection does not have it.
    pub fn detail(&self, target: &str) -> Result<TargetDetail, ControlError> {
        let courier = self.courier(target)?;
        Ok(TargetDetail {
            snapshot: shown::target_snapshot(&courier),
            history: courier.status.stats().history(Instant::now()),
            failures: courier.status.failures(),
        })
    }

    /// Pauses `target` for all replicas: its messages wait until it is resumed.
    ///
    /// # Errors
    /// There is no such target, or it cannot be kept.
    pub async fn pause(&self, target: &str) -> Result<(), ControlError> {
        self.decide(target, Pause::Paused { since: SystemTime::now() }).await
    }

    /// Resumes `target` for all replicas.
    ///
    /// # Errors
    /// There is no such target, or it cannot be kept.
    pub async fn resume(&self, target: &str) -> Result<(), ControlError> {
        self.decide(target, Pause::Lifted { at: SystemTime::now() }).await
    }

    async fn decide(&self, target: &str, pause: Pause) -> Result<(), ControlError> {
        let courier = self.courier(target)?;
        let (source, link) = {
            let life = self.life();
            (life.source, life.link.clone())
        };
        match (source, link) {
            (SourceKind::Core, _) => Err(ControlError::Core),
            (SourceKind::JetStream, Link::Connecting) => Err(ControlError::NotConnected),
            // A second pause would only make the first one look shorter.
            (SourceKind::JetStream, _) if courier.lane.is_paused() == pause.is_paused() => Ok(()),
            (SourceKind::JetStream, Link::Connected { bucket, pauses, .. }) => {
                pauses.decide(&bucket, target, pause, &self.0.couriers).await?;
                Ok(())
            }
        }
    }

    /// Sends one test request to `target`, as natshook would send a message, past its lane and without any retry.
    ///
    /// # Errors
    /// There is no such target, or nothing can be sent to it.
    pub async fn test(&self, target: &str) -> Result<TestReport, ControlError> {
        let courier = self.courier(target)?;
        let now = SystemTime::now();
        let delivery = courier.target.sample(None, Bytes::from_static(TEST_PAYLOAD), now);
        let began = Instant::now();
        let verdict = match &courier.shaper {
            None => Verdict::AsItIs,
            Some(shaper) => shaper.shape(&delivery.message).await?,
        };
        let content = match verdict {
            Verdict::AsItIs => None,
            Verdict::Content(content) => Some(content),
            Verdict::Skipped(_) => return Ok(not_sent("the target's filter leaves the test message out")),
            Verdict::Refused(refusal) => return Ok(not_sent(&refusal.error)),
        };
        let batching = courier.target.batch.as_ref();
        let request = match batch::single(&courier.template, batching, &delivery, content.as_deref(), now) {
            Ok(request) => request,
            Err(not_json) => return Ok(not_sent(&not_json.to_string())),
        };
        let end = courier.sender.attempt(|| request.clone()).await;
        Ok(shown::report(&courier, &end, began))
    }

    fn courier(&self, target: &str) -> Result<Arc<Courier>, ControlError> {
        self.0.couriers.get(target).ok_or_else(|| ControlError::UnknownTarget(target.to_owned()))
    }

    fn life(&self) -> RwLockReadGuard<'_, Life> {
        self.0.life.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing can be said of the target itself.
fn not_sent(why: &str) -> TestReport {
    let end = format!("nothing was sent: {why}; `natshook send` takes a message that fits");
    TestReport { delivered: false, status: None, end, excerpt: String::new(), took_millis: 0 }
}
