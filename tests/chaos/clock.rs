//! The clock that natshook reads is stepped, by libfaketime.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::campaign::{campaign, messages};
use crate::ledger::Fate;
use crate::rig::Rig;
use crate::support::broker::RETRY_QUEUE;
use crate::support::{Connector, secs, until};

/// Where Debian and its like keep it; `.ci/run` installs the package of that name.
fn libfaketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    folders
        .iter()
        .map(|folder| Path::new(folder).join("faketime/libfaketime.so.1"))
        .find(|file| file.is_file())
}

/// The clock shows so many seconds more or less than it should.
fn step(file: &Path, seconds: i32) {
    // Replaced as a whole: natshook may read at any moment.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}")).expect("the clock's file can be written");
    std::fs::rename(&new, file).expect("the clock's file can be replaced");
}

#[tokio::test]
async fn when_the_clock_is_stepped_nothing_is_lost_or_repeated() {
    let Some(library) = libfaketime() else {
        println!("skipped: libfaketime is not installed");
        return;
    };
    campaign("70-clock", "clock stepped 10 min back, then 20 min ahead", async |seed| {
        let (broker, rig) = Rig::start(seed).await;
        let clock = broker.dir().join("clock");
        step(&clock, 0);
        let env = [
            ("LD_PRELOAD", library.to_str().expect("ASCII")),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("ASCII")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        let natshook = Connector::start_with(&rig.config(&broker), &env).await;
        rig.burst(messages() / 3, 1).await;
        step(&clock, -600);
        // What waits for a retry waits longer now; what is fresh does not.
        rig.publish(messages() / 3, secs(1)).await;
        until("fresh messages are delivered", secs(15), async || rig.sources_are_settled(0..2).await).await;
        step(&clock, 600);
        let ended = Instant::now();
        rig.publish(messages() / 3, Duration::ZERO).await;
        // What was put off while the clock was slow would come after ten minutes. Whoever cannot wait for that deletes
        // the consumer while natshook stands still, as docs/operations.md says; retries that are under way may then
        // be repeated.
        natshook.signal("STOP");
        let queue = rig.books.context.get_stream(RETRY_QUEUE).await.expect("it is there");
        queue.delete_consumer("natshook-retry").await.expect("it is there");
        natshook.signal("CONT");
        let retries = rig.sink.ledger(|ledger| ledger.count(Fate::FailsOnce)) * 2;
        rig.close(&natshook, retries, Some(ended)).await
    })
    .await;
}
