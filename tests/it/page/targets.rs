//! Targets on the page: seeing that one fails, and steering it.

use fantoccini::key::Key;

use super::Rig;
use crate::support::{Answer, secs, throughout, until};

#[tokio::test]
async fn a_failing_target_shows_up_and_its_breaker_opens_without_a_reload() {
    let started = Rig::start(|receiver, config| {
        config.target("works", "a", &receiver.url("/works"), "").target(
            "fails",
            "a",
            &receiver.url("/fails"),
            "",
        )
    });
    let Some(rig) = started.await else { return };
    rig.receiver.always("/fails", Answer::status(401).body("who are you?"));
    rig.open("/").await;
    rig.browser.wait_for("#connection", "Live").await;
    rig.browser.wait_for("#target-fails", "Running").await;
    rig.browser.run("window.loadedOnce = true", vec![]).await;

    rig.broker.publish_numbered("a", 0..5).await;

    rig.browser.wait_for("#target-fails", "Breaker open").await;
    rig.browser.wait_for("#target-fails .error", "401").await;
    assert!(rig.browser.text("#target-works").await.contains("Running"));
    assert_eq!(
        rig.browser.run("return window.loadedOnce", vec![]).await,
        true,
        "the page was not loaded again"
    );

    rig.browser.click("#target-fails a").await;
    rig.browser.wait_for("#failures", "who are you?").await;
    rig.browser.wait_for("#failures", "EVENTS:").await;
    rig.browser.wait_for("#steering", "Breaker open").await;
    rig.assert_calm().await;
}

#[tokio::test]
async fn a_target_is_paused_tested_and_resumed_on_its_page() {
    let started = Rig::start(|receiver, config| config.target("policy", "a", &receiver.url("/hook"), ""));
    let Some(rig) = started.await else { return };
    rig.open("/targets/policy").await;

    rig.browser.click("form[action$='/pause'] button").await;
    rig.browser.wait_for("#steering .badge", "Paused").await;
    rig.broker.publish("a", "waits").await;
    let nothing_came = async || rig.receiver.count("/hook") == 0;
    throughout("a paused target gets nothing", secs(2), nothing_came).await;

    rig.browser.click("form[action$='/test'] button").await;
    rig.browser.wait_for("#report", "The test was delivered").await;
    assert_eq!(rig.receiver.bodies("/hook"), [r#"{"natshook":"test"}"#]);

    rig.browser.click("form[action$='/resume'] button").await;
    rig.browser.wait_for("#steering .badge", "Running").await;
    rig.receiver.wait_for("/hook", 2).await;
    assert_eq!(rig.browser.path().await, "/targets/policy");
    rig.assert_calm().await;
}

#[tokio::test]
async fn the_keyboard_alone_is_enough_and_news_do_not_take_the_focus() {
    let started = Rig::start(|receiver, config| config.target("policy", "a", &receiver.url("/hook"), ""));
    let Some(rig) = started.await else { return };
    rig.receiver.always("/hook", Answer::status(500));
    rig.open("/").await;
    rig.browser.wait_for("#connection", "Live").await;

    rig.browser.press(Key::Tab).await;
    assert_eq!(rig.browser.focused().await, "Skip to the content");
    rig.browser.press(Key::Enter).await;
    tab_to(&rig, "policy").await;
    rig.browser.press(Key::Enter).await;
    rig.browser.wait_for("h1", "policy").await;
    rig.browser.wait_for("#connection", "Live").await;
    tab_to(&rig, "Pause").await;
    let outlined = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(rig.browser.run(outlined, vec![]).await, "solid", "what has the focus shows it");

    rig.broker.publish("a", "fails").await;
    rig.browser.wait_for("#failures", "500").await;
    assert_eq!(rig.browser.focused().await, "Pause", "the focus stays where it was");

    rig.browser.press(Key::Enter).await;
    rig.browser.wait_for("#steering .badge", "Paused").await;
    rig.assert_calm().await;
}

async fn tab_to(rig: &Rig, text: &str) {
    const TABS_MAX: usize = 30;
    for _ in 0..TABS_MAX {
        rig.browser.press(Key::Tab).await;
        if rig.browser.focused().await == text {
            return;
        }
    }
    panic!("no {text:?} within {TABS_MAX} tabs");
}

#[tokio::test]
async fn a_lost_connection_is_said_and_mended() {
    let started = Rig::start(|receiver, config| config.target("policy", "a", &receiver.url("/hook"), ""));
    let Some(mut rig) = started.await else { return };
    rig.open("/").await;
    rig.browser.wait_for("#connection", "Live").await;

    rig.connector.stop().await;

    rig.browser.wait_for("#connection", "Connection lost, trying again").await;
    rig.connector.restart().await;
    rig.browser.wait_for("#connection", "Live").await;
    let replica = format!(":{}", rig.connector.pid());
    rig.open("/").await;
    until("the new process shows itself", secs(5), async || {
        rig.browser.text(".title").await.contains(&replica)
    })
    .await;
}
