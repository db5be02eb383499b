//! Ordered targets: one replica at a time leads such a target, the others stand by. `lease` says who leads, `takeover` is
//! what a new leader does first, `leader` delivers, `leftovers` are deliveries that were parked for an order that is no
//! more. Which message may be attempted is decided by `order`, what becomes of it by `delivery`.

mod ground;
mod leader;
mod lease;
mod leftovers;
mod takeover;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{pump, readiness::Readiness};
use crate::{
    delivery::Courier,
    order::Order,
    sender::Fence,
    source::{Broker, Bucket, OwnStream, TargetStream},
    status::OrderState,
};
use ground::Ground;
use leader::{Leader, Over};
use lease::Lease;
pub(super) use lease::{KEY, Releases};
pub(super) use leftovers::move_leftovers;

/// Between two beginnings of one leader, so that whatever makes it begin again and again costs little.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What leading takes beyond what every target needs.
#[derive(Clone, Debug)]
pub(super) struct Office {
    /// Where leases are.
    pub(super) bucket: Bucket,
    /// News of those that were given back.
    pub(super) releases: Releases,
    /// Where deliveries are parked.
    pub(super) retry_queue: OwnStream,
}

/// An ordered target, as every replica has it.
#[derive(Debug)]
pub(super) struct OrderedTarget {
    pub(super) broker: Arc<Broker>,
    pub(super) setup: pump::Setup,
    pub(super) office: Office,
    pub(super) courier: Arc<Courier>,
    pub(super) order: Order,
    pub(super) readiness: Readiness,
}

impl OrderedTarget {
    /// Delivers what the streams hold for the target, whenever this replica leads it, until natshook drains.
    pub(super) async fn run(self) {
        let Self { broker, setup, office, courier, readiness, .. } = &self;
        let Some(streams) = pump::streams(broker, setup, courier, readiness).await else { return };
        let target = &courier.target.name;
        let drain = &courier.ending.drain;
        while !drain.is_cancelled() {
            courier.status.note_order(OrderState::Standby);
            let lease = tokio::select! {
                lease = Lease::take(&office.bucket, target, &office.releases) => lease,
                () = drain.cancelled() => break,
            };
            courier.status.note_order(OrderState::Leading { parked: 0 });
            tracing::info!(%target, "this replica leads the ordered target");
            let leading = streams.iter().map(|stream| self.lead(&lease, &streams, stream));
            let led = fenced(&lease, courier.sender.fence(), join_all(leading)).await;
            // Replays are sent by those who stand by as well.
            courier.sender.fence().inspect(|fence| fence.set(None));
            match led {
                Some(_) => lease.release(broker).await,
                None => tracing::warn!(
                    %target, "this replica does not lead the ordered target any more: its lease was not renewed"
                ),
            }
        }
        courier.journal.close();
    }

    /// Leads one of the target's streams until natshook drains.
    async fn lead(&self, lease: &Lease, streams: &[TargetStream], stream: &TargetStream) {
        let ground = Ground::new(self, lease.term(), streams, stream);
        loop {
            let pull = ground.pull(&self.setup, stream);
            let target = &self.courier.target.name;
            let place = format!("consumer of target {target} on stream {}", stream.stream);
            self.readiness.follow(place, pull.attached());
            let leader = Leader::new(&ground, self.setup.space.part());
            match leader.run(pull).await {
                Over::Drained => return,
                Over::BeginAgain => sleep(BEGIN_AGAIN_AFTER).await,
            }
        }
    }
}

/// Does `work` for as long as the lease is held; `None` when it was lost before the end. It is looked at before every
/// step: a process that stood still must not go on where it was.
async fn fenced<T>(lease: &Lease, fence: Option<&Fence>, work: impl Future<Output = T>) -> Option<T> {
    let mut fence_at = None;
    let mut work = pin!(work);
    let mut keep = pin!(lease.keep());
    poll_fn(|context| {
        if !lease.is_held() || keep.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let until = lease.held_until();
        if let Some(fence) = fence
            && fence_at.replace(until) != Some(until)
        {
            fence.set(Some(until));
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}
