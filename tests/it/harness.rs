//! The harness keeps its promises: a test that trusts a broken receiver or broker proves nothing.

use crate::support::faults::Fault;
use crate::support::{Answer, Broker, Receiver, certs::Certs, http, secs};

#[tokio::test]
async fn a_killed_broker_comes_back_with_what_it_had_stored() {
    let mut broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    let stream = async_nats::jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["a".to_owned()],
        ..Default::default()
    };
    context.create_stream(stream).await.unwrap();
    broker.publish("a", "kept").await;

    broker.kill9();
    broker.restart().await;

    let stored = broker.stored("EVENTS").await;
    assert_eq!(stored.len(), 1);
    assert_eq!(&stored[0].payload[..], b"kept");
}

#[tokio::test]
async fn the_receiver_records_requests_and_answers_by_script() {
    let receiver = Receiver::start().await;
    receiver.next("/a", [Answer::status(503).body("busy")]);

    assert_eq!(http::get(receiver.port, "/a").await, Some((503, "busy".to_owned())));
    assert_eq!(http::get(receiver.port, "/a").await, Some((200, String::new())));
    let seen = receiver.wait_for("/a", 2).await;
    assert_eq!(seen[0].method, "GET");
    assert_eq!(seen[0].header("host"), Some(format!("127.0.0.1:{}", receiver.port)));
}

#[tokio::test]
async fn the_receiver_commits_the_faults_it_is_told_to() {
    let receiver = Receiver::start().await;
    for fault in [Fault::CloseBeforeAnswer, Fault::CloseMidHeaders, Fault::CloseMidBody, Fault::Garbage] {
        receiver.next("/a", [Answer::fault(fault)]);
        assert_eq!(http::get(receiver.port, "/a").await, None, "{fault:?}");
    }
    receiver.next("/a", [Answer::fault(Fault::NeverAnswer)]);
    let unanswered = tokio::time::timeout(secs(1), http::get(receiver.port, "/a")).await;
    assert!(unanswered.is_err());
}

#[tokio::test]
async fn the_certificates_let_a_client_in_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::in_folder(dir.path());
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        certs.server_cert, certs.server_key, certs.ca
    );
    let options = async_nats::ConnectOptions::new()
        .add_root_certificates(certs.ca.clone())
        .add_client_certificate(certs.client_cert.clone(), certs.client_key.clone());

    let broker = Broker::start_with(&tls, options).await;

    assert!(async_nats::ConnectOptions::new().connect(broker.url()).await.is_err());
}
