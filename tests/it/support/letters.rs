//! Dead letters written straight into their stream, as natshook writes them, and many of them fast.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};

use super::broker::{DEAD_LETTERS, RETRY_QUEUE};

/// What is published before acks are waited for.
const IN_FLIGHT: usize = 512;

/// Makes natshook's own two streams as it would, but for the duplicate window.
pub(crate) async fn own_streams(context: &jetstream::Context, duplicate_window: Duration) {
    for (name, subject, retention) in [
        (RETRY_QUEUE, "natshook.retry.*", stream::RetentionPolicy::WorkQueue),
        (DEAD_LETTERS, "natshook.dead-letter.*", stream::RetentionPolicy::Limits),
    ] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            retention,
            duplicate_window,
            discard: stream::DiscardPolicy::New,
            allow_direct: true,
            max_age: if name == DEAD_LETTERS { Duration::from_secs(30 * 24 * 3600) } else { Duration::ZERO },
            ..Default::default()
        };
        context.create_stream(config).await.expect("the stream is made");
    }
}

/// The headers of the dead letter of message `n` to `target`, published `age` ago.
pub(crate) fn headers(target: &str, n: usize, age: Duration) -> HeaderMap {
    let published = humantime::format_rfc3339_nanos(SystemTime::now() - age).to_string();
    let n = n.to_string();
    let mut map = HeaderMap::new();
    for (name, value) in [
        ("Natshook-Reason", "attempts_exhausted"),
        ("Natshook-Target", target),
        ("Natshook-Attempts", "9"),
        ("Natshook-Last-Status", "503"),
        ("Natshook-Last-Error", "answered 503"),
        ("Natshook-First-Attempt", &published),
        ("Natshook-Last-Attempt", &published),
        ("Natshook-Stream", "EVENTS"),
        ("Natshook-Sequence", &n),
        ("Natshook-Subject", "a"),
        ("Natshook-Published", &published),
    ] {
        map.insert(name, value);
    }
    map
}

/// Stores the dead letters of messages `numbers`, whose bodies are their numbers, two days old.
pub(crate) async fn store(context: &jetstream::Context, target: &str, numbers: Range<usize>) {
    let subject = format!("natshook.dead-letter.{target}");
    let age = Duration::from_secs(2 * 24 * 3600);
    let mut acks = Vec::new();
    for n in numbers {
        let headers = headers(target, n + 1, age);
        let sent = context.publish_with_headers(subject.clone(), headers, n.to_string().into()).await;
        acks.push(sent.expect("sent"));
        if acks.len() == IN_FLIGHT {
            for ack in acks.drain(..) {
                ack.await.expect("stored");
            }
        }
    }
    for ack in acks {
        ack.await.expect("stored");
    }
}
