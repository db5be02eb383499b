//! The deliveries that are open at a moment: run side by side, without a task for each, and told to the broker
//! as being worked on. Knows no target and no policy.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::space::{Part, Room};
use crate::{delivery::Ending, source::Receipt};

/// How often open deliveries are looked at.
const TICK: Duration = Duration::from_secs(4);
/// How many groups of sources there are that tick together.
const TICK_GROUPS: u32 = 16;
/// After this time without a word the broker is told that work goes on. With the tick this makes a word every 8
/// to 11 seconds at the latest, within the consumers' `ack_wait` of 20.
const PROGRESS_AFTER: Duration = Duration::from_secs(7);

/// A delivery under way, and what it holds.
struct Open<'a> {
    receipt: Receipt,
    bytes: usize,
    told: Instant,
    work: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl Future for Open<'_> {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let bytes = self.bytes;
        self.work.as_mut().poll(context).map(|()| bytes)
    }
}

/// All open deliveries of one source.
pub(super) struct OpenDeliveries<'a> {
    open: FuturesUnordered<Open<'a>>,
    part: Part,
}

impl<'a> OpenDeliveries<'a> {
    /// None yet; `part` is what they may take.
    pub(super) fn new(part: Part) -> Self {
        Self { open: FuturesUnordered::new(), part }
    }

    /// When to call [`Self::report_progress`]. Sources tick in groups: each of a thousand on its own would wake the
    /// process 250 times a second for nothing, and all at once would hold up deliveries.
    pub(super) fn ticks(&self) -> Interval {
        let phase = TICK / TICK_GROUPS * self.part.group(TICK_GROUPS);
        let mut ticks = interval_at(self.part.began() + phase, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }

    pub(super) fn len(&self) -> usize {
        self.part.open()
    }

    /// What may be asked for now, if `most` may be open and `wanted` more would be welcome.
    pub(super) fn room(&mut self, most: usize, wanted: usize) -> Room {
        self.part.room(wanted.min(most.saturating_sub(self.len())))
    }

    /// Opens a delivery with `bytes` of payload; it makes its first step with the next call of
    /// [`Self::advance`].
    pub(super) fn push(
        &mut self,
        receipt: &Receipt,
        bytes: usize,
        work: impl Future<Output = ()> + Send + 'a,
    ) {
        self.part.opened(bytes);
        let receipt = receipt.clone();
        self.open.push(Open { receipt, bytes, told: Instant::now(), work: Box::pin(work) });
    }

    /// Lets every delivery that can go on do so, without waiting.
    pub(super) fn advance(&mut self) {
        while let Some(Some(bytes)) = self.open.next().now_or_never() {
            self.part.ended(bytes);
        }
    }

    /// Resolves when a delivery has ended; never while none is open.
    pub(super) async fn one_ended(&mut self) {
        match self.open.next().await {
            Some(bytes) => self.part.ended(bytes),
            None => std::future::pending().await,
        }
    }

    /// Tells the broker of every delivery that has been open for a while that work goes on.
    pub(super) async fn report_progress(&mut self) {
        let now = Instant::now();
        let mut quiet = Vec::new();
        for open in self.open.iter_mut() {
            if now.duration_since(open.told) >= PROGRESS_AFTER {
                open.told = now;
                quiet.push(open.receipt.clone());
            }
        }
        for receipt in quiet {
            receipt.progress().await;
        }
    }

    /// Runs what is open to its end; when the grace period is over, gives back what can be given back.
    pub(super) async fn finish(mut self, ending: &Ending) {
        let mut ticks = self.ticks();
        while self.len() > 0 {
            tokio::select! {
                biased;
                () = self.one_ended() => {}
                () = ending.abandon.cancelled() => break,
                _ = ticks.tick() => self.report_progress().await,
            }
        }
        let (back, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| open.receipt.takes_back());
        for open in back {
            open.receipt.hand_back(Duration::ZERO).await;
        }
        rest.into_iter().collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
    }
}
