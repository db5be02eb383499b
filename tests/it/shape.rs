//! What targets make of messages: filters, transforms and templates, over a real broker and a real receiver.

use std::time::Instant;

use crate::support::broker::header;
use crate::support::connector::natshook_with;
use crate::support::receiver::Answer;
use crate::support::{Broker, Config, Connector, Receiver, secs, signal, until};

/// The value of a metric of `target`, by what else stands in its labels.
pub(crate) async fn metric(connector: &Connector, name: &str, labels: &str) -> Option<f64> {
    let (_, text) = connector.get("/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{{labels}}} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn skipped(connector: &Connector, target: &str, reason: &str) -> f64 {
    let labels = format!("target=\"{target}\",reason=\"{reason}\"");
    metric(connector, "natshook_skipped_messages_total", &labels).await.unwrap_or(-1.0)
}

#[tokio::test]
async fn a_filter_lets_through_what_it_is_true_for_and_counts_the_rest() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let filter = "filter = \"payload.total > 10 && tokens[1] == 'eu' && headers['x-tenant'] == 'acme'\"";
    let config = Config::on(&broker).target("big", "orders.>", &receiver.url("/big"), filter).target(
        "all",
        "orders.>",
        &receiver.url("/all"),
        "",
    );
    let connector = Connector::start(&config).await;
    for (subject, tenant, payload) in [
        ("orders.eu", "acme", "{\"total\": 5}"),
        ("orders.eu", "acme", "{\"total\": 11}"),
        ("orders.us", "acme", "{\"total\": 12}"),
        ("orders.eu", "other", "{\"total\": 13}"),
        ("orders.eu", "acme", "{\"total\": 14}"),
    ] {
        broker.publish_with_headers(subject, &[("X-Tenant", tenant)], payload).await;
    }
    receiver.wait_for("/all", 5).await;
    receiver.wait_for("/big", 2).await;
    broker.wait_until_settled("big").await;
    assert_eq!(receiver.bodies("/big"), ["{\"total\": 11}", "{\"total\": 14}"]);
    assert_eq!(skipped(&connector, "big", "filter").await, 3.0);
    assert_eq!(skipped(&connector, "big", "filter_error").await, 0.0);
    assert_eq!(skipped(&connector, "all", "filter").await, 0.0);
    broker.wait_for_dead_letters(0).await;
}

#[tokio::test]
async fn what_a_filter_cannot_judge_is_a_dead_letter_or_delivered_or_left_out() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let more = |policy: &str| format!("filter = \"payload.total > 10\"\n{policy}");
    let config = Config::on(&broker)
        .target("letter", "orders", &receiver.url("/letter"), &more(""))
        .target("deliver", "orders", &receiver.url("/deliver"), &more("on_filter_error = \"deliver\""))
        .target("skip", "orders", &receiver.url("/skip"), &more("on_filter_error = \"skip\""));
    let connector = Connector::start(&config).await;
    for payload in ["not json: hunter2", "{}", "{\"total\": \"hunter2\"}", "{\"total\": 11}"] {
        broker.publish("orders", payload).await;
    }
    receiver.wait_for("/deliver", 4).await;
    receiver.wait_for("/letter", 1).await;
    receiver.wait_for("/skip", 1).await;
    let dead = broker.wait_for_dead_letters(3).await;
    let mut told: Vec<(Vec<u8>, String)> = dead
        .iter()
        .map(|letter| (letter.payload.clone(), header(letter, "Natshook-Last-Error").unwrap_or_default()))
        .collect();
    told.sort();
    let wanted = [
        ("not json: hunter2", "filter: the payload is not JSON: expected ident at line 1 column 2"),
        (
            "{\"total\": \"hunter2\"}",
            "filter: found no matching overload for '_>_' applied to '(string, int)'",
        ),
        ("{}", "filter: there is no field \"total\""),
    ];
    assert_eq!(told, wanted.map(|(payload, error)| (payload.as_bytes().to_vec(), error.to_owned())));
    for (name, value) in [("Natshook-Reason", "filter_error"), ("Natshook-Attempts", "0")] {
        assert!(dead.iter().all(|letter| header(letter, name).as_deref() == Some(value)), "{name}");
    }
    connector
        .wait_for_line(&["given up: stored as a dead letter", "filter_error", "there is no field"])
        .await;
    assert!(!connector.output().contains("hunter2"), "nothing of a message is logged");
    assert_eq!(skipped(&connector, "skip", "filter_error").await, 3.0);
    assert_eq!(
        metric(&connector, "natshook_dead_letters_total", "target=\"letter\",reason=\"filter_error\"").await,
        Some(3.0)
    );
    for target in ["letter", "deliver", "skip"] {
        broker.wait_until_settled(target).await;
    }
}

#[tokio::test]
async fn a_transform_makes_the_body_and_templates_headers_and_url() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = format!("{}?id={{{{ payload.id }}}}", receiver.url("/in/{{ subject[1] }}"));
    let more = "transform = '{id, sum: ([.items[].n] | add), $subject, tenant: $headers[\"x-tenant\"]}'\n\
                headers = { X-Region = \"r-{{ subject[1] }}\", X-Tenant = '{{ headers[\"x-tenant\"] | default(\"none\") }}', X-Fixed = \"f\" }\n\
                signing = { secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }";
    let config = Config::on(&broker).target("made", "orders.>", &url, more);
    let _connector = Connector::start(&config).await;
    let payload = "{\"id\": \"a/b?&\", \"items\": [{\"n\": 1}, {\"n\": 2}]}";
    broker
        .publish_with_headers("orders.eu", &[("X-Tenant", "acme"), ("Content-Type", "text/plain")], payload)
        .await;
    let path = "/in/eu?id=a%2Fb%3F%26";
    let request = &receiver.wait_for(path, 1).await[0];
    let body = "{\"id\":\"a/b?&\",\"sum\":3,\"subject\":\"orders.eu\",\"tenant\":\"acme\"}";
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-region", "r-eu"),
        ("x-tenant", "acme"),
        ("x-fixed", "f"),
        ("natshook-subject", "orders.eu"),
    ] {
        assert_eq!(request.header(name).as_deref(), Some(value), "{name}");
    }
    let webhook = standardwebhooks::Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let mut signed = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        signed.insert(name, request.header(name).unwrap().parse().unwrap());
    }
    webhook.verify(&request.body, &signed).expect("what was made is what is signed");
}

#[tokio::test]
async fn what_cannot_be_made_is_a_dead_letter_and_reaches_nobody() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/in/{{ payload.place }}");
    let more =
        "transform = '{n: .n}'\nheaders = { X-Name = \"{{ payload.name }}\" }\nmax_payload_bytes = 200";
    let config = Config::on(&broker).target("made", "orders", &url, more);
    let _connector = Connector::start(&config).await;
    for payload in [
        "[1]",
        "{\"n\": 1, \"name\": \"a\\r\\nX-Evil: 1\", \"place\": \"x\"}",
        "{\"n\": 1, \"name\": \"a\", \"place\": \"..\"}",
        "{\"n\": 1, \"place\": \"x\"}",
        "{\"n\": 1, \"name\": \"a\", \"place\": \"../../x\"}",
    ] {
        broker.publish("orders", payload).await;
    }
    let dead = broker.wait_for_dead_letters(4).await;
    let mut errors: Vec<String> =
        dead.iter().filter_map(|letter| header(letter, "Natshook-Last-Error")).collect();
    // Two workers make them side by side.
    errors.sort();
    assert_eq!(
        errors,
        [
            "headers.x-name: payload.name is missing; to do without it write payload.name | default(\"…\")",
            "headers.x-name: the value has a character that no header can carry",
            "transform: a value cannot be indexed so",
            "url: a value would make a segment of dots, which leads elsewhere",
        ]
    );
    assert!(
        dead.iter().all(|letter| header(letter, "Natshook-Reason").as_deref() == Some("transform_error"))
    );
    let request = &receiver.wait_for("/in/..%2F..%2Fx", 1).await[0];
    assert_eq!(request.header("x-evil"), None);
    assert_eq!(receiver.received().len(), 1);
}

/// Programs that would loop, recurse or fill the memory.
const BOMBS: [&str; 9] = [
    "last(range(1e12))",
    "def f: f; f",
    "[range(1e9)] | length",
    "\"x\" * 1000000000 | length",
    "def f: 1 + f; f",
    "[limit(1e9; repeat(1))]",
    "reduce range(1e9) as $i ([]; . + [$i])",
    "[range(1000) | tostring * 1000000] | length",
    "until(false; . )",
];

#[tokio::test]
async fn a_transform_without_end_costs_one_dead_letter_and_nobody_else_anything() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut config = Config::on(&broker).target("healthy", "healthy", &receiver.url("/healthy"), "");
    for (n, bomb) in BOMBS.iter().enumerate() {
        // Only what names the bomb goes off, so that the target's next message shows that it lives.
        let program = format!("transform = 'if .bomb then ({bomb}) else {{ok: {n}}} end'");
        config = config.target(&format!("bomb{n}"), "bombs", &receiver.url(&format!("/bomb{n}")), &program);
    }
    let connector = Connector::start(&config).await;
    broker.publish("bombs", "{\"bomb\": true}").await;
    // Meanwhile another target waits for nothing.
    for n in 0..50 {
        let began = Instant::now();
        broker.publish("healthy", format!("{n}")).await;
        receiver.wait_for("/healthy", n + 1).await;
        assert!(began.elapsed() < secs(2), "message {n} took {:?}", began.elapsed());
    }
    let dead = broker.wait_for_dead_letters(BOMBS.len() as u64).await;
    for letter in &dead {
        assert_eq!(header(letter, "Natshook-Reason").as_deref(), Some("transform_error"));
        let error = header(letter, "Natshook-Last-Error").unwrap();
        let bounded = ["takes longer than 100ms", "MiB of memory", "ends its worker"];
        assert!(
            bounded.iter().any(|words| error.contains(words)),
            "{:?}: {error}",
            header(letter, "Natshook-Target")
        );
    }
    broker.publish("bombs", "{}").await;
    for n in 0..BOMBS.len() {
        receiver.wait_for(&format!("/bomb{n}"), 1).await;
        assert_eq!(receiver.bodies(&format!("/bomb{n}")), [format!("{{\"ok\":{n}}}")]);
    }
    assert!(connector.peak_memory_mib() < 200, "{} MiB", connector.peak_memory_mib());
}

#[tokio::test]
async fn a_filter_that_walks_too_much_costs_one_dead_letter() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let filter = "filter = 'payload.a.exists(x, payload.a.exists(y, x == y + 1000000))'";
    let config = Config::on(&broker).target("walks", "walks", &receiver.url("/walks"), filter);
    let connector = Connector::start(&config).await;
    let many: Vec<u32> = (0..5_000).collect();
    broker.publish("walks", format!("{{\"a\": {many:?}}}")).await;
    broker.publish("walks", "{\"a\": [1000001, 1]}").await;
    broker.publish("walks", "{\"a\": [1, 2]}").await;
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Last-Error").as_deref(), Some("filter: takes longer than 100ms"));
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("filter_error"));
    receiver.wait_for("/walks", 1).await;
    broker.wait_until_settled("walks").await;
    assert_eq!(receiver.bodies("/walks"), ["{\"a\": [1000001, 1]}"]);
    assert_eq!(skipped(&connector, "walks", "filter").await, 1.0);
}

#[tokio::test]
async fn a_retry_and_a_replay_shape_the_message_anew() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/in/{{ subject[1] }}");
    let more = "transform = '{n}'\nretry = { delays = [\"0s\"], jitter = 0 }";
    let config = Config::on(&broker).target("made", "orders.>", &url, more);
    let _connector = Connector::start(&config).await;
    receiver.next("/in/eu", [Answer::status(500), Answer::status(500)]);
    broker.publish("orders.eu", "{\"n\": 1, \"more\": true}").await;
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"{\"n\": 1, \"more\": true}", "what is kept is the message");
    let replayed = natshook_with(&config, &["dead-letters", "replay", "--target", "made"]).await;
    assert_eq!(replayed.code, 0, "{}", replayed.all());
    receiver.wait_for("/in/eu", 3).await;
    assert_eq!(receiver.bodies("/in/eu"), ["{\"n\":1}"; 3]);
}

#[tokio::test]
async fn a_changed_filter_holds_after_a_reload_and_the_defaults_filter_holds_for_all() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let base = Config::on(&broker);
    let config = |least: u32| {
        base.clone()
            .and(&format!("[defaults]\nfilter = \"payload.n >= {least}\"\ntransform = '{{n}}'"))
            .target("inherits", "n", &receiver.url("/inherits"), "")
            .target("own", "n", &receiver.url("/own"), "filter = \"true\"\ntransform = \".\"")
    };
    let connector = Connector::start(&config(5)).await;
    for n in [1, 5] {
        broker.publish("n", format!("{{\"n\": {n}, \"x\": 0}}")).await;
    }
    receiver.wait_for("/inherits", 1).await;
    receiver.wait_for("/own", 2).await;
    broker.wait_until_settled("inherits").await;
    connector.write_config(&config(2).text());
    connector.wait_for_line(&["config reloaded"]).await;
    for n in [1, 2] {
        broker.publish("n", format!("{{\"n\": {n}, \"x\": 0}}")).await;
    }
    receiver.wait_for("/inherits", 2).await;
    receiver.wait_for("/own", 4).await;
    broker.wait_until_settled("inherits").await;
    assert_eq!(receiver.bodies("/inherits"), ["{\"n\":2}", "{\"n\":5}"]);
    assert_eq!(receiver.bodies("/own")[0], "{\"n\":1,\"x\":0}");
}

/// The processes that `pid` has started.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_and_none_outlives_natshook() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("made", "n", &receiver.url("/made"), "transform = '{n}'").target(
        "plain",
        "n",
        &receiver.url("/plain"),
        "filter = \"payload.n > 0\"",
    );
    let mut connector = Connector::start(&config).await;
    assert!(children(connector.pid()).is_empty(), "no worker before the first message");
    broker.publish("n", "{\"n\": 1}").await;
    receiver.wait_for("/made", 1).await;
    let workers = children(connector.pid());
    assert_eq!(workers.len(), 1, "a filter without loops has none");
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", workers[0])).unwrap();
    assert!(!environment.contains("RUST_LOG"), "{environment}");
    signal(workers[0], "KILL");
    broker.publish("n", "{\"n\": 2}").await;
    receiver.wait_for("/made", 2).await;
    broker.wait_until_settled("made").await;
    let workers = children(connector.pid());
    connector.stop().await;
    let alive = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains("shape-worker"))
    };
    until("no worker is left", secs(10), async || !workers.iter().any(alive)).await;
    assert!(broker.wait_for_dead_letters(0).await.is_empty());
}
