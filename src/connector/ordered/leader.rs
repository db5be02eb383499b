//! The leader of one of an ordered target's streams: takes messages, attempts the first of each line, parks what has to
//! wait. Which message may be attempted is decided by [`Lines`], what becomes of it by the courier.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{
    super::{pump, space::Part},
    ground::Ground,
};
use crate::{
    delivery::Settled,
    message::{Delivery, Message, Origin},
    order::{Arrival, Key, Lines, Parked, Place, Start},
    source::{Incoming, Pull, Receipt},
    status::OrderState,
};

/// How often messages in memory are looked at.
const TICK: Duration = Duration::from_secs(4);
/// After this time without a word the broker is told that work goes on, as in `open`.
const PROGRESS_AFTER: Duration = Duration::from_secs(7);
/// After so long without a message nothing more is expected of requests that are open.
const QUIET: Duration = Duration::from_millis(250);

/// How leading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// natshook drains.
    Drained,
    /// What is known of the stream does not hold any more: it has to be taken over once more.
    BeginAgain,
}

/// A message in memory, which the broker has not been told to forget.
struct Held {
    /// `None` while it is being worked on.
    delivery: Option<Delivery>,
    receipt: Receipt,
    bytes: usize,
    /// When the broker last heard of it.
    told: Instant,
}

/// What a piece of work came to.
enum Done {
    /// The first of a line was attempted.
    Attempted(Key, u64, Settled),
    /// A message behind it was to be parked.
    Parked(Key, u64, Settled),
    /// The broker forgot a message that is parked already.
    Forgotten,
}

/// What is under way.
pub(super) struct Leader<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) lines: Lines,
    held: HashMap<u64, Held>,
    work: FuturesUnordered<BoxFuture<'a, Done>>,
    /// How many attempts are under way.
    running: usize,
    part: Part,
}

impl<'a> Leader<'a> {
    pub(super) fn new(ground: &'a Ground<'a>, part: Part) -> Self {
        let lines = Lines::new(ground.share());
        Self { ground, lines, held: HashMap::new(), work: FuturesUnordered::new(), running: 0, part }
    }

    /// Takes over from the leader before, and leads until natshook drains or it has to be begun again.
    pub(super) async fn run(mut self, mut pull: Pull) -> Over {
        let over = match self.take_over(&mut pull).await {
            Ok(()) => self.lead(&mut pull).await,
            Err(over) => over,
        };
        self.finish(pull).await;
        over
    }

    async fn lead(&mut self, pull: &mut Pull) -> Over {
        let courier = self.ground.courier;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let open = courier.lane.closed_for().is_none() && !courier.lane.is_paused();
            let has_room = open && self.begin_attempts();
            let wanted = if open { self.ground.window.saturating_sub(self.held.len()) } else { 0 };
            let room = self.part.room(wanted);
            let due = self.lines.due();
            tokio::select! {
                biased;
                () = courier.ending.drain.cancelled() => return Over::Drained,
                Some(done) = self.work.next() => if let Err(over) = self.settled(done) {
                    return over;
                },
                incoming = pull.next(room.messages, room.bytes) => if let Err(over) = self.take_in(incoming, pull).await {
                    return over;
                },
                _ = ticks.tick() => {
                    self.report_progress().await;
                    self.look_after(pull);
                }
                () = until(due), if has_room => {}
                () = pump::lane_moves(courier), if !open => {}
            }
        }
    }

    /// Begins what may be attempted; false when the lane has no room for more.
    fn begin_attempts(&mut self) -> bool {
        while self.running < self.ground.courier.lane.limit() {
            let Some(start) = self.lines.next(SystemTime::now()) else { return true };
            self.attempt(start);
        }
        false
    }

    fn attempt(&mut self, Start { key, sequence, place }: Start) {
        let ground = self.ground;
        let work: BoxFuture<'a, Settled> = match place {
            Place::Parked(parked) => ground.attempt_parked(Key::clone(&key), parked).boxed(),
            Place::Memory | Place::Parking => {
                let Some(incoming) = self.take(sequence) else { return self.lines.ended(&key, sequence) };
                ground.courier.run_through(incoming, &ground.queue).boxed()
            }
        };
        self.running += 1;
        self.work.push(work.map(move |settled| Done::Attempted(key, sequence, settled)).boxed());
    }

    /// Parks a message in memory, unless the retry queue cannot hold it.
    fn park(&mut self, key: Key, sequence: u64) {
        let ground = self.ground;
        let Some(incoming) = self.take(sequence) else { return };
        if !ground.queue.can_hold(&incoming.delivery) {
            if let Some(held) = self.held.get_mut(&sequence) {
                held.delivery = Some(incoming.delivery);
            }
            return self.lines.keep(&key, sequence);
        }
        self.work
            .push(ground.park(incoming).map(move |settled| Done::Parked(key, sequence, settled)).boxed());
    }

    /// A message in memory, to be worked on. How often it was handed out says nothing here: it may have been behind
    /// others each time.
    fn take(&mut self, sequence: u64) -> Option<Incoming> {
        let held = self.held.get_mut(&sequence)?;
        let delivery = held.delivery.take()?;
        Some(Incoming { delivery, receipt: held.receipt.clone(), handed_out: 1 })
    }

    /// Takes in a message that the broker has handed out. What it handed out to somebody else before may have to go first: a
    /// leader that stood still asks for messages once more when it goes on, and a person may.
    async fn take_in(&mut self, incoming: Incoming, pull: &mut Pull) -> Result<(), Over> {
        self.arrived(incoming)?;
        if !pull.take_elsewhere() {
            return Ok(());
        }
        let target = &self.ground.courier.target.name;
        tracing::info!(%target, "messages of the ordered target were handed out elsewhere; waiting until they are back");
        self.collect(pull).await
    }

    /// Takes in a message that the broker has handed out.
    pub(super) fn arrived(&mut self, incoming: Incoming) -> Result<(), Over> {
        let Incoming { delivery, receipt, .. } = incoming;
        let receipt = receipt.confirmed();
        let key = self.ground.order.key(&delivery.message);
        let sequence = sequence(&delivery.message);
        let arrival = self.lines.arrive(&key, sequence, delivery.message.published);
        match arrival {
            Arrival::Keep | Arrival::Park => {
                let bytes = delivery.message.payload.len();
                self.part.opened(bytes);
                let held = Held { delivery: Some(delivery), receipt, bytes, told: Instant::now() };
                self.held.insert(sequence, held);
                if arrival == Arrival::Park {
                    self.park(key, sequence);
                }
            }
            Arrival::Held => {}
            Arrival::Parked | Arrival::Settled => {
                self.work.push(async move { receipt.ack().await }.map(|()| Done::Forgotten).boxed());
            }
            Arrival::Stranger => return Err(Over::BeginAgain),
        }
        Ok(())
    }

    fn settled(&mut self, done: Done) -> Result<(), Over> {
        match done {
            Done::Forgotten => Ok(()),
            Done::Attempted(key, sequence, settled) => {
                self.running -= 1;
                self.attempted(&key, sequence, settled)
            }
            Done::Parked(key, sequence, settled) => {
                self.forget(sequence);
                let parked = parked(settled).ok_or(Over::BeginAgain)?;
                self.lines.parked(&key, sequence, parked);
                Ok(())
            }
        }
    }

    fn attempted(&mut self, key: &Key, sequence: u64, settled: Settled) -> Result<(), Over> {
        self.forget(sequence);
        match settled {
            Settled::Ended => self.lines.ended(key, sequence),
            Settled::Waits { .. } => {
                let parked = parked(settled).ok_or(Over::BeginAgain)?;
                for behind in self.lines.waits(key, sequence, parked) {
                    self.park(Key::clone(key), behind);
                }
            }
            Settled::HandedBack => return Err(Over::BeginAgain),
        }
        Ok(())
    }

    /// A message is not in memory any more, if it was.
    fn forget(&mut self, sequence: u64) {
        if let Some(held) = self.held.remove(&sequence) {
            self.part.ended(held.bytes);
        }
    }

    /// Whether anything is being attempted, parked or acked.
    pub(super) fn is_at_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// How many messages are in memory.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Resolves when a piece of work has been settled; never while there is none.
    pub(super) async fn work_once(&mut self) -> Result<(), Over> {
        match self.work.next().await {
            Some(done) => self.settled(done),
            None => std::future::pending().await,
        }
    }

    /// Tells the broker of every message in memory that work goes on.
    pub(super) async fn report_progress(&mut self) {
        let now = Instant::now();
        for held in self.held.values_mut() {
            if now.duration_since(held.told) >= PROGRESS_AFTER {
                held.told = now;
                held.receipt.progress().await;
            }
        }
    }

    fn look_after(&self, pull: &mut Pull) {
        let courier = self.ground.courier;
        courier.status.note_order(OrderState::Leading {
            parked: u64::try_from(self.lines.parked_count()).unwrap_or(u64::MAX),
        });
        courier.journal.sum_up();
        pull.watch_silence();
        if let Some(check) = pull.check_gaps() {
            let (target, metrics) = (courier.target.name.clone(), courier.metrics.clone());
            tokio::spawn(pump::tell_of_dropped(check, target, metrics));
        }
    }

    /// Lets attempts under way end, and hands back everything else: last, so that no request that is still open gets it.
    async fn finish(mut self, pull: Pull) {
        let (late, ()) = tokio::join!(run_dry(pull), self.end_work());
        let held = self.held.values().map(|held| &held.receipt);
        for receipt in held.chain(&late) {
            receipt.hand_back(Duration::ZERO).await;
        }
    }

    async fn end_work(&mut self) {
        let abandon = &self.ground.courier.ending.abandon;
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                biased;
                done = self.work.next() => match done {
                    Some(Done::Attempted(_, sequence, _) | Done::Parked(_, sequence, _)) => self.forget(sequence),
                    Some(Done::Forgotten) => {}
                    None => return,
                },
                () = abandon.cancelled() => return,
                _ = ticks.tick() => self.report_progress().await,
            }
        }
    }
}

/// Takes what open requests still bring, and ends them. What the broker sends at the very moment in which a subscription
/// ends is dropped, and the next leader would have to wait for it until `ack_wait` has passed.
async fn run_dry(mut pull: Pull) -> Vec<Receipt> {
    let mut late = Vec::new();
    while pull.outstanding() > 0
        && let Ok(incoming) = timeout(QUIET, pull.next(0, 0)).await
    {
        late.push(incoming.receipt);
    }
    pull.close().await;
    late
}

/// Resolves at `due`; never if there is no such time.
async fn until(due: Option<SystemTime>) {
    match due {
        Some(due) => sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

fn parked(settled: Settled) -> Option<Parked> {
    match settled {
        Settled::Waits { copy, attempts, due } => Some(Parked { copy, attempts, not_before: due }),
        Settled::Ended | Settled::HandedBack => None,
    }
}

fn sequence(message: &Message) -> u64 {
    match &message.origin {
        Origin::Stored { sequence, .. } => *sequence,
        Origin::Passing { .. } => 0,
    }
}
