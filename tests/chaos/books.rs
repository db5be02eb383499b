//! What the broker's books say: consumers, the retry queue, the dead letters. Asks the broker; judges nothing.

use std::collections::HashSet;

use async_nats::jetstream::Context;

use crate::ledger::{Key, Numbered};
use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE, Stored, stored_in};
use crate::support::{secs, until_some};

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Everything up to this sequence is acked.
    pub(crate) floor: u64,
    /// Not handed out yet.
    pub(crate) pending: u64,
    /// Handed out and not acked.
    pub(crate) unacked: usize,
}

impl Standing {
    /// Whether everything there is has been handed out and acked.
    pub(crate) fn is_settled(self) -> bool {
        self.pending == 0 && self.unacked == 0
    }
}

/// A broker's books, read over one connection that mends itself.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    pub(crate) context: Context,
}

impl Books {
    pub(crate) fn new(client: async_nats::Client) -> Self {
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(secs(2));
        Self { context }
    }

    /// `None` when there is no such consumer, or the broker does not answer.
    pub(crate) async fn consumer(&self, stream: &str, name: &str) -> Option<Standing> {
        let stream = self.context.get_stream(stream).await.ok()?;
        let info = stream.consumer_info(name).await.ok()?;
        let floor = info.ack_floor.stream_sequence;
        Some(Standing { floor, pending: info.num_pending, unacked: info.num_ack_pending })
    }

    /// Where a target's consumer stands, once the broker answers.
    pub(crate) async fn target(&self, target: usize) -> Standing {
        let name = format!("natshook-{target}");
        until_some("the broker tells of a consumer", secs(30), async || self.consumer(EVENTS, &name).await)
            .await
    }

    /// How many messages a stream holds; `None` when the broker does not answer or there is no such stream.
    pub(crate) async fn count(&self, stream: &str) -> Option<u64> {
        Some(self.context.get_stream(stream).await.ok()?.cached_info().state.messages)
    }

    /// Where everything stands, for whoever has to find out why it does not move.
    pub(crate) async fn report(&self, targets: usize) -> String {
        let mut lines = Vec::new();
        for target in 0..targets {
            lines.push(format!(
                "target {target}: {:?}",
                self.consumer(EVENTS, &format!("natshook-{target}")).await
            ));
        }
        lines.push(format!("retries: {:?}", self.consumer(RETRY_QUEUE, "natshook-retry").await));
        lines.push(format!("waiting: {:?}", self.waiting().await));
        lines.join("; ")
    }

    /// Which deliveries wait in the retry queue.
    pub(crate) async fn waiting(&self) -> HashSet<Key> {
        self.held(RETRY_QUEUE).await.iter().filter_map(key).collect()
    }

    /// The dead letters, each delivery once for each time that it is stored.
    pub(crate) async fn dead_letters(&self) -> Vec<Key> {
        self.held(DEAD_LETTERS).await.iter().filter_map(key).collect()
    }

    async fn held(&self, stream: &str) -> Vec<Stored> {
        // A message that the broker did not hand out in time would look like a lost one.
        until_some("the broker hands out all that a stream holds", secs(60), async || {
            let count = self.count(stream).await?;
            let held = stored_in(&self.context, stream).await;
            (held.len() as u64 >= count).then_some(held)
        })
        .await
    }
}

/// The target stands at the end of the subject, the number in the payload.
fn key(stored: &Stored) -> Option<Key> {
    let target = stored.subject.rsplit('.').next()?.parse().ok()?;
    Some((target, Numbered::read(&stored.payload)?.number))
}
