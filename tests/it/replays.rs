//! What is replayed arrives again at its one target, under the same id, and is retried as if it were new.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use async_nats::ConnectOptions;

use crate::dead_letters::users;
use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE, header, publish_raw};
use crate::support::connector::{Running, natshook_with};
use crate::support::{Answer, Broker, Config, Connector, Receiver, letters, secs, until};

const WINDOW: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_replayed_dead_letter_arrives_under_the_same_id_and_is_gone() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(400)]);
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    broker.publish_with_headers("a", &[("X-Own", "1"), ("Content-Type", "text/csv")], "body").await;
    broker.wait_for_dead_letters(1).await;

    let finished = natshook_with(&config, &["dead-letters", "replay", "1"]).await;

    assert_eq!((finished.code, finished.stdout.as_str()), (0, "1 replayed\n"), "{}", finished.all());
    let seen = receiver.wait_for("/hook", 2).await;
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("1"), "attempts are counted anew");
    assert_eq!(
        (seen[1].header("content-type").as_deref(), &seen[1].body[..]),
        (Some("text/csv"), &b"body"[..])
    );
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);

    let again = natshook_with(&config, &["dead-letters", "replay", "1"]).await;
    assert_eq!(again.code, 1, "{}", again.all());
    assert!(again.stderr.contains("1: there is no such dead letter"), "{}", again.stderr);
}

#[tokio::test]
async fn a_replay_that_fails_again_at_once_is_a_dead_letter_again() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    broker.wait_for_dead_letters(1).await;

    // Within the stream's window, in which it drops what has an id that it knows.
    for round in 2..5_u64 {
        let id = (round - 1).to_string();
        let finished = natshook_with(&config, &["dead-letters", "replay", &id]).await;
        assert_eq!(finished.code, 0, "{}", finished.all());
        until("the new dead letter is stored", secs(10), async || {
            let stored = broker.stored(DEAD_LETTERS).await;
            stored.len() == 1
                && header(&stored[0], "Natshook-Replayed").is_some()
                && receiver.count("/hook") as u64 == round
        })
        .await;
        broker.wait_until_settled("policy").await;
    }
}

#[tokio::test]
async fn an_old_message_is_retried_by_its_policy_after_a_replay() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let retry = "retry = { delays = [\"1s\", \"1s\"], jitter = 0, max_age = \"1h\" }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), retry);
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    // Published two days ago, while a retry may be an hour old.
    letters::store(&context, "policy", 0..1).await;
    let _connector = Connector::start(&config).await;
    receiver.next("/hook", [Answer::status(500), Answer::status(500)]);

    let finished = natshook_with(&config, &["dead-letters", "replay", "--all"]).await;

    assert_eq!(finished.code, 0, "{}", finished.all());
    let seen = receiver.wait_for("/hook", 3).await;
    let attempts: Vec<_> = seen.iter().filter_map(|request| request.header("natshook-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_selection_is_replayed_and_the_rest_stays() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("one", "a", &receiver.url("/one"), "").target(
        "two",
        "a",
        &receiver.url("/two"),
        "",
    );
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "one", 0..150).await;
    letters::store(&context, "two", 0..30).await;
    letters::store(&context, "gone", 0..2).await;
    let replay =
        async |args: &[&str]| natshook_with(&config, &[&["dead-letters", "replay"], args].concat()).await;

    let dry = replay(&["--target", "one", "--dry-run"]).await;
    assert_eq!((dry.code, dry.stdout.as_str()), (0, "150 would be replayed\n"), "{}", dry.all());
    assert_eq!(
        (broker.count(DEAD_LETTERS).await, broker.count(RETRY_QUEUE).await),
        (182, 0),
        "nothing changed"
    );
    let nothing = replay(&["--target", "one", "--reason", "too_old"]).await;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "0 replayed\n"), "{}", nothing.all());
    // Works while natshook does not run.
    let done = replay(&["--target", "one"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "150 replayed\n"), "{}", done.all());
    assert_eq!((broker.count(DEAD_LETTERS).await, broker.count(RETRY_QUEUE).await), (32, 150));
    let rest = replay(&["--all"]).await;
    assert_eq!(rest.code, 1, "{}", rest.all());
    assert_eq!(rest.stdout, "30 replayed, 2 cannot be replayed\n");
    assert!(
        rest.stderr.contains("181: stays a dead letter: the config has no target gone"),
        "{}",
        rest.stderr
    );
    let usage = replay(&[]).await;
    assert_eq!(usage.code, 2, "{}", usage.all());

    let _connector = Connector::start(&config).await;
    receiver.wait_for("/one", 150).await;
    receiver.wait_for("/two", 30).await;
    for target in ["one", "two"] {
        broker.wait_until_settled(target).await;
    }
    assert_eq!((receiver.count("/one"), receiver.count("/two")), (150, 30));
    assert_eq!(broker.count(DEAD_LETTERS).await, 2);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "policy", 0..30).await;
    let began = Instant::now();

    let finished = natshook_with(&config, &["dead-letters", "replay", "--all", "--rate", "10/s"]).await;

    assert_eq!((finished.code, finished.stdout.as_str()), (0, "30 replayed\n"), "{}", finished.all());
    assert!(began.elapsed() >= Duration::from_millis(2_800), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_left_out_of_a_dead_letter_is_fetched_from_its_stream_or_the_letter_stays() {
    let broker = Broker::start_with("max_payload: 100000", ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", (0..2).map(|_| Answer::status(400).body(vec![b'z'; 1_024])));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    // No room for the headers of a dead letter, which hold the answer; the retry queue needs less.
    let body = vec![b'x'; 99_000];
    broker.publish("a", body.clone()).await;
    broker.publish("a", vec![b'y'; 100_000]).await;
    let dead = broker.wait_for_dead_letters(2).await;
    assert!(dead.iter().all(|letter| letter.payload.is_empty()));

    let finished = natshook_with(&config, &["dead-letters", "replay", "--all"]).await;

    assert_eq!(finished.code, 1, "{}", finished.all());
    assert_eq!(finished.stdout, "1 replayed, 1 cannot be replayed\n");
    assert!(finished.stderr.contains("max_payload of 100000; raise it there"), "{}", finished.stderr);
    let seen = receiver.wait_for("/hook", 3).await;
    assert_eq!(seen[2].body, body);
    assert_eq!(broker.count(DEAD_LETTERS).await, 1);

    let stream = broker.jetstream_context().await.get_stream(EVENTS).await.unwrap();
    stream.purge().await.unwrap();
    let finished = natshook_with(&config, &["dead-letters", "replay", "--all"]).await;
    assert_eq!(finished.code, 1, "{}", finished.all());
    assert!(
        finished.stderr.contains("its body was left out, and stream EVENTS does not hold message 2 any more")
    );
    assert_eq!(broker.count(DEAD_LETTERS).await, 1);
}

#[tokio::test]
async fn what_natshook_has_not_written_is_named_and_stays() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    Connector::start(&config).await.stop().await;
    broker.publish("natshook.dead-letter.policy", "no headers at all").await;
    let forged = [("Natshook-Reason", "unreadable"), ("Natshook-Target", "policy")];
    broker.publish_with_headers("natshook.dead-letter.policy", &forged, "").await;
    publish_raw(&broker, "natshook.dead-letter.policy", b"Natshook-Target: \xff\xfe", b"").await;
    let other = [("Natshook-Target", "other")];
    broker.publish_with_headers("natshook.dead-letter.policy", &other, "").await;

    let finished = natshook_with(&config, &["dead-letters", "replay", "--all"]).await;

    assert_eq!(finished.code, 1, "{}", finished.all());
    assert_eq!(finished.stdout, "0 replayed, 4 cannot be replayed\n");
    for line in [
        "1: stays a dead letter: the header Natshook-Target is missing, so natshook has not written it",
        "2: stays a dead letter: it was found in the retry queue and was not natshook's",
        "3: stays a dead letter: the header Natshook-Target is missing",
        "4: stays a dead letter: the header Natshook-Target is unreadable",
    ] {
        assert!(finished.stderr.contains(line), "{line}\n{}", finished.stderr);
    }
    assert_eq!(broker.count(DEAD_LETTERS).await, 4);
}

#[tokio::test]
async fn a_message_of_core_nats_is_replayed_once_there_is_a_retry_queue() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(400)]);
    let jetstream = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let core = jetstream.clone().top("source = \"core\"");
    letters::own_streams(&broker.jetstream_context().await, WINDOW).await;
    let mut connector = Connector::start(&core).await;
    let client = broker.client().await;
    client.publish("a", "1".into()).await.unwrap();
    client.flush().await.unwrap();
    broker.wait_for_dead_letters(1).await;
    let refused = natshook_with(&core, &["dead-letters", "replay", "--all"]).await;
    assert_eq!(refused.code, 1, "{}", refused.all());
    assert!(refused.stderr.contains("keeps no retry queue"), "{}", refused.stderr);
    connector.stop().await;
    let _connector = Connector::start(&jetstream).await;

    let finished = natshook_with(&jetstream, &["dead-letters", "replay", "--all"]).await;

    assert_eq!((finished.code, finished.stdout.as_str()), (0, "1 replayed\n"), "{}", finished.all());
    let seen = receiver.wait_for("/hook", 2).await;
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    broker.wait_until_settled("policy").await;
}

/// Messages `0` to `9` on `a`, each followed by one on `b`; the sequences of the first are 1, 3, 5, …
async fn history(broker: &Broker) {
    for n in 0..10 {
        broker.publish("a", n.to_string()).await;
        broker.publish("b", "other").await;
    }
}

#[tokio::test]
async fn history_is_sent_again_to_one_target_by_sequence_and_subject() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a, b, c.>", &receiver.url("/hook"), "").target(
        "another",
        "a",
        &receiver.url("/another"),
        "",
    );
    let _connector = Connector::start(&config).await;
    history(&broker).await;
    receiver.wait_for("/hook", 20).await;
    let before = receiver.at("/hook");
    let replay = async |args: &[&str]| {
        natshook_with(&config, &[&["replay", "--target", "policy"], args].concat()).await
    };

    let dry = replay(&["--sequence", "3..9", "--dry-run"]).await;
    assert_eq!((dry.code, dry.stdout.as_str()), (0, "EVENTS: 7 would be replayed\n"), "{}", dry.all());
    let done = replay(&["--sequence", "3..9", "--subject", "a"]).await;
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "EVENTS: 4 replayed, up to sequence 9\n"),
        "{}",
        done.all()
    );

    let seen = receiver.wait_for("/hook", 24).await;
    broker.wait_until_settled("policy").await;
    assert_eq!((receiver.count("/hook"), receiver.count("/another")), (24, 10));
    let mut again: Vec<_> =
        seen[20..].iter().map(|request| (request.header("webhook-id"), request.body.clone())).collect();
    again.sort();
    let mut expected: Vec<_> =
        before.iter().map(|request| (request.header("webhook-id"), request.body.clone())).collect();
    expected.retain(|(_, body)| [b"1", b"2", b"3", b"4"].map(Vec::from).contains(body));
    expected.sort();
    assert_eq!(again, expected);

    let twice = replay(&["--sequence", "1..5", "--subject", "a"]).await;
    assert_eq!(
        twice.stdout,
        "EVENTS: 1 replayed, 2 replayed within the last two minutes already, up to sequence 5\n"
    );
    receiver.wait_for("/hook", 25).await;
    let nothing = replay(&["--sequence", "1..5", "--subject", "x"]).await;
    assert_eq!(nothing.code, 2, "{}", nothing.all());
    assert!(nothing.stderr.contains("its subjects are a, b, c.>"), "{}", nothing.stderr);
}

#[tokio::test]
async fn history_since_a_time_ends_where_the_stream_ended_at_the_start() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a, b", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    history(&broker).await;
    broker.wait_until_settled("policy").await;
    let since = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    history(&broker).await;
    receiver.wait_for("/hook", 40).await;
    broker.wait_until_settled("policy").await;
    connector.stop().await;

    // Slow enough that what is published meanwhile would be found.
    let running = Running::start(
        &config,
        &["replay", "--target", "policy", "--since", &since, "--rate", "10/s"],
        Stdio::null(),
    );
    until("it goes on", secs(20), async || broker.count(RETRY_QUEUE).await >= 2).await;
    history(&broker).await;
    assert_eq!(running.finish(secs(30)).await.0, 0);

    let waiting = broker.stored(RETRY_QUEUE).await;
    let mut sequences: Vec<u64> =
        waiting.iter().filter_map(|waiting| header(waiting, "Natshook-Sequence")?.parse().ok()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (21..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_needs_a_target_that_exists_and_a_retry_queue() {
    let broker = Broker::start().await;
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let unknown = natshook_with(&config, &["replay", "--target", "polcy", "--since", "2h"]).await;
    assert_eq!(unknown.code, 2, "{}", unknown.all());
    assert!(unknown.stderr.contains("known are policy"), "{}", unknown.stderr);
    let no_stream = natshook_with(&config, &["replay", "--target", "policy", "--since", "2h"]).await;
    assert_eq!(no_stream.code, 2, "{}", no_stream.all());
    let core = config.top("source = \"core\"");
    let refused = natshook_with(&core, &["replay", "--target", "policy", "--since", "2h"]).await;
    assert_eq!(refused.code, 1, "{}", refused.all());
    assert!(refused.stderr.contains("keeps no retry queue"), "{}", refused.stderr);
}

/// The last sequence that a command said it had come to.
fn come_to(said: &str) -> Option<u64> {
    let (_, rest) = said.rsplit_once("up to sequence ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[tokio::test]
async fn a_replay_of_history_goes_on_from_the_sequence_it_said() {
    let broker = Broker::start().await;
    let config =
        Config::on(&broker).target("policy", "a, b", "http://127.0.0.1:1/", "retry = { delays = [\"1h\"] }");
    Connector::start(&config).await.stop().await;
    broker.publish_numbered("a", 0..1_500).await;
    let replay = ["replay", "--target", "policy", "--rate", "200/s", "--sequence"];
    let said = tempfile::NamedTempFile::new().unwrap();
    let heard = || std::fs::read_to_string(said.path()).unwrap();

    let mut first =
        Running::start_heard(&config, &[&replay[..], &["1.."]].concat(), said.reopen().unwrap().into());
    until("it says where it is", secs(20), async || come_to(&heard()).is_some()).await;
    assert!(first.kill9(), "it had not come to its end");
    let range = format!("{}..", come_to(&heard()).unwrap() + 1);
    let second =
        Running::start_heard(&config, &[&replay[..], &[&range]].concat(), said.reopen().unwrap().into());
    until("it goes on", secs(20), async || broker.count(RETRY_QUEUE).await > 900).await;
    second.interrupt();
    assert_eq!(second.finish(secs(10)).await.0, 1);
    let told = heard();
    let (_, range) =
        told.rsplit_once("to go on where it ended: --stream EVENTS --sequence ").expect("it says how");
    let last = natshook_with(&config, &[&replay[..], &[range.lines().next().unwrap()]].concat()).await;

    assert_eq!(last.code, 0, "{}", last.all());
    let waiting = broker.stored(RETRY_QUEUE).await;
    let mut sequences: Vec<u64> =
        waiting.iter().filter_map(|waiting| header(waiting, "Natshook-Sequence")?.parse().ok()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_copy_waits_for_as_long_as_its_letter_cannot_be_removed() {
    let remove = "$JS.API.STREAM.MSG.DELETE.NATSHOOK_DEAD_LETTER";
    let test = ConnectOptions::with_user_and_password("test".into(), "pw".into());
    let broker = Broker::start_with(&users(remove), test).await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).nats("user = \"app\"\npassword = \"pw\"").target(
        "policy",
        "a",
        &receiver.url("/hook"),
        "",
    );
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "policy", 0..1).await;
    let connector = Connector::start(&config).await;

    // Stored in the retry queue; the letter stays, as after a kill.
    let failed = natshook_with(&config, &["dead-letters", "replay", "1"]).await;

    assert_eq!(failed.code, 1, "{}", failed.all());
    assert!(failed.stderr.contains(remove), "{}", failed.stderr);
    connector.wait_for_line(&["WARN", "a replayed delivery waits", "policy", remove]).await;
    assert_eq!((receiver.count("/hook"), broker.count(RETRY_QUEUE).await), (0, 1));

    broker.reload(&users("nothing.at.all")).await;

    receiver.wait_long_for("/hook", 1, secs(40)).await;
    broker.wait_until_settled("policy").await;
    assert_eq!((receiver.count("/hook"), broker.count(DEAD_LETTERS).await), (1, 0));
}
