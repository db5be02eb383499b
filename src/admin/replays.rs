//! Replaying many dead letters: how many it would be, and one run at a time, which can be watched and stopped. A run that
//! is cut off loses and doubles nothing (see `dead_letter::replay`); run again, it does the rest.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Form,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Admin,
    access::Asker,
    letters::{self, LettersError},
    pages::{self, Confirmation, Filter},
};
use crate::{
    dead_letter::{DeadLetterOffice, OfficeError, Pace, Selection, Tally},
    target::{Rate, TargetName},
};

/// So many letters are counted one by one, at most.
const COUNTED_MAX: u64 = 5_000;
/// And for so long, at most.
const COUNTING_LIMIT: Duration = Duration::from_secs(5);
/// So many are read at a time: their bodies are in memory together.
const COUNTED_AT_ONCE: usize = 50;
/// The fastest replay, per second: deliveries go on beside it, in the same thread.
const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();

/// How many letters a filter selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// So many.
    Exactly(u64),
    /// So many were counted in the time there was.
    AtLeast(u64),
}

/// How the replay of many letters stands.
#[derive(Clone, Debug, Default)]
pub(super) enum Run {
    /// None was made.
    #[default]
    None,
    /// It goes on.
    Going {
        /// Of which letters.
        filter: Filter,
        /// So far.
        tally: Tally,
    },
    /// It is over.
    Over {
        /// Of which letters.
        filter: Filter,
        /// In the end.
        tally: Tally,
        /// Why.
        end: End,
    },
}

/// Why a run is over.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// There was nothing left.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// The broker did not go along.
    Failed(String),
}

/// The latest run.
#[derive(Debug, Default)]
pub(super) struct Replays(Arc<Mutex<Latest>>);

#[derive(Debug, Default)]
struct Latest {
    run: Run,
    stop: CancellationToken,
}

impl Replays {
    /// How it stands.
    pub(super) fn run(&self) -> Run {
        locked(&self.0).run.clone()
    }

    /// Begins a run, unless one goes on.
    fn begin(
        &self,
        office: DeadLetterOffice,
        filter: Filter,
        selection: Selection,
        known: Vec<TargetName>,
    ) -> Result<(), LettersError> {
        let stop = {
            let mut state = locked(&self.0);
            if matches!(state.run, Run::Going { .. }) {
                return Err(LettersError::Busy);
            }
            state.run = Run::Going { filter: filter.clone(), tally: Tally::default() };
            state.stop = CancellationToken::new();
            state.stop.clone()
        };
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let replaying = replay(&state, &office, &selection, known);
            let end = tokio::select! {
                replayed = replaying => replayed.map_or_else(|error| End::Failed(error.to_string()), |()| End::Done),
                () = stop.cancelled() => End::Stopped,
            };
            locked(&state).end(end);
        });
        Ok(())
    }
}

impl Latest {
    fn end(&mut self, end: End) {
        if let Run::Going { filter, tally } = std::mem::take(&mut self.run) {
            tracing::info!(
                stored = tally.stored,
                refused = tally.refused,
                ?end,
                "a replay from the status page is over"
            );
            self.run = Run::Over { filter, tally, end };
        }
    }
}

async fn replay(
    state: &Mutex<Latest>,
    office: &DeadLetterOffice,
    selection: &Selection,
    known: Vec<TargetName>,
) -> Result<(), OfficeError> {
    let replay = office.begin_replay(selection, known).await?;
    let pace = Pace { rate: Some(Rate { requests: RATE, per: Duration::from_secs(1) }) };
    let told = |_, replayed: &_| {
        if let Run::Going { tally, .. } = &mut locked(state).run {
            tally.count(replayed);
        }
    };
    replay.selection(selection, &pace, told).await.map(drop)
}

fn locked(latest: &Mutex<Latest>) -> MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The step before: which letters, and how many.
pub(super) async fn confirm(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Query(filter): Query<Filter>,
) -> Response {
    let counted = async {
        let selection = filter.selection(SystemTime::now())?;
        let counted = count(&letters::office(&admin.control.line(&filter.connection)?)?, &selection).await?;
        Ok((filter.fixed(&selection), counted))
    };
    match counted.await {
        Ok((filter, counted)) => pages::confirm(asker, &Confirmation { filter, counted }).into_response(),
        Err(error) => LettersError::page(&error, asker),
    }
}

async fn count(office: &DeadLetterOffice, selection: &Selection) -> Result<Counted, OfficeError> {
    let Selection { target, reason: None, since: None, before: None } = selection else {
        return count_singly(office, selection).await;
    };
    let counts = office.targets().await?;
    let of = |name: &TargetName| counts.get(name.as_str()).copied().unwrap_or_default();
    Ok(Counted::Exactly(target.as_ref().map_or_else(|| counts.values().sum(), of)))
}

async fn count_singly(office: &DeadLetterOffice, selection: &Selection) -> Result<Counted, OfficeError> {
    let until = Instant::now() + COUNTING_LIMIT;
    let (mut counted, mut after) = (0, 0);
    loop {
        // Where few letters match, looking for the next ones can take long.
        let Ok(page) = timeout_at(until, office.page(selection, after, COUNTED_AT_ONCE)).await else {
            return Ok(Counted::AtLeast(counted));
        };
        let page = page?;
        counted += page.letters.len() as u64;
        match page.next {
            None => return Ok(Counted::Exactly(counted)),
            Some(_) if counted >= COUNTED_MAX => {
                return Ok(Counted::AtLeast(counted));
            }
            Some(next) => after = next,
        }
    }
}

/// Begins to replay what was confirmed.
pub(super) async fn start(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Form(filter): Form<Filter>,
) -> Response {
    let begun = || {
        let selection = filter.selection(SystemTime::now())?;
        let line = admin.control.line(&filter.connection)?;
        admin.replays.begin(letters::office(&line)?, filter.clone(), selection, letters::known(&line))
    };
    match begun() {
        Ok(()) => {
            tracing::info!(?filter, "dead letters are replayed from the status page");
            Redirect::to(&format!("/dead-letters?{}", filter.query())).into_response()
        }
        Err(error) => LettersError::page(&error, asker),
    }
}

/// Stops the run that goes on, if one does.
pub(super) async fn stop(State(admin): State<Arc<Admin>>) -> Redirect {
    locked(&admin.replays.0).stop.cancel();
    Redirect::to("/dead-letters")
}
