//! Messages that keep coming, from a publisher as careful as publishers of what matters are: it names each message and
//! publishes it again until the broker has confirmed it.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Arc,
    },
    time::Duration,
};

use async_nats::{
    jetstream::{self, message::PublishMessage},
    Client,
};
use tokio::task::JoinHandle;

/// Between two messages: some hundred in a second are enough for each fault to meet some on their way.
const PACE: Duration = Duration::from_millis(8);

/// A publisher at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    stored: Arc<AtomicUsize>,
    publishing: JoinHandle<usize>,
}

impl Load {
    /// Publishes the numbers from 0 to `subject`, each as its own body, until told to stop.
    pub(crate) fn start(client: Client, subject: &'static str) -> Self {
        let (stop, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&stored));
        let publishing = tokio::spawn(async move {
            let mut context = jetstream::new(client);
            context.set_timeout(Duration::from_secs(2));
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                store(&context, subject, count.load(Ordering::Relaxed)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
            count.load(Ordering::Relaxed)
        });
        Self { stop, stored, publishing }
    }

    /// How many messages the broker has confirmed so far.
    pub(crate) fn stored(&self) -> usize {
        self.stored.load(Ordering::Relaxed)
    }

    /// Ends it; how many messages the broker has confirmed.
    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.await.expect("the publisher")
    }
}

async fn store(context: &jetstream::Context, subject: &'static str, number: usize) {
    loop {
        let message =
            PublishMessage::build().payload(number.to_string().into()).message_id(format!("m{number}"));
        let Ok(ack) = context.send_publish(subject, message).await else { continue };
        if ack.await.is_ok() {
            return;
        }
    }
}
