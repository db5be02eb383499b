//! Authorities and certificates of single targets, against real TLS servers.

use std::path::Path;

use crate::support::certs::Certs;
use crate::support::connector::natshook_with;
use crate::support::{Broker, Config, Connector, Receiver, secs, until};

/// An authority of its own under `dir`.
fn authority(dir: &Path, name: &str) -> Certs {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    Certs::in_folder(&folder)
}

fn tls(keys: &str) -> String {
    format!("tls = {{ {keys} }}")
}

/// What `natshook send` says of a target whose `tls` holds `keys`.
async fn sent(receiver: &Receiver, keys: &str) -> (i32, String) {
    let config = Config::offline().target("policy", "a", &receiver.url("/hook"), &tls(keys));
    let finished = natshook_with(&config, &["send", "policy"]).await;
    (finished.code, finished.all())
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_the_target_that_names_it_and_by_no_other() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start_tls(certs.server_config()).await;
    let config = Config::on(&broker)
        .target("trusts", "a", &receiver.url("/trusts"), &tls(&certs.trust()))
        .target("does-not", "a", &receiver.url("/does-not"), "");
    let connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    assert_eq!(receiver.wait_for("/trusts", 1).await[0].body, b"1");
    connector.wait_for_line(&["does-not", "tls: invalid peer certificate: UnknownIssuer"]).await;
    assert_eq!(receiver.count("/does-not"), 0);
}

#[tokio::test]
async fn defaults_give_all_targets_the_same_authority_and_the_same_connections() {
    let broker = Broker::start().await;
    let certs = Certs::in_folder(broker.dir());
    let receiver = Receiver::start_tls(certs.server_config()).await;
    let config = Config::on(&broker)
        .and(&format!("[defaults]\n{}\nconcurrency = 1", tls(&certs.trust())))
        .target("one", "a", &receiver.url("/one"), "")
        .target("two", "b", &receiver.url("/two"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;
    receiver.wait_for("/one", 1).await;
    broker.wait_until_settled("one").await;
    broker.publish("b", "2").await;
    receiver.wait_for("/two", 1).await;

    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn another_authority_than_the_named_one_is_refused_and_so_is_the_system_s_without_system_roots() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(dir.path(), "ours"), authority(dir.path(), "theirs"));
    let receiver = Receiver::start_tls(theirs.server_config()).await;
    let (code, said) = sent(&receiver, &ours.trust()).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("tls: invalid peer certificate"), "{said}");

    let system = theirs.ca.to_string_lossy();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natshook.toml");
    for (keys, code) in [(ours.trust(), 0), (format!("{}, system_roots = false", ours.trust()), 1)] {
        let config = Config::offline().target("policy", "a", &receiver.url("/hook"), &tls(&keys));
        std::fs::write(&file, config.text()).unwrap();
        let args = ["send", "policy", "--config", file.to_str().unwrap()];
        let finished = crate::support::natshook_in(&args, &[("SSL_CERT_FILE", &system)]).await;
        assert_eq!(finished.code, code, "{}", finished.all());
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_lets_in_who_shows_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(dir.path(), "ours"), authority(dir.path(), "theirs"));
    let receiver = Receiver::start_tls(theirs.mutual_config(&ours)).await;

    let (code, said) = sent(&receiver, &format!("{}, {}", theirs.trust(), ours.identity())).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(receiver.count("/hook"), 1);

    let (code, said) = sent(&receiver, &theirs.trust()).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("tls: received fatal alert: CertificateRequired"), "{said}");
    let (code, said) = sent(&receiver, &format!("{}, {}", theirs.trust(), theirs.identity())).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("tls: "), "{said}");
    assert_eq!(receiver.count("/hook"), 1);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_without_a_restart() {
    let broker = Broker::start().await;
    let (old, new) = (authority(broker.dir(), "old"), authority(broker.dir(), "new"));
    let receiver = Receiver::start_tls(new.mutual_config(&new)).await;
    let keys = format!("{}, {}", old.trust(), old.identity());
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &tls(&keys));
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    connector.wait_for_line(&["policy", "tls: invalid peer certificate"]).await;

    for (from, to) in
        [(&new.ca, &old.ca), (&new.client_cert, &old.client_cert), (&new.client_key, &old.client_key)]
    {
        std::fs::copy(from, to).unwrap();
    }

    // Files are written one after the other: a certificate without its key is refused, and changes nothing.
    until("a reload", secs(20), async || connector.output().contains("config reloaded")).await;
    broker.publish("a", "2").await;
    receiver.wait_for("/hook", 1).await;
    assert_eq!(connector.output().matches("connected to the broker").count(), 1);
}
