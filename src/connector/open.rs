//! The deliveries that are open at a moment: run side by side, without a task for each, and told to the broker
//! as being worked on. Knows no target and no policy.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{delivery::Ending, source::Receipt};

/// How often open deliveries are looked at.
const TICK: Duration = Duration::from_secs(4);
/// After this time without a word the broker is told that work goes on. With the tick this makes a word every 8
/// to 11 seconds at the latest, within the consumers' `ack_wait` of 20.
const PROGRESS_AFTER: Duration = Duration::from_secs(7);

/// The most bytes of payloads that the open deliveries of a source may hold before nothing more is taken: slow
/// receivers must not fill the memory.
const BYTES_MAX: usize = 32 * 1024 * 1024;

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
    bytes: usize,
}

impl<'a> OpenDeliveries<'a> {
    pub(super) fn new() -> Self {
        Self { open: FuturesUnordered::new(), bytes: 0 }
    }

    /// When to call [`Self::report_progress`].
    pub(super) fn ticks() -> Interval {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many more may be opened if `most` may be open; none while their payloads hold too much memory.
    pub(super) fn room(&self, most: usize) -> usize {
        if self.bytes > BYTES_MAX { 0 } else { most.saturating_sub(self.len()) }
    }

    /// Opens a delivery with `bytes` of payload; it makes its first step with the next call of
    /// [`Self::advance`].
    pub(super) fn push(
        &mut self,
        receipt: &Receipt,
        bytes: usize,
        work: impl Future<Output = ()> + Send + 'a,
    ) {
        self.bytes += bytes;
        let receipt = receipt.clone();
        self.open.push(Open { receipt, bytes, told: Instant::now(), work: Box::pin(work) });
    }

    /// Lets every delivery that can go on do so, without waiting.
    pub(super) fn advance(&mut self) {
        while let Some(Some(bytes)) = self.open.next().now_or_never() {
            self.bytes -= bytes;
        }
    }

    /// Resolves when a delivery has ended; never while none is open.
    pub(super) async fn one_ended(&mut self) {
        match self.open.next().await {
            Some(bytes) => self.bytes -= bytes,
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
        let mut ticks = Self::ticks();
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
