//! What publishers and receivers write stays text, whatever it is.

use super::Rig;
use crate::support::broker::publish_raw;
use crate::support::{Answer, http, secs, until_some};

/// Would run if any page took it for HTML.
const SCRIPT: &str = "<script>window.hacked=1</script>";
const IMAGE: &str = "<img/src=x/onerror=window.hacked=1>";

#[tokio::test]
async fn scripts_in_payloads_subjects_headers_and_answers_stay_text() {
    let started =
        Rig::start(|receiver, config| config.target("policy", "evil.>", &receiver.url("/hook"), ""));
    let Some(rig) = started.await else { return };
    rig.receiver.always("/hook", Answer::status(400).body(format!("{SCRIPT}\"'>{IMAGE}\u{202e}")));
    let subject = format!("evil.{IMAGE}");
    let block = format!("X-{SCRIPT}: {IMAGE}\"'\r\nNats-Msg-Id: {IMAGE}");
    publish_raw(
        &rig.broker,
        &subject,
        block.as_bytes(),
        format!("</pre>{SCRIPT}{IMAGE}\u{202e}\u{7}").as_bytes(),
    )
    .await;
    rig.broker.wait_for_dead_letters(1).await;

    for (path, place, words) in [
        ("/", "#target-policy", "answered 400"),
        ("/targets/policy", "#failures", SCRIPT),
        ("/targets/policy", "#failures", IMAGE),
        ("/dead-letters", "table.letters", IMAGE),
        ("/dead-letters/1", "#body", "</pre><script>window.hacked=1</script>"),
        ("/dead-letters/1", "#body", "U+202E U+0007"),
        ("/dead-letters/1", "#headers", IMAGE),
        ("/dead-letters/1", "main", &subject),
    ] {
        rig.open(path).await;
        rig.browser.wait_for(place, words).await;
        let hacked = rig.browser.run("return typeof window.hacked", vec![]).await;
        assert_eq!(hacked, "undefined", "{path}");
        let foreign = "return document.querySelectorAll('script:not([src^=\"/assets/\"]), img:not([src^=\"/assets/\"])').length";
        assert_eq!(rig.browser.run(foreign, vec![]).await, 0, "{path}");
    }
    // What came by events is no other markup than what came with the page.
    rig.open("/targets/policy").await;
    rig.browser.wait_for("#connection", "Live").await;
    publish_raw(&rig.broker, &subject, block.replace("Nats-Msg-Id", "X-Other").as_bytes(), b"again").await;
    until_some("the second failure shows", secs(15), async || {
        let seen = rig.browser.text("#failures").await.matches("answered 400").count();
        (seen >= 2).then_some(())
    })
    .await;
    assert_eq!(rig.browser.run("return typeof window.hacked", vec![]).await, "undefined");
    rig.assert_calm().await;
}

#[tokio::test]
async fn odd_letters_break_no_page_and_a_body_is_only_ever_downloaded() {
    let started = Rig::start(|receiver, config| config.target("policy", "odd", &receiver.url("/hook"), ""));
    let Some(rig) = started.await else { return };
    rig.receiver.always("/hook", Answer::status(400).body(vec![b'w'; 2_000]));
    let many: String = (0..600).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = format!("X-Long: {}", "l".repeat(9_000));
    let bodies: [&[u8]; 3] = [b"\x00\x01\xff<html>", &[b'w'; 200_000], "\u{202e}\u{2066}e\u{301}".as_bytes()];
    for (n, body) in (1..).zip(bodies) {
        publish_raw(&rig.broker, "odd", format!("{many}{long}").as_bytes(), body).await;
        rig.broker.wait_for_dead_letters(n).await;
    }
    rig.browser.size(360, 800).await;

    for (path, words) in [
        ("/dead-letters/1", "00000000  00 01 ff 3c 68 74 6d 6c"),
        ("/dead-letters/2", "of which this is the beginning"),
        ("/dead-letters/3", "U+202E"),
        ("/dead-letters/3", "more headers"),
        ("/dead-letters", "permanent_status"),
        ("/targets/policy", "wwww"),
    ] {
        rig.open(path).await;
        rig.browser.wait_for("main", words).await;
        let width = rig.browser.run("return document.documentElement.scrollWidth", vec![]).await;
        assert_eq!(width, 360, "{path} does not scroll sideways");
    }
    let port = rig.connector.admin_port;
    let answer = http::request(port, "GET", "/dead-letters/1/body", &[], b"").await.unwrap();
    assert_eq!(answer.body, b"\x00\x01\xff<html>");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/octet-stream"));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    rig.assert_calm().await;
}
