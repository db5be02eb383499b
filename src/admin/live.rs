//! What changes on a page while somebody looks at it, as server-sent events: the same markup as the page itself, and
//! only those parts of it that are not as they were sent last.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    extract::{Query, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use super::{
    Admin,
    access::{Asker, Rules},
    pages::{self, Fragment},
    targets::everything,
};

/// Streams at a time.
const STREAMS_MAX: usize = 64;
/// How often a page is looked at for changes.
const TICK: Duration = Duration::from_secs(1);
/// After this time a stream ends, and the page opens another one: so nobody stays whose session has ended.
const STREAM_LIMIT: Duration = Duration::from_secs(600);
/// How often something is sent when nothing changes, so that what lies between does not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Which page is looked at.
#[derive(Clone, Debug, Deserialize, Hash, PartialEq, Eq)]
#[serde(tag = "view", rename_all = "kebab-case")]
pub(super) enum View {
    /// The first one.
    Overview,
    /// That of a target.
    Target {
        /// Its name.
        name: String,
    },
    /// The list of dead letters.
    DeadLetters,
}

/// Bounds the streams, and has a page that several look at written once.
#[derive(Debug)]
pub(super) struct Live {
    room: Arc<Semaphore>,
    written: Mutex<HashMap<View, Written>>,
}

#[derive(Debug)]
struct Written {
    at: Instant,
    fragments: Arc<[Fragment]>,
}

impl Default for Live {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(STREAMS_MAX)), written: Mutex::default() }
    }
}

/// The stream of a page.
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    Extension(asker): Extension<Asker>,
    Extension(rules): Extension<Arc<Rules>>,
    Query(view): Query<View>,
) -> Response {
    if write(&admin, &view).is_none() {
        return pages::failed(asker, StatusCode::NOT_FOUND, "There is no such page.").into_response();
    }
    if admin.control.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "natshook ends\n").into_response();
    }
    let Ok(place) = Arc::clone(&admin.live.room).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let follower = Follower::new(admin, rules, view, place);
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One stream.
struct Follower {
    admin: Arc<Admin>,
    view: View,
    /// Those by which it was let in; when others hold it has to come again.
    rules: Arc<Rules>,
    ticks: Interval,
    began: Instant,
    sent: Arc<[Fragment]>,
    to_send: VecDeque<Fragment>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn new(admin: Arc<Admin>, rules: Arc<Rules>, view: View, place: OwnedSemaphorePermit) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            admin,
            rules,
            view,
            ticks,
            began: Instant::now(),
            sent: Arc::new([]),
            to_send: VecDeque::new(),
            _place: place,
        }
    }

    /// The next change; `None` when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(fragment) = self.to_send.pop_front() {
                return Some(event(&fragment));
            }
            self.ticks.tick().await;
            if self.is_over() {
                return None;
            }
            let fragments = write(&self.admin, &self.view)?;
            self.to_send = changes(&self.sent, &fragments);
            self.sent = fragments;
        }
    }

    fn is_over(&self) -> bool {
        self.admin.control.is_draining()
            || self.began.elapsed() >= STREAM_LIMIT
            || !Arc::ptr_eq(&self.rules, &self.admin.access.rules())
    }
}

/// The parts that are not as they were sent.
fn changes(sent: &[Fragment], now: &[Fragment]) -> VecDeque<Fragment> {
    let sent: HashMap<&str, &str> = sent.iter().map(|part| (part.id.as_str(), &*part.html)).collect();
    now.iter().filter(|part| sent.get(part.id.as_str()) != Some(&&*part.html)).cloned().collect()
}

fn event(fragment: &Fragment) -> Event {
    let told = serde_json::json!({ "id": fragment.id, "html": &*fragment.html });
    Event::default().event("fragment").data(told.to_string())
}

/// The parts of a page as they are now; `None` if there is no such page.
fn write(admin: &Admin, view: &View) -> Option<Arc<[Fragment]>> {
    let mut written = admin.live.written.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    written.retain(|_, written| now.duration_since(written.at) < TICK / 2);
    if let Some(written) = written.get(view) {
        return Some(Arc::clone(&written.fragments));
    }
    let fragments: Arc<[Fragment]> = match view {
        View::Overview => {
            let (snapshot, targets) = everything(&admin.control);
            pages::overview_fragments(&snapshot, &targets).into()
        }
        View::Target { name } => pages::target_fragments(&admin.control.detail(name).ok()?).into(),
        View::DeadLetters => pages::letters_fragments(&admin.replays.run()).into(),
    };
    written.insert(view.clone(), Written { at: now, fragments: Arc::clone(&fragments) });
    Some(fragments)
}
