//! Coming in by the login form.

use super::Rig;
use crate::support::{secs, until};

const TOKEN: &str = "a-token-of-the-test-4719";

#[tokio::test]
async fn the_token_opens_the_page_that_was_asked_for_and_another_does_not() {
    let started = Rig::start(|receiver, config| {
        let token = format!("token = {TOKEN:?}");
        config.admin(&token).target("policy", "a", &receiver.url("/hook"), "")
    });
    let Some(rig) = started.await else { return };
    rig.open("/targets/policy").await;
    assert_eq!(rig.browser.path().await, "/login");
    rig.browser.picture("login").await;

    rig.browser.write("#token", "another-token-than-that").await;
    rig.browser.click("button").await;
    rig.browser.wait_for("[role=alert]", "That is not the token").await;
    rig.browser.write("#token", TOKEN).await;
    rig.browser.click("button").await;

    rig.browser.wait_for("h1", "policy").await;
    assert_eq!(rig.browser.path().await, "/targets/policy");
    rig.browser.wait_for("#connection", "Live").await;
    let readable = rig.browser.run("return document.cookie", vec![]).await;
    assert_eq!(readable, "", "no script reads the session");
    rig.browser.click("form[action='/logout'] button").await;
    rig.browser.wait_for("label", "Admin token").await;
    rig.open("/").await;
    assert_eq!(rig.browser.path().await, "/login");

    rig.browser.write("#token", TOKEN).await;
    rig.browser.click("button").await;
    rig.browser.wait_for("#connection", "Live").await;
    let config = std::fs::read_to_string(rig.connector.config_file()).unwrap();
    rig.connector.write_config(&config.replace(TOKEN, "another-token-of-the-test"));
    until("a page whose session has ended leads to the login form", secs(20), async || {
        rig.browser.path().await == "/login"
    })
    .await;
}
