//! Dead letters on the page: reading them, and sending them again.

use super::Rig;
use crate::support::broker::DEAD_LETTERS;
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, secs, until};

#[tokio::test]
async fn a_dead_letter_is_opened_and_replayed_and_arrives() {
    let started =
        Rig::start(|receiver, config| config.target("policy", "orders.*", &receiver.url("/hook"), ""));
    let Some(rig) = started.await else { return };
    rig.receiver.next("/hook", [Answer::status(422).body("no such customer")]);
    let headers = [("X-Own", "kept"), ("Nats-Msg-Id", "id-7")];
    rig.broker.publish_with_headers("orders.1", &headers, r#"{"id":1.10,"to":["a","b"]}"#).await;
    rig.broker.wait_for_dead_letters(1).await;

    rig.open("/dead-letters").await;
    rig.browser.wait_for("table.letters", "permanent_status").await;
    rig.browser.click("table.letters th a").await;
    rig.browser.wait_for("#body", "{\n  \"id\": 1.10,\n  \"to\": [\n    \"a\",\n    \"b\"\n  ]\n}").await;
    rig.browser.wait_for("#headers", "X-Own").await;
    rig.browser.wait_for("main", "no such customer").await;
    rig.browser.wait_for("main", "id-7").await;

    rig.browser.click("form[action$='/replay'] button").await;

    rig.browser.wait_for(".notice", "on the retry queue").await;
    let received = rig.receiver.wait_for("/hook", 2).await;
    assert_eq!(received[1].body, br#"{"id":1.10,"to":["a","b"]}"#);
    assert_eq!(received[1].header("webhook-id"), received[0].header("webhook-id"));
    rig.open("/dead-letters").await;
    rig.browser.wait_for("main", "There are none").await;
    rig.assert_calm().await;
}

#[tokio::test]
async fn all_that_match_are_replayed_once_that_was_confirmed() {
    let started = Rig::start(|receiver, config| {
        config.target("one", "a", &receiver.url("/one"), "").target("two", "a", &receiver.url("/two"), "")
    });
    let Some(rig) = started.await else { return };
    rig.receiver.always("/one", Answer::status(400));
    rig.receiver.always("/two", Answer::status(400));
    rig.broker.publish_numbered("a", 0..30).await;
    rig.broker.wait_for_dead_letters(60).await;
    rig.receiver.always("/one", Answer::ok());

    rig.open("/dead-letters?target=one&reason=permanent_status&since=1h").await;
    rig.browser.click("a[rel=next]").await;
    rig.browser.wait_for("table.letters", "permanent_status").await;
    assert_eq!(rig.browser.text("table.letters tbody tr").await.matches("permanent_status").count(), 5);
    rig.browser.click("form[action='/dead-letters/replay'] button").await;
    rig.browser.wait_for("#many", "This replays 30 dead letters of one").await;
    assert_eq!(rig.receiver.count("/one"), 30, "nothing happens before it is confirmed");
    rig.browser.click("button.primary").await;

    rig.browser.wait_for("#replays", "Replayed").await;
    rig.browser.wait_for("#replays", "30 put on the retry queue").await;
    rig.receiver.wait_for("/one", 60).await;
    assert_eq!(rig.receiver.count("/two"), 30);
    until("the others stay", secs(5), async || rig.broker.count(DEAD_LETTERS).await == 30).await;
    rig.assert_calm().await;
}

#[tokio::test]
async fn a_broker_without_jetstream_has_a_sentence_instead() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    let config =
        Config::on(&broker).top("source = \"core\"").target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;

    let (status, page) = connector.get("/dead-letters").await;
    assert_eq!(status, 200);
    assert!(page.contains("published and stored nowhere"), "{page}");
    let (status, page) = http::get(connector.admin_port, "/dead-letters/1").await.unwrap();
    assert_eq!(status, 409, "{page}");
}

#[tokio::test]
async fn a_replay_of_many_can_be_watched_and_stopped_and_the_next_one_does_the_rest() {
    const MANY: usize = 1_500;
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..MANY).await;
    until("all are dead letters", secs(60), async || broker.count(DEAD_LETTERS).await == MANY as u64).await;
    receiver.always("/hook", Answer::ok());
    let post = async |path: &str| {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        http::request(connector.admin_port, "POST", path, &form, b"target=policy").await.unwrap().status()
    };
    let shown = async |words: &str| connector.get("/dead-letters").await.1.contains(words);

    assert_eq!(post("/dead-letters/replay").await, 303);
    until("some arrive", secs(10), async || receiver.count("/hook") > MANY).await;
    assert_eq!(post("/dead-letters/replay").await, 409, "one at a time");
    assert!(shown("so far").await);
    assert_eq!(post("/dead-letters/replay/stop").await, 303);
    until("it says so", secs(5), async || shown("<strong>Stopped</strong>").await).await;
    assert!(broker.count(DEAD_LETTERS).await > 0, "some are left");

    assert_eq!(post("/dead-letters/replay").await, 303);
    until("the rest arrives", secs(30), async || receiver.count("/hook") >= 2 * MANY).await;
    until("it says so", secs(5), async || shown("<strong>Replayed</strong>").await).await;
    let mut bodies = receiver.bodies("/hook");
    bodies.dedup();
    assert_eq!((receiver.count("/hook"), bodies.len()), (2 * MANY, MANY), "each arrives once more");
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}
