//! How the pages look: on a phone and on a desk, light and dark. Pictures are kept in target/screenshots.

use std::time::Duration;

use super::Rig;
use crate::support::{Answer, Config, Receiver, secs};

fn config(receiver: &Receiver, config: Config) -> Config {
    config
        .target("crm", "orders.>, members.>", &receiver.url("/crm"), "")
        .target("billing", "invoices.*", &receiver.url("/billing"), "concurrency = 16")
        .target("partner-sync", "members.joined", &receiver.url("/partner"), "")
        .target("audit-log", "audit.>", &receiver.url("/audit"), "")
}

/// Some of everything: deliveries, retries, dead letters, an open breaker.
async fn live(rig: &Rig) {
    rig.receiver.next("/billing", [Answer::status(503).body("overloaded"), Answer::status(422)]);
    rig.receiver.always("/partner", Answer::status(401).body("<h1>401 Unauthorized</h1>"));
    let order = r#"{"id":4711,"customer":{"name":"Zoë Ångström"},"amount":129.90,"lines":[{"sku":"A-17","count":2}]}"#;
    for n in 0..5 {
        rig.broker.publish("orders.created", order).await;
        rig.broker
            .publish_with_headers("invoices.paid", &[("Content-Type", "application/json")], order)
            .await;
        rig.broker.publish("members.joined", format!("{{\"id\":{n}}}")).await;
    }
    rig.broker.wait_for_dead_letters(1).await;
}

#[tokio::test]
async fn every_page_fits_a_phone_and_has_a_light_and_a_dark_look() {
    let Some(rig) = Rig::start(config).await else { return };
    live(&rig).await;

    for (path, name, words) in [
        ("/", "overview", "Breaker open"),
        ("/targets/partner-sync", "target", "answered 401"),
        ("/dead-letters", "dead-letters", "permanent_status"),
        ("/dead-letters/1", "dead-letter", "Zoë Ångström"),
        ("/dead-letters/replay", "replay", "This replays 1 dead letter."),
    ] {
        let mut grounds = Vec::new();
        for dark in [false, true] {
            rig.browser.dark(dark).await;
            rig.browser.size(1280, 900).await;
            rig.open(path).await;
            rig.browser.wait_for("main", words).await;
            let look = if dark { "dark" } else { "light" };
            rig.browser.picture(&format!("{name}-{look}")).await;
            grounds.push(
                rig.browser.run("return getComputedStyle(document.body).backgroundColor", vec![]).await,
            );
            rig.browser.size(390, 844).await;
            rig.browser.picture(&format!("{name}-phone-{look}")).await;
        }
        assert_ne!(grounds[0], grounds[1], "{name} has a dark look");
        rig.browser.size(360, 740).await;
        let width = rig.browser.run("return document.documentElement.scrollWidth", vec![]).await;
        assert_eq!(width, 360, "{name} does not scroll sideways");
    }
    rig.assert_calm().await;
}

/// The picture in docs/images: five minutes of traffic, so that the sparklines are full.
#[tokio::test]
#[ignore = "takes five minutes: run it to take the picture in docs/images anew"]
async fn a_picture_of_a_busy_replica() {
    const ROUNDS: u64 = 600;
    let Some(rig) = Rig::start(config).await else { return };
    live(&rig).await;
    for round in 0..ROUNDS {
        // Waves of different lengths.
        let wave = |length: f64| ((round as f64 / length).sin() + 1.2) * 4.0;
        let slow = Duration::from_millis(20 + (wave(40.0) * 8.0) as u64);
        rig.receiver.always("/crm", Answer::ok().after(slow));
        let failing = if round % 70 < 12 { Answer::status(503).body("overloaded") } else { Answer::ok() };
        rig.receiver.always("/billing", failing.after(slow));
        rig.broker.publish_numbered("orders.created", 0..wave(55.0) as usize).await;
        rig.broker.publish_numbered("invoices.paid", 0..(wave(90.0) / 2.0) as usize).await;
        rig.broker.publish_numbered("audit.login", 0..wave(30.0) as usize).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    rig.browser.size(1280, 860).await;
    rig.open("/").await;
    rig.browser.wait_for("#connection", "Live").await;
    rig.browser.wait_for("#target-crm", "/s").await;
    rig.browser.picture("status-page").await;
    rig.connector.wait_long_for_line(&["breaker opened"], secs(1)).await;
}
