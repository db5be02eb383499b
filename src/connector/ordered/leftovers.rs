//! Parked deliveries for which there is no order any more: they go to the retry queue, which delivers each when it is due.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Office, ground::Ground, lease::Lease};
use crate::{
    config::InstanceName,
    delivery::{Courier, Settled},
    envelope::{self, Waiting},
    message::{Headers, Message, Origin},
    retry_queue::RetryQueue,
    source::{AHEAD_MAX, Broker, BrokerError, OwnStream, Receipt, StoreError, StreamReader, survey},
};

/// After something could not be moved or read.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Moves what is parked for targets that are not ordered, any more, to the retry queue. Whoever still leads one of them
/// with an older config is waited for.
pub(in crate::connector) async fn move_leftovers(
    broker: Arc<Broker>,
    name: InstanceName,
    office: Office,
    unordered: Vec<Arc<Courier>>,
) {
    let counts = loop {
        match survey::counts(&broker, &name.retry_stream(), &name.ordered_subject("*")).await {
            Ok(counts) => break counts,
            Err(error) => tracing::debug!(%error, "the broker does not say what is parked"),
        }
        sleep(AGAIN_AFTER).await;
    };
    for courier in unordered {
        let target = &courier.target.name;
        let subject = name.ordered_subject(target.as_str());
        if !counts.contains_key(&subject) {
            continue;
        }
        tokio::select! {
            () = courier.ending.drain.cancelled() => {}
            () = move_those_of(&broker, &name, &office, &courier, subject) => {}
        }
    }
}

async fn move_those_of(
    broker: &Arc<Broker>,
    name: &InstanceName,
    office: &Office,
    courier: &Courier,
    subject: String,
) {
    let target = &courier.target.name;
    let lease = Lease::take(&office.bucket, target, &office.releases).await;
    let reader = StreamReader::new(Arc::clone(broker), name.retry_stream());
    let mut walk = reader.walk(subject, 1, AHEAD_MAX);
    let mut moved = 0_u64;
    let moving = async {
        loop {
            match walk.next().await {
                Ok(Some(stored)) => {
                    move_one(&office.retry_queue, &reader, target.as_str(), stored).await;
                    moved += 1;
                }
                Ok(None) | Err(BrokerError::NoStream(_)) => return,
                Err(error) => {
                    tracing::warn!(%target, %error, "cannot read parked deliveries; trying again");
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    };
    if super::fenced(&lease, None, moving).await.is_some() {
        lease.release(broker).await;
        tracing::info!(%target, moved, "the target is not ordered any more; what was parked is retried as it comes");
    }
}

async fn move_one(retry_queue: &OwnStream, reader: &StreamReader, target: &str, stored: Message) {
    let Origin::Stored { sequence, .. } = stored.origin else { return };
    let receipt = Receipt::Parked { stream: reader.clone(), sequence };
    match envelope::read_waiting(stored.clone()) {
        Ok(waiting) => put_back(retry_queue, &waiting, &receipt).await,
        Err(_) => set_aside_in(retry_queue, target, stored, &receipt).await,
    }
}

/// Moves a parked delivery to the retry queue. A crash on the way leaves it in both, and it may come twice.
pub(super) async fn put_back(retry_queue: &OwnStream, waiting: &Waiting, receipt: &Receipt) {
    let queue = RetryQueue::Stream(retry_queue.clone());
    while let Err(error) = queue.renew(waiting).await {
        wait_to_move(&error).await;
    }
    receipt.ack().await;
}

/// Moves what somebody else wrote among the parked deliveries to the retry queue, which sets it aside.
pub(super) async fn set_aside(ground: &Ground<'_>, stored: Message, receipt: &Receipt) -> Settled {
    let target = ground.courier.target.name.as_str();
    set_aside_in(&ground.retry_queue, target, stored, receipt).await;
    Settled::Ended
}

async fn set_aside_in(retry_queue: &OwnStream, target: &str, stored: Message, receipt: &Receipt) {
    let steers = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
    let kept = stored.headers.0.into_iter().filter(|(name, _)| !steers(name));
    let headers = Headers(kept.collect());
    while let Err(error) = retry_queue.store(target, headers.clone(), stored.payload.clone()).await {
        wait_to_move(&error).await;
    }
    receipt.ack().await;
}

async fn wait_to_move(error: &StoreError) {
    tracing::warn!(%error, "a parked delivery cannot be moved to the retry queue; trying again");
    sleep(AGAIN_AFTER).await;
}
