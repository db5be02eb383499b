//! The batches of one target: takes in the deliveries that join, sends a batch when it is full or its time has come, and
//! tells each member how it ended. A batch that is refused goes again in halves, until whoever spoils it stands alone.
//! What becomes of a member is for `delivery`, which waits for the word.

use std::{
    future::pending,
    sync::Arc,
    time::{Instant, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{self, Batcher, Batching, Entry, Forming, Judged, Member, MemberEnd, halves, judge},
    delivery::Courier,
    failpoint::Failpoint,
    outcome::Outcome,
    retry_queue::RetryQueue,
};

/// Both halves of a batch that was refused, to be sent each on its own.
type Halves = Option<[Vec<Member>; 2]>;

/// Who sends the batches of a target.
#[derive(Debug)]
pub(super) struct Batches {
    courier: Arc<Courier>,
    batching: Batching,
    joined: UnboundedReceiver<Member>,
    /// Nobody joins any more.
    over: CancellationToken,
}

impl Batches {
    /// For `courier`, whose deliveries come out of `joined`.
    pub(super) fn new(courier: Arc<Courier>, batching: Batching, joined: UnboundedReceiver<Member>) -> Self {
        Self { courier, batching, joined, over: CancellationToken::new() }
    }

    /// What is to be cancelled when the target's own source has ended.
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Sends batches until nobody joins any more. While natshook drains none waits to become full; when the grace period
    /// is over nobody is told anything, and all go back to where they came from.
    pub(super) async fn run(self) {
        let Self { courier, batching, mut joined, over } = self;
        let Some(batcher) = &courier.batcher else { return };
        let ending = &courier.ending;
        let post = Post { courier: &courier, batching: &batching, batcher };
        let mut forming = Forming::new(batching.clone());
        let mut sending = FuturesUnordered::new();
        loop {
            while let Ok(member) = joined.try_recv() {
                sending.extend(post.add(&mut forming, member).map(|members| post.send(members)));
            }
            let (draining, over_now) = (ending.drain.is_cancelled(), joined.is_closed());
            if draining || over_now {
                sending.extend(post.close(&mut forming).map(|members| post.send(members)));
            }
            if over_now && sending.is_empty() {
                return;
            }
            let due = forming.due();
            tokio::select! {
                biased;
                () = ending.abandon.cancelled() => return,
                Some(refused) = sending.next() => {
                    sending.extend(refused.into_iter().flatten().map(|half| post.send(half)));
                }
                Some(member) = joined.recv() => {
                    sending.extend(post.add(&mut forming, member).map(|members| post.send(members)));
                }
                () = until(due) => {
                    sending.extend(post.close(&mut forming).map(|members| post.send(members)));
                }
                () = ending.drain.cancelled(), if !draining => {}
                () = over.cancelled(), if !over_now => joined.close(),
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// What it takes to send a batch.
struct Post<'a> {
    courier: &'a Courier,
    batching: &'a Batching,
    batcher: &'a Batcher,
}

impl Post<'_> {
    /// One more joins; what is full now is to be sent.
    fn add(&self, forming: &mut Forming<Member>, member: Member) -> impl Iterator<Item = Vec<Member>> {
        let bytes = member.entry.part.len();
        let full = forming.add(member, bytes, Instant::now());
        full.into_iter().flatten().inspect(|members| self.batcher.entered(members.len()))
    }

    /// What waits is to be sent, full or not. From then on the lane counts a request, and not its members.
    fn close(&self, forming: &mut Forming<Member>) -> Option<Vec<Member>> {
        forming.close().inspect(|members| self.batcher.entered(members.len()))
    }

    /// Sends a batch, and tells its members how that ended; or returns its halves when all of it was refused.
    async fn send(&self, mut members: Vec<Member>) -> Halves {
        let Self { courier, batching, .. } = self;
        // Transforms end in any order, and retries come when they are due.
        members.sort_by_key(|member| member.entry.published);
        let pass = tokio::select! {
            biased;
            pass = courier.lane.enter() => pass,
            () = self.stop().cancelled() => return None,
        };
        let started = SystemTime::now();
        let entries: Vec<&Entry> = members.iter().map(|member| &member.entry).collect();
        let request = batch::request(&courier.template, batching.format, &entries, started);
        let end = courier.sender.attempt(|| request.clone()).await;
        Failpoint::Answered.pass();
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let Judged { request, each } = judge(&end, &courier.target.outcomes, &batching.answer, &ids);
        let took = courier.requested(pass, &request.end, request.outcome);
        courier.metrics.batch_sent(members.len());
        if request.outcome == Outcome::Permanent && each.is_none() && members.len() > 1 {
            return Some(halves(members));
        }
        let each = each.unwrap_or_else(|| vec![request; members.len()]);
        for (member, judgement) in members.into_iter().zip(each) {
            // Nobody listens where the grace period has just ended.
            let _ = member.end.send(MemberEnd { judgement, started, took });
        }
        None
    }

    /// When a batch that waits for its permit is given up: what cannot be given back waits to the end of the grace period.
    fn stop(&self) -> &CancellationToken {
        let ending = &self.courier.ending;
        match self.courier.retry_queue {
            RetryQueue::Stream(_) | RetryQueue::Parked { .. } => &ending.drain,
            RetryQueue::Memory => &ending.abandon,
        }
    }
}
