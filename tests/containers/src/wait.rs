//! Waiting for what must come about, and for no longer than that may take.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(100);

/// `count` seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Waits until `holds`.
///
/// # Panics
/// It does not within `limit`.
pub async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    until_some(what, limit, async || holds().await.then_some(())).await;
}

/// Waits for a value.
///
/// # Panics
/// There is none within `limit`.
pub async fn until_some<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}
