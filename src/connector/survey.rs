//! Asks the broker what waits for each target: at most one question per target in 15 seconds, fewer with many targets.
//! Delivers nothing; what is learned goes to the targets' status, for people and metrics.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::couriers::Couriers;
use crate::{
    config::InstanceName,
    source::{Broker, BrokerError, TargetStream, survey},
    target::TargetName,
};

/// The least time between two questions about a target.
const PERIOD: Duration = Duration::from_secs(15);
/// How many targets are asked about at a time, and the least time between that and the next ones: 20 a second cost broker
/// and natshook little, however many targets there are; a thousand are then asked about once in 50 s. Ten at a time wake
/// the process less often than one after the other.
const AT_ONCE: usize = 10;
const SPACING: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody's turn has come: new targets are due at once.
const IDLE: Duration = Duration::from_secs(1);
/// After this time something that the broker's permissions forbid is asked for again.
const DENIED_PERIOD: Duration = Duration::from_secs(600);
/// How long a stream's `max_age` is believed.
const LIMITS_PERIOD: Duration = Duration::from_secs(120);
/// The most filters of a consumer that are asked for their oldest message.
const FILTERS_MAX: usize = 8;

/// The streams of the targets. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey(Arc<Mutex<BTreeMap<TargetName, Surveyed>>>);

/// What is asked about a target.
#[derive(Clone, Debug)]
struct Surveyed {
    due: Instant,
    places: Vec<Place>,
}

/// One of a target's streams, and what is known of its consumer there.
#[derive(Clone, Debug)]
struct Place {
    stream: Arc<str>,
    filters: Vec<String>,
    undelivered: u64,
    /// The oldest undelivered message, and how far the consumer had come when it was looked up.
    oldest: Option<(u64, SystemTime)>,
}

impl Survey {
    /// From now on `target` is asked about, on these streams.
    pub(super) fn follow(&self, target: &TargetName, streams: &[TargetStream]) {
        let places = streams.iter().map(|stream| Place {
            stream: Arc::clone(&stream.stream),
            filters: stream.filters.iter().map(ToString::to_string).take(FILTERS_MAX).collect(),
            undelivered: 0,
            oldest: None,
        });
        let surveyed = Surveyed { due: Instant::now(), places: places.collect() };
        self.targets().insert(target.clone(), surveyed);
    }

    /// Nobody asks about `target` any more.
    pub(super) fn forget(&self, target: &TargetName) {
        self.targets().remove(target);
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<TargetName, Surveyed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The targets whose turn it is, the most overdue ones first.
    fn due(&self, now: Instant) -> Vec<(TargetName, Surveyed)> {
        let targets = self.targets();
        let mut due: Vec<_> = targets.iter().filter(|(_, surveyed)| surveyed.due <= now).collect();
        due.sort_by_key(|(_, surveyed)| surveyed.due);
        due.into_iter().take(AT_ONCE).map(|(name, surveyed)| (name.clone(), surveyed.clone())).collect()
    }

    fn put_back(&self, target: &TargetName, surveyed: Surveyed) {
        if let Some(kept) = self.targets().get_mut(target) {
            *kept = surveyed;
        }
    }

    /// Asks about all targets in turn, for ever.
    pub(super) async fn run(self, broker: Arc<Broker>, name: InstanceName, couriers: Couriers) {
        let mut limits = Limits::default();
        let mut own_due = Instant::now();
        loop {
            let now = Instant::now();
            if own_due <= now {
                report(own_streams(&broker, &name, &couriers).await);
                own_due = Instant::now() + PERIOD;
            }
            let due = self.due(now);
            let pause = if due.is_empty() { IDLE } else { SPACING };
            for place in due.iter().flat_map(|(_, surveyed)| &surveyed.places) {
                limits.learn(&broker, &place.stream).await;
            }
            let turns = due.into_iter().map(|(target, surveyed)| {
                self.take_turn(&broker, &name, &couriers, &limits, target, surveyed)
            });
            join_all(turns).await;
            sleep(pause).await;
        }
    }

    async fn take_turn(
        &self,
        broker: &Broker,
        name: &InstanceName,
        couriers: &Couriers,
        limits: &Limits,
        target: TargetName,
        mut surveyed: Surveyed,
    ) {
        let mut questions = 0;
        let mut ages = Vec::new();
        let mut answered = true;
        let mut denied = false;
        for place in &mut surveyed.places {
            let asked = place.ask(broker, &name.consumer(target.as_str()), &mut questions).await;
            // Asked of the stream, once for all of its targets.
            let limit = limits.of(&place.stream);
            answered &= asked.is_ok() && limit.is_ok();
            denied |= matches!(asked, Err(BrokerError::Denied(_))) || matches!(limit, Err(Unknown::Denied));
            ages.extend(limit.ok().flatten());
            report(asked);
        }
        if let (true, Some(courier)) = (answered, couriers.get(target.as_str())) {
            let places = &surveyed.places;
            courier.status.note_backlog(|backlog| {
                backlog.pending = Some(places.iter().map(|place| place.undelivered).sum());
                backlog.oldest = Some(places.iter().filter_map(|place| Some(place.oldest?.1)).min());
                backlog.source_max_age = Some(ages.into_iter().min());
            });
        }
        let wait = if denied { DENIED_PERIOD } else { PERIOD * questions.max(1) };
        surveyed.due = Instant::now() + wait;
        self.put_back(&target, surveyed);
    }
}

impl Place {
    /// Learns how far the consumer is behind; only where that has moved, also how old the oldest message is now.
    async fn ask(&mut self, broker: &Broker, consumer: &str, questions: &mut u32) -> Result<(), BrokerError> {
        *questions += 1;
        let lag = survey::lag(broker, &self.stream, consumer).await?;
        let Some(lag) = lag.filter(|lag| lag.undelivered > 0) else {
            (self.undelivered, self.oldest) = (0, None);
            return Ok(());
        };
        self.undelivered = lag.undelivered;
        if self.oldest.is_some_and(|(floor, _)| floor == lag.floor) {
            return Ok(());
        }
        let mut oldest: Option<SystemTime> = None;
        for filter in &self.filters {
            *questions += 1;
            let stored = survey::first_stored_after(broker, &self.stream, lag.floor, filter).await?;
            oldest = oldest.into_iter().chain(stored).min();
        }
        self.oldest = oldest.map(|time| (lag.floor, time));
        Ok(())
    }
}

/// The streams' `max_age`, from memory while it is fresh: targets share streams.
#[derive(Debug, Default)]
struct Limits(HashMap<Arc<str>, Limit>);

#[derive(Debug)]
struct Limit {
    asked: Instant,
    max_age: Result<Option<Duration>, Unknown>,
}

/// Why a stream's `max_age` is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Denied,
    NotAnswered,
}

impl Limits {
    async fn learn(&mut self, broker: &Broker, stream: &Arc<str>) {
        let is_fresh = |limit: &Limit| limit.max_age.is_ok() && limit.asked.elapsed() < LIMITS_PERIOD;
        if self.0.get(stream).is_some_and(is_fresh) {
            return;
        }
        let asked = survey::max_age(broker, stream).await;
        let max_age = asked.as_ref().map(|age| *age).map_err(|error| match error {
            BrokerError::Denied(_) => Unknown::Denied,
            _ => Unknown::NotAnswered,
        });
        report(asked.map(drop));
        self.0.insert(Arc::clone(stream), Limit { asked: Instant::now(), max_age });
    }

    fn of(&self, stream: &str) -> Result<Option<Duration>, Unknown> {
        self.0.get(stream).map_or(Err(Unknown::NotAnswered), |limit| limit.max_age)
    }
}

/// How many deliveries and dead letters of each target natshook's own streams hold: one question to each.
async fn own_streams(broker: &Broker, name: &InstanceName, couriers: &Couriers) -> Result<(), BrokerError> {
    // What waits for its next attempt, and what waits for its turn.
    let waiting = survey::counts(broker, &name.retry_stream(), ">").await?;
    let dead = survey::counts(broker, &name.dead_letter_stream(), &name.dead_letter_subject("*")).await?;
    for courier in couriers.all() {
        let target = courier.target.name.as_str();
        let count =
            |counts: &HashMap<String, u64>, subject: String| counts.get(&subject).copied().unwrap_or(0);
        courier.status.note_backlog(|backlog| {
            let parked = count(&waiting, name.ordered_subject(target));
            backlog.retry_waiting = Some(count(&waiting, name.retry_subject(target)) + parked);
            backlog.dead_letters = Some(count(&dead, name.dead_letter_subject(target)));
        });
    }
    Ok(())
}

/// A question that was not answered is asked again in its turn.
fn report(asked: Result<(), BrokerError>) {
    if let Err(error) = asked {
        tracing::debug!(%error, "the broker does not say what waits");
    }
}
