//! DNS that changes its mind: names whose answers differ each time lead to no address that is not allowed. Over the
//! system's real resolver, in a network where every address is this machine: what natshook dials is what is seen.

use std::net::SocketAddr;

use crate::support::broker::{DEAD_LETTERS, header};
use crate::support::connector::natshook_with;
use crate::support::dns::Dns;
use crate::support::namespace::{is_inside, run_inside};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs};

/// A public address, and three that are not: one's own network, this machine, a cloud's metadata service.
const PUBLIC: &str = "93.184.215.14";
const PRIVATE: &str = "10.0.0.5";
const LOOPBACK: &str = "127.0.0.1";
const METADATA: &str = "169.254.169.254";
/// In a range that the config opens.
const OPENED: &str = "10.9.0.1";

/// Every second between attempts, so that the test is short; no reuse of a connection, so that each attempt resolves.
const OFTEN: &str = "retry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 6, jitter = 0 }";
const ONCE: &str = "retry = { delays = [] }";

#[tokio::test]
async fn names_that_change_their_addresses_lead_nowhere_else() {
    run_inside("rebinding::inside_its_own_network").await;
}

/// Receivers on each of the addresses.
struct Receivers {
    public: Receiver,
    opened: Receiver,
    /// Behind addresses and ports that must never be dialled.
    forbidden: Vec<Receiver>,
}

impl Receivers {
    async fn start() -> Self {
        let at = async |address: &str, port| {
            let receiver =
                Receiver::start_at(SocketAddr::new(address.parse().expect("an address"), port)).await;
            // A connection that is kept would not resolve again.
            receiver.always("/hook", Answer::ok().header("connection", "close"));
            receiver
        };
        let mut forbidden = Vec::new();
        for (address, port) in [
            (PRIVATE, 80),
            (LOOPBACK, 80),
            (METADATA, 80),
            ("64:ff9b::a00:5", 80),
            (PUBLIC, 9000),
            (PRIVATE, 9000),
        ] {
            forbidden.push(at(address, port).await);
        }
        Self { public: at(PUBLIC, 80).await, opened: at(OPENED, 9000).await, forbidden }
    }

    fn assert_only_allowed_addresses_were_dialled(&self) {
        for receiver in &self.forbidden {
            assert_eq!(
                receiver.connections(),
                0,
                "port {} of a forbidden address was dialled",
                receiver.port
            );
        }
    }
}

#[tokio::test]
#[ignore = "is run inside a network of its own by names_that_change_their_addresses_lead_nowhere_else"]
async fn inside_its_own_network() {
    assert!(is_inside(), "this test needs a network of its own; run the one that starts it");
    let dns = Dns::start(&[
        ("changes.test", &[&[PUBLIC], &[LOOPBACK], &[PRIVATE, METADATA], &[PUBLIC]]),
        ("mixed.test", &[&[PRIVATE, PUBLIC, LOOPBACK]]),
        ("private.test", &[&[METADATA, PRIVATE]]),
        ("mapped.test", &[&["::ffff:10.0.0.5", "64:ff9b::a00:5"]]),
        ("ported.test", &[&[PUBLIC]]),
        ("opened.test", &[&[PUBLIC, PRIVATE, OPENED]]),
    ])
    .await;
    let receivers = Receivers::start().await;
    let broker = Broker::start().await;
    let config = Config::on(&broker)
        .egress_instead("allow = [\"10.9.0.0/16\"]\nallow_http = true")
        .target("changes", "a", "http://changes.test/hook", OFTEN)
        .target("mixed", "b", "http://mixed.test/hook", ONCE)
        .target("private", "c", "http://private.test/hook", ONCE)
        .target("mapped", "c", "http://mapped.test/hook", ONCE)
        .target("ported", "c", "http://ported.test:9000/hook", ONCE)
        .target("opened", "d", "http://opened.test:9000/hook", ONCE);

    check_tells_the_verdicts(&config).await;
    let asked = dns.asked("changes.test");
    assert_eq!(asked, 1, "the check saw the public address, which the next answer takes back");

    let _connector = Connector::start(&config).await;
    an_attempt_dials_what_its_own_answer_allows(&broker, &receivers).await;
    assert!(dns.asked("changes.test") > asked + 2, "each attempt asked anew");
    of_mixed_answers_only_the_allowed_address_is_dialled(&broker, &receivers).await;
    refused_answers_are_egress_refusals(&broker).await;
    an_opened_range_is_reached_on_any_port(&broker, &receivers).await;
    receivers.assert_only_allowed_addresses_were_dialled();
}

async fn check_tells_the_verdicts(config: &Config) {
    let finished = natshook_with(config, &["check", "--connect"]).await;
    let text = finished.all();
    assert_eq!(finished.code, 1, "three targets lead nowhere: {text}");
    for line in [
        "target changes: ok: changes.test:80\n  93.184.215.14: allowed, a public address\n",
        "target mixed: ok: mixed.test:80\n",
        "  10.0.0.5: refused: 10.0.0.5 is not a public address (private use, RFC 1918); to open it, add its range to egress.allow\n",
        "  127.0.0.1: refused: 127.0.0.1 is not a public address (loopback, RFC 1122)",
        "target private: failed: private.test:80\n",
        "target mapped: failed: mapped.test:80\n",
        "target ported: failed: ported.test:9000\n  93.184.215.14: refused: 93.184.215.14, a public address, with a port that is not in egress.ports",
        "target opened: ok: opened.test:9000\n",
        "  10.9.0.1: allowed by 10.9.0.0/16 in egress.allow\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
}

async fn an_attempt_dials_what_its_own_answer_allows(broker: &Broker, receivers: &Receivers) {
    // The first answer was the check's: this delivery is led to loopback, to the private network, then outside.
    broker.publish("a", "{}").await;
    let seen = receivers.public.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("natshook-attempt").as_deref(), Some("3"));
    assert_eq!(seen[0].header("host").as_deref(), Some("changes.test"));
    broker.wait_until_settled("changes").await;
}

async fn of_mixed_answers_only_the_allowed_address_is_dialled(broker: &Broker, receivers: &Receivers) {
    let before = receivers.public.count("/hook");
    broker.publish_numbered("b", 0..10).await;
    receivers.public.wait_for("/hook", before + 10).await;
    broker.wait_until_settled("mixed").await;
}

async fn refused_answers_are_egress_refusals(broker: &Broker) {
    broker.publish("c", "{}").await;
    let dead = broker.wait_for_dead_letters(3).await;
    for letter in &dead {
        let error = header(letter, "Natshook-Last-Error").expect("the cause is named");
        let words: &[&str] = match header(letter, "Natshook-Target").expect("a target").as_str() {
            "private" => &["private.test", "egress refused", "egress.allow", "is not a public address"],
            "mapped" => &["mapped.test", "egress refused", "egress.allow", "RFC 1918"],
            _ => &["ported.test", "egress refused", "egress.ports", PUBLIC],
        };
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error:?}");
    }
}

async fn an_opened_range_is_reached_on_any_port(broker: &Broker, receivers: &Receivers) {
    broker.publish_numbered("d", 0..10).await;
    receivers.opened.wait_long_for("/hook", 10, secs(15)).await;
    broker.wait_until_settled("opened").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 3, "nothing else was given up");
}
