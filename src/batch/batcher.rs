//! How a delivery joins a batch and learns what became of it. Who takes the members in and sends them is
//! `connector::batches`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot};

use super::{Batching, Entry, Format, Judgement};

/// A delivery that waits in a batch, or goes with it.
#[derive(Debug)]
pub struct Member {
    /// What the batch takes along of it.
    pub entry: Entry,
    /// Where it waits to be told how its request ended. Dropped without a word, the delivery goes back to where it came from.
    pub end: oneshot::Sender<MemberEnd>,
}

/// How a batch's request ended for one member.
#[derive(Debug)]
pub struct MemberEnd {
    /// How, and what that means.
    pub judgement: Judgement,
    /// When the request began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// Where the deliveries of a target join its batches.
#[derive(Debug)]
pub struct Batcher {
    format: Format,
    joining: mpsc::UnboundedSender<Member>,
    /// How many have joined a batch that the lane does not know of yet.
    waiting: AtomicUsize,
}

/// Where deliveries join, and where they come out. How many can wait between the two is bounded by how many are open.
#[must_use]
pub fn batcher(batching: &Batching) -> (Batcher, mpsc::UnboundedReceiver<Member>) {
    let (joining, joined) = mpsc::unbounded_channel();
    (Batcher { format: batching.format, joining, waiting: AtomicUsize::new(0) }, joined)
}

impl Batcher {
    /// What the body of its batches looks like.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Joins the batch that is forming, and waits for the end of its request; `None` when natshook ends before it could
    /// begin.
    pub async fn join(&self, entry: Entry) -> Option<MemberEnd> {
        let (end, told) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.joining.send(Member { entry, end }).is_err() {
            self.entered(1);
            return None;
        }
        told.await.ok()
    }

    /// How many have joined a batch that the lane does not know of yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A batch of so many `members` waits for its permit now, or has it.
    pub fn entered(&self, members: usize) {
        self.waiting.fetch_sub(members, Ordering::Relaxed);
    }
}
