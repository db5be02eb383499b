//! Ordered targets: what has one key is delivered one after the other, whatever fails and whoever dies.

mod keys;
mod parked;
mod permissions;
mod replicas;

use std::collections::BTreeMap;

use crate::support::http::Parsed;
use crate::support::{Broker, Receiver, secs, until};

/// Retries at once, and for ever as far as a test can tell.
const AT_ONCE: &str =
    "retry = { initial = \"50ms\", factor = 1, max = \"50ms\", attempts = 1000, jitter = 0 }";

/// What arrived of each subject, in order.
fn arrivals(receiver: &Receiver, path: &str) -> BTreeMap<String, Vec<usize>> {
    let mut arrived: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for request in receiver.at(path) {
        let subject = subject(&request);
        let number = String::from_utf8_lossy(&request.body).parse().expect("a number");
        arrived.entry(subject).or_default().push(number);
    }
    arrived
}

fn subject(request: &Parsed) -> String {
    request.header("natshook-subject").expect("natshook sends it")
}

/// Each of `subjects` has brought `0..n`, the first arrivals in order, duplicates only next to themselves.
fn assert_in_order(receiver: &Receiver, path: &str, subjects: &[String], n: usize) {
    let arrived = arrivals(receiver, path);
    for subject in subjects {
        let mut numbers = arrived.get(subject).cloned().unwrap_or_default();
        assert!(numbers.is_sorted(), "{subject}: {numbers:?}");
        numbers.dedup();
        assert_eq!(numbers, (0..n).collect::<Vec<_>>(), "{subject}");
    }
}

/// `n` subjects of the stream.
fn subjects(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("orders.{i}")).collect()
}

/// Stores `range` of each subject, in turn.
async fn publish_each(broker: &Broker, subjects: &[String], range: std::ops::Range<usize>) {
    let context = broker.jetstream_context().await;
    let mut stored = Vec::new();
    for number in range {
        for subject in subjects {
            let sent = context.publish(subject.clone(), number.to_string().into()).await;
            stored.push(sent.expect("sent"));
        }
    }
    for ack in stored {
        ack.await.expect("a stream holds the subject");
    }
}

/// Waits until every subject has brought its last number.
async fn wait_for_last(receiver: &Receiver, path: &str, subjects: &[String], last: usize, within: u64) {
    until("the last of each subject arrives", secs(within), async || {
        let arrived = arrivals(receiver, path);
        subjects.iter().all(|subject| arrived.get(subject).is_some_and(|numbers| numbers.contains(&last)))
    })
    .await;
}
