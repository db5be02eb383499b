//! Access tokens of a real token endpoint: shared, renewed, and what happens when there are none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::certs::Certs;
use crate::support::connector::natshook_with;
use crate::support::receiver::Gate;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

const SECRET: &str = "hunter2-client-secret";

/// The endpoint's answer with a token that lives so many seconds.
fn token(token: &str, seconds: u64) -> Answer {
    let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{seconds}}}"#);
    Answer::ok().header("content-type", "application/json").body(body)
}

fn refused(status: u16, error: &str) -> Answer {
    Answer::status(status).body(format!(r#"{{"error":"{error}","error_description":"no such client"}}"#))
}

fn auth(endpoint: &Receiver, more: &str) -> String {
    let url = endpoint.url("/token");
    format!(
        "auth = {{ oauth2 = {{ token_url = {url:?}, client_id = \"natshook\", client_secret = {SECRET:?}{more} }} }}"
    )
}

/// What the requests on a path were authorized with.
fn bearers(receiver: &Receiver, path: &str) -> Vec<String> {
    receiver.at(path).iter().map(|request| request.header("authorization").unwrap_or_default()).collect()
}

#[tokio::test]
async fn targets_with_the_same_settings_share_one_token_and_others_have_their_own() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.next("/token", [token("first", 3600), token("second", 3600)]);
    let shared = auth(&endpoint, ", scope = [\"a\", \"b\"]");
    let mut config = Config::on(&broker);
    for n in 0..5 {
        config = config.target(&format!("t{n}"), "a", &receiver.url("/shared"), &shared);
    }
    let _connector = Connector::start(&config.target(
        "other",
        "other",
        &receiver.url("/other"),
        &auth(&endpoint, ", client_auth = \"body\", audience = \"x\", parameters = { resource = \"r\" }"),
    ))
    .await;

    broker.publish_numbered("a", 0..20).await;
    receiver.wait_for("/shared", 100).await;
    assert_eq!(endpoint.count("/token"), 1);
    assert!(bearers(&receiver, "/shared").iter().all(|bearer| bearer == "Bearer first"));
    let asked = &endpoint.at("/token")[0];
    assert_eq!((&*asked.method, &*asked.body), ("POST", &b"grant_type=client_credentials&scope=a+b"[..]));
    let basic = STANDARD.encode(format!("natshook:{SECRET}"));
    assert_eq!(asked.header("authorization"), Some(format!("Basic {basic}")));

    broker.publish("other", "1").await;
    receiver.wait_for("/other", 1).await;
    assert_eq!(bearers(&receiver, "/other"), ["Bearer second"]);
    let asked = String::from_utf8(endpoint.at("/token")[1].body.clone()).unwrap();
    for part in [&format!("client_secret={SECRET}"), "client_id=natshook", "audience=x", "resource=r"] {
        assert!(asked.contains(part), "{asked}");
    }
}

#[tokio::test]
async fn however_many_wait_for_a_token_it_is_asked_for_once() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    let gate = Gate::closed();
    endpoint.always("/token", token("slow", 3600).behind(&gate));
    let config = Config::on(&broker).target("one", "a", &receiver.url("/one"), &auth(&endpoint, "")).target(
        "two",
        "a",
        &receiver.url("/two"),
        &auth(&endpoint, ""),
    );
    let connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..20).await;
    until("all are in flight", secs(20), async || {
        let (_, metrics) = connector.get("/metrics").await;
        ["one", "two"]
            .iter()
            .all(|name| metrics.contains(&format!("natshook_deliveries_in_flight{{target=\"{name}\"}} 20")))
    })
    .await;
    assert_eq!(receiver.received().len(), 0);

    gate.open();

    receiver.wait_for("/one", 20).await;
    receiver.wait_for("/two", 20).await;
    assert_eq!(endpoint.count("/token"), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_only_when_somebody_needs_it() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.next("/token", [token("t0", 2), token("t1", 2), token("t2", 3600)]);
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let _connector = Connector::start(&config).await;
    assert_eq!(endpoint.count("/token"), 0, "nobody has needed one");

    let mut sent = 0;
    until("a third token is used", secs(20), async || {
        sent += 1;
        broker.publish("a", sent.to_string()).await;
        receiver.wait_for("/hook", sent).await;
        bearers(&receiver, "/hook").contains(&"Bearer t2".to_owned())
    })
    .await;

    assert_eq!(endpoint.count("/token"), 3);
    let used = bearers(&receiver, "/hook");
    assert!(used.is_sorted(), "a renewed token takes over for good: {used:?}");
    assert!(sent > 3, "each was used more than once");
}

#[tokio::test]
async fn a_withdrawn_token_is_replaced_within_the_attempt() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.next("/token", [token("old", 3600), token("new", 3600)]);
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
    let asked = endpoint.at("/token")[0].at;
    until("the token is no longer new", secs(5), async || asked.elapsed() > millis(1100)).await;

    receiver.next("/hook", [Answer::status(401)]);
    broker.publish("a", "2").await;

    let requests = receiver.wait_for("/hook", 3).await;
    assert_eq!(bearers(&receiver, "/hook"), ["Bearer old", "Bearer old", "Bearer new"]);
    assert_eq!((&*requests[1].body, &*requests[2].body), (&b"2"[..], &b"2"[..]));
    assert_eq!(requests[2].header("natshook-attempt").as_deref(), Some("1"), "it is the same attempt");
    broker.wait_until_settled("policy").await;
    assert!(!connector.output().contains("WARN"), "{}", connector.output());
}

#[tokio::test]
async fn a_target_that_refuses_every_token_costs_the_endpoint_one_request_for_each_attempt_at_most() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.always("/token", token("t", 3600));
    receiver.always("/hook", Answer::status(401));
    let more = format!("{}\nretry = {{ delays = [] }}", auth(&endpoint, ""));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;
    broker.wait_for_dead_letters(1).await;

    assert_eq!(receiver.count("/hook"), 1, "a fresh token is not doubted");
    assert_eq!(endpoint.count("/token"), 1);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_told_of_and_left_alone() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.always("/token", refused(401, "invalid_client"));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..64).await;

    let words = "token: the token endpoint answered 401: invalid_client (no such client)";
    connector.wait_for_line(&["policy", "breaker opened", words]).await;
    assert!(endpoint.count("/token") <= 3, "{}", endpoint.count("/token"));
    assert_eq!(receiver.received().len(), 0);
    let (_, metrics) = connector.get("/metrics").await;
    assert!(
        metrics.contains("outcome=\"target_fault\",end=\"token\"")
            || metrics.contains("end=\"token\",outcome=\"target_fault\""),
        "{metrics}"
    );
    assert!(!connector.output().contains(SECRET), "{}", connector.output());
}

#[tokio::test]
async fn an_endpoint_that_is_ill_is_asked_again_later() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.next("/token", [Answer::status(503), Answer::ok().body("<html>"), token("t", 3600)]);
    let more = format!("{}\nretry = {{ delays = [\"1s\", \"3s\", \"3s\", \"3s\"] }}", auth(&endpoint, ""));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
    let connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    receiver.wait_long_for("/hook", 1, secs(40)).await;
    assert_eq!(bearers(&receiver, "/hook"), ["Bearer t"]);
    assert_eq!(endpoint.count("/token"), 3);
    connector.wait_for_line(&["WARN", "token: the token endpoint answered 503"]).await;
    connector.wait_for_line(&["WARN", "token: the token endpoint's answer is not the JSON"]).await;
}

#[tokio::test]
async fn an_endpoint_that_is_slower_than_a_target_s_timeout_serves_the_next_attempt() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    let gate = Gate::closed();
    endpoint.always("/token", token("late", 3600).behind(&gate));
    let more = format!(
        "{}\ntimeout = \"200ms\"\nretry = {{ delays = [\"1s\", \"1s\", \"1s\"], jitter = 0, overload_wait = \"0s\" }}",
        auth(&endpoint, "")
    );
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
    let connector = Connector::start(&config).await;

    broker.publish("a", "1").await;
    let words = "token: the token endpoint did not answer within the target's timeout";
    connector.wait_for_line(&["policy", words]).await;
    gate.open();

    receiver.wait_for("/hook", 1).await;
    assert_eq!(bearers(&receiver, "/hook"), ["Bearer late"]);
    assert_eq!(endpoint.count("/token"), 1, "the first request went on");
}

#[tokio::test]
async fn a_token_that_has_ended_before_it_came_is_used_all_the_same() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.always("/token", token("t", 0).after(millis(1500)));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    receiver.wait_for("/hook", 1).await;
    assert_eq!(endpoint.count("/token"), 1);
}

#[tokio::test]
async fn a_test_of_a_target_uses_the_token_of_its_deliveries() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.always("/token", token("t", 3600));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;

    let finished = natshook_with(&config, &["targets", "test", "policy"]).await;

    assert_eq!(finished.code, 0, "{}", finished.all());
    assert_eq!(bearers(&receiver, "/hook"), ["Bearer t", "Bearer t"]);
    assert_eq!(endpoint.count("/token"), 1);
}

#[tokio::test]
async fn a_token_outlives_a_reload_that_keeps_its_settings() {
    let (broker, endpoint, receiver) =
        (Broker::start().await, Receiver::start().await, Receiver::start().await);
    endpoint.next("/token", [token("kept", 3600), token("another", 3600)]);
    let with = |more: &str, path: &str| {
        let more = format!("{}\n{more}", auth(&endpoint, ""));
        Config::on(&broker).target("policy", "a", &receiver.url(path), &more)
    };
    let config = with("", "/before");
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/before", 1).await;

    let text = config.text().replace("/before", "/after");
    connector.write_config(&text);
    until("a reload", secs(20), async || connector.output().contains("config reloaded")).await;
    broker.publish("a", "2").await;
    receiver.wait_for("/after", 1).await;
    assert_eq!(bearers(&receiver, "/after"), ["Bearer kept"]);

    connector.write_config(&text.replace(SECRET, "rotated").replace("/after", "/rotated"));
    until("another", secs(20), async || connector.output().matches("config reloaded").count() == 2).await;
    broker.publish("a", "3").await;
    receiver.wait_for("/rotated", 1).await;
    assert_eq!(bearers(&receiver, "/rotated"), ["Bearer another"]);
}

#[tokio::test]
async fn the_endpoint_is_reached_with_the_target_s_tls_and_judged_by_the_egress_guard() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::in_folder(dir.path());
    let endpoint = Receiver::start_tls(certs.mutual_config(&certs)).await;
    endpoint.always("/token", token("t", 3600));
    let receiver = Receiver::start().await;
    let tls = format!("tls = {{ {}, {} }}", certs.trust(), certs.identity());
    let more = format!("{}\n{tls}", auth(&endpoint, ""));
    let config = Config::offline().target("policy", "a", &receiver.url("/hook"), &more);
    let finished = natshook_with(&config, &["send", "policy"]).await;
    assert_eq!(finished.code, 0, "{}", finished.all());
    assert_eq!(bearers(&receiver, "/hook"), ["Bearer t"]);
    assert!(!finished.all().contains(SECRET) && !finished.all().contains("Bearer t"), "{}", finished.all());

    let untrusted = Config::offline().target("policy", "a", &receiver.url("/hook"), &auth(&endpoint, ""));
    let finished = natshook_with(&untrusted, &["send", "policy"]).await;
    assert_eq!(finished.code, 1);
    let said = finished.all();
    assert!(said.contains("token: the token endpoint cannot be asked: tls: invalid peer"), "{said}");

    let refused = untrusted.egress_instead("allow_http = true");
    let finished = natshook_with(&refused, &["check"]).await;
    assert_eq!(finished.code, 78);
    assert!(finished.all().contains("auth.oauth2.token_url (target \"policy\")"), "{}", finished.all());
}

#[tokio::test]
async fn check_connect_asks_for_a_token() {
    let broker = Broker::start().await;
    let endpoint = Receiver::start().await;
    endpoint.next("/token", [token("t", 3600), refused(400, "invalid_scope")]);
    let config = Config::on(&broker).target("policy", "a", &endpoint.url("/hook"), &auth(&endpoint, ""));
    let finished = natshook_with(&config, &["check", "--connect"]).await;
    assert_eq!(finished.code, 0, "{}", finished.all());
    assert!(finished.stdout.contains("token endpoint of target policy: ok"), "{}", finished.stdout);
    let finished = natshook_with(&config, &["check", "--connect"]).await;
    assert_eq!(finished.code, 1, "{}", finished.all());
    assert!(finished.stdout.contains("failed: token: the token endpoint answered 400: invalid_scope"));
    assert_eq!(endpoint.count("/hook"), 0);
}
