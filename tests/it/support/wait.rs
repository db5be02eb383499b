//! Waiting for conditions: never a fixed sleep where something can be observed.

use std::time::{Duration, Instant};

/// Between two looks at a condition. Short, so that a test is as fast as what it watches.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Short for `Duration::from_secs`.
pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Short for `Duration::from_millis`.
pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Returns as soon as `holds` does; panics with `what` when that takes longer than `within`.
pub(crate) async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    until_some(what, within, async || holds().await.then_some(())).await;
}

/// Like [`until`], for a condition that yields something.
pub(crate) async fn until_some<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Panics as soon as `holds` does not, within `span`. For what must *not* happen, where no event marks
/// the end of the wait; prefer a later message as the mark where there is one.
pub(crate) async fn throughout(what: &str, span: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < span {
        assert!(holds().await, "no longer after {:?}: {what}", started.elapsed());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
