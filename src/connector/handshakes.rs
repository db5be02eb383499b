//! Asks the receivers that want it whether they consent to deliveries, and tells their lanes. What an answer means is for
//! `handshake`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    delivery::Courier,
    handshake::{Handshake, Word},
};

/// How long a consent counts before the receiver is asked again. The specification names no time; a receiver that
/// changed its mind is heard within a day, and one that says so by 410 at once.
const CONSENT_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The first wait after an answer that is no consent; it doubles each time, like that of an open breaker.
const WAIT_MIN: Duration = Duration::from_secs(10);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(900);

/// Asks the receiver of `courier` until natshook drains. Before the first consent nothing is delivered; one that is only
/// not repeated, because the receiver is in trouble, still counts.
pub(super) async fn keep(courier: Arc<Courier>, handshake: Handshake) {
    tokio::select! {
        () = ask_for_ever(&courier, &handshake) => {}
        () = courier.ending.drain.cancelled() => {}
    }
}

async fn ask_for_ever(courier: &Courier, handshake: &Handshake) {
    let sender = courier.sender.clone().asking();
    let mut wait = WAIT_MIN;
    loop {
        let question = || courier.template.question(handshake, courier.target.rate);
        let word = handshake.read(&sender.attempt(question).await);
        let next = if let Word::Granted(_) = word { CONSENT_KEPT } else { wait };
        // Replicas that started together need not ask together.
        let next = next.mul_f64(0.9 + 0.2 * fastrand::f64());
        take(courier, handshake, &word, next);
        wait = if let Word::Granted(_) = word { WAIT_MIN } else { (wait * 2).min(WAIT_MAX) };
        sleep(next).await;
    }
}

fn take(courier: &Courier, handshake: &Handshake, word: &Word, next: Duration) {
    let (target, lane) = (&courier.target.name, &courier.lane);
    let origin = String::from_utf8_lossy(handshake.origin.as_bytes());
    let retry_in = humantime::format_duration(Duration::from_secs(next.as_secs()));
    match word {
        Word::Granted(rate) => {
            let per_minute = rate.map(|rate| rate.requests.get());
            tracing::info!(%target, %origin, per_minute, "the receiver consents to deliveries");
            lane.consented(*rate);
        }
        Word::Refused(answer) => {
            tracing::error!(
                %target, %origin, answer, %retry_in,
                "the receiver does not consent to deliveries; nothing is delivered until it does"
            );
            lane.refused(Instant::now() + next);
        }
        Word::Unknown(answer) if lane.lacks_consent() => {
            tracing::warn!(
                %target, %origin, answer, %retry_in,
                "the receiver cannot be asked for its consent; nothing is delivered until it can"
            );
            lane.refused(Instant::now() + next);
        }
        Word::Unknown(answer) => tracing::warn!(
            %target, %origin, answer, %retry_in,
            "the receiver cannot be asked for its consent again; the one that it gave counts until then"
        ),
    }
}
