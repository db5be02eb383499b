//! What a request looks like: line, headers, auth, signature, body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::support::broker::EVENTS;
use crate::support::receiver::Received;
use crate::support::signatures::{v1_verifies, v1a_verifies};
use crate::support::{Answer, Broker, Config, Connector, Receiver};

/// The one request that a message with these headers and payload becomes at a target with `more`.
async fn request_of(more: &str, headers: &[(&str, &str)], payload: &[u8]) -> Received {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "PolicyUpdated", &receiver.url("/hook?a=b%20c"), more);
    let _connector = Connector::start(&config).await;
    broker.publish_with_headers("PolicyUpdated", headers, payload).await;
    receiver.wait_for("/hook?a=b%20c", 1).await.remove(0)
}

#[tokio::test]
async fn a_request_says_where_it_comes_from() {
    let request = request_of("", &[], b"{}").await;

    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(request.header("content-length").as_deref(), Some("2"));
    assert_eq!(request.header("natshook-subject").as_deref(), Some("PolicyUpdated"));
    assert_eq!(request.header("natshook-attempt").as_deref(), Some("1"));
    assert_eq!(request.header("webhook-id"), Some(format!("{EVENTS}-1")));
    let agent = request.header("user-agent").unwrap();
    assert_eq!(agent, format!("natshook/{}", env!("CARGO_PKG_VERSION")));
    for absent in ["authorization", "webhook-signature", "referer", "accept-encoding", "transfer-encoding"] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let stamped: u64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!(now.abs_diff(stamped) <= 10, "{stamped} at {now}");
}

#[tokio::test]
async fn the_message_names_its_id_and_content_type() {
    let headers = [("Nats-Msg-Id", "order 7.1/é%"), ("Content-Type", "text/csv")];
    let request = request_of("", &headers, b"a,b").await;

    assert_eq!(request.header("webhook-id").as_deref(), Some("order%207%2E1/%C3%A9%25"));
    assert_eq!(request.header("content-type").as_deref(), Some("text/csv"));
}

#[tokio::test]
async fn trace_context_and_cloud_event_headers_are_passed_on_and_others_by_list_only() {
    let headers = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
        ("ce-type", "policy.updated"),
        ("ce-id", "17"),
        ("X-Tenant", "acme"),
        ("X-Internal", "private"),
    ];
    let request = request_of("pass_headers = [\"X-Tenant\"]", &headers, b"{}").await;

    for (name, value) in &headers[..5] {
        assert_eq!(request.header(name).as_deref(), Some(*value), "{name}");
    }
    assert_eq!(request.header("x-internal"), None);
}

#[tokio::test]
async fn a_message_cannot_steer_the_request() {
    let headers = [
        ("Host", "evil.example"),
        ("Authorization", "Bearer stolen"),
        ("Content-Length", "999"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Natshook-Attempt", "99"),
        ("Natshook-Subject", "Forged"),
        ("Natshook-Target", "forged"),
        ("webhook-id", "forged"),
        ("webhook-timestamp", "1"),
        ("webhook-signature", "v1,forged"),
        ("User-Agent", "forged"),
    ];
    let request = request_of("", &headers, b"{}").await;

    assert!(request.header("host").unwrap().starts_with("127.0.0.1:"));
    assert_eq!(request.header("content-length").as_deref(), Some("2"));
    assert_eq!(request.header("natshook-attempt").as_deref(), Some("1"));
    assert_eq!(request.header("natshook-subject").as_deref(), Some("PolicyUpdated"));
    assert_eq!(request.header("webhook-id"), Some(format!("{EVENTS}-1")));
    for absent in ["authorization", "transfer-encoding", "connection", "webhook-signature", "natshook-target"]
    {
        assert_eq!(request.header(absent), None, "{absent}");
    }
    let everything = format!("{:?}", request.headers);
    assert!(!everything.contains("forged"), "{everything}");
}

#[tokio::test]
async fn a_target_adds_its_static_headers_and_sets_its_method() {
    let more =
        "method = \"PUT\"\nheaders = { \"X-Source\" = \"hms\", \"Content-Type\" = \"application/x-own\" }";
    let request = request_of(more, &[("Content-Type", "text/plain")], b"{}").await;

    assert_eq!(request.method, "PUT");
    assert_eq!(request.header("x-source").as_deref(), Some("hms"));
    assert_eq!(request.header("content-type").as_deref(), Some("application/x-own"));
}

#[tokio::test]
async fn a_bearer_token_is_sent() {
    let request = request_of("auth = { bearer = \"t0ken\" }", &[], b"{}").await;
    assert_eq!(request.header("authorization").as_deref(), Some("Bearer t0ken"));
}

#[tokio::test]
async fn basic_credentials_are_sent() {
    let more = "auth = { basic = { user = \"Aladdin\", password = \"open sesame\" } }";
    let request = request_of(more, &[], b"{}").await;
    // The pair of RFC 7617, section 2.
    assert_eq!(request.header("authorization").as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
}

#[tokio::test]
async fn an_api_key_is_sent_in_the_header_that_was_named() {
    let request = request_of("auth = { header = { name = \"X-Key\", value = \"k3y\" } }", &[], b"{}").await;
    assert_eq!(request.header("x-key").as_deref(), Some("k3y"));
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn every_signing_secret_signs() {
    let (old, new) =
        (format!("whsec_{}", STANDARD.encode([1; 24])), format!("whsec_{}", STANDARD.encode([2; 32])));
    let stranger = format!("whsec_{}", STANDARD.encode([3; 24]));
    let seed = [7; 32];
    let asymmetric = format!("whsk_{}", STANDARD.encode(seed));
    let public_key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
    let more = format!("signing = {{ secrets = [{old:?}, {new:?}, {asymmetric:?}] }}");

    let request = request_of(&more, &[("Nats-Msg-Id", "id.with.dots")], "{\"é\": 1}\r\n".as_bytes()).await;

    assert!(v1_verifies(&request, &old));
    assert!(v1_verifies(&request, &new));
    assert!(!v1_verifies(&request, &stranger));
    assert!(v1a_verifies(&request, &public_key));
    assert!(!v1a_verifies(&request, &[9; 32]));
    assert_eq!(request.header("webhook-signature").unwrap().split(' ').count(), 3);
}

#[tokio::test]
async fn every_attempt_is_signed_anew_under_the_same_id() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let secret = format!("whsec_{}", STANDARD.encode([1; 24]));
    let more = format!("signing = {{ secrets = [{secret:?}] }}\nretry = {{ delays = [\"1s\"], jitter = 0 }}");
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &more);
    let _connector = Connector::start(&config).await;
    receiver.next("/hook", [Answer::status(500)]);

    broker.publish_with_headers("a", &[("Nats-Msg-Id", "7"), ("traceparent", "00-1-2-3")], "{}").await;

    let seen = receiver.wait_for("/hook", 2).await;
    for (request, attempt) in seen.iter().zip(["1", "2"]) {
        assert_eq!(request.header("webhook-id").as_deref(), Some("7"));
        assert_eq!(request.header("natshook-attempt").as_deref(), Some(attempt));
        assert_eq!(request.header("natshook-subject").as_deref(), Some("a"));
        assert_eq!(request.header("traceparent").as_deref(), Some("00-1-2-3"));
        assert!(v1_verifies(request, &secret));
    }
    assert_ne!(seen[0].header("webhook-timestamp"), seen[1].header("webhook-timestamp"));
}

#[tokio::test]
async fn payloads_arrive_byte_for_byte() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 1");
    let _connector = Connector::start(&config).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.repeat(4_000);
    let payloads = [Vec::new(), every_byte, b"\r\n\r\n0\r\n\r\n".to_vec(), large];

    for payload in &payloads {
        broker.publish("a", payload.clone()).await;
    }

    let seen = receiver.wait_for("/hook", payloads.len()).await;
    for (request, payload) in seen.iter().zip(&payloads) {
        assert!(request.body == *payload, "{} bytes became {}", payload.len(), request.body.len());
        assert_eq!(request.header("content-length"), Some(payload.len().to_string()));
    }
}

#[tokio::test]
async fn requests_share_connections() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 4");
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..200).await;

    receiver.wait_for("/hook", 200).await;
    assert!(receiver.connections() <= 4, "{} connections", receiver.connections());
    assert!(receiver.most_in_flight("/hook") <= 4);
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let broker = Broker::start().await;
    let (receiver, proxy) = (Receiver::start().await, Receiver::start().await);
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let url = proxy.url("");
    let env = [("HTTP_PROXY", &*url), ("http_proxy", &url), ("ALL_PROXY", &url), ("HTTPS_PROXY", &url)];
    let _connector = Connector::start_with(&config, &env).await;

    broker.publish("a", "1").await;

    receiver.wait_for("/hook", 1).await;
    assert!(proxy.received().is_empty());
}

#[tokio::test]
async fn a_receiver_behind_tls_is_reached_when_its_authority_is_trusted() {
    let broker = Broker::start().await;
    let certs = crate::support::certs::Certs::in_folder(broker.dir());
    let receiver = Receiver::start_tls(certs.server_config()).await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let trusted = certs.ca.to_string_lossy();
    let _connector = Connector::start_with(&config, &[("SSL_CERT_FILE", &trusted)]).await;

    broker.publish("a", "1").await;

    assert_eq!(receiver.wait_for("/hook", 1).await[0].body, b"1");
}
