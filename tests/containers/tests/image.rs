//! Sentences about the image: as its users run it, with a real NATS beside it.

use std::collections::HashMap;

use async_nats::jetstream;
use natshook_containers::{
    engine::NATSHOOK, natshook::Folder, secs, until, wait::until_some, Broker, Engine, Inbox, Natshook,
    Network, NEWEST,
};
use testcontainers::bollard::models::HealthStatusEnum;

/// The most bytes that the image may have.
const IMAGE_BYTES_MAX: i64 = 30_000_000;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Longer than `shutdown.grace_period`, as docs say.
const STOP_TIMEOUT: std::time::Duration = secs(45);

/// A broker and an inbox; what each test has.
struct Stage {
    inbox: Inbox,
    broker: Broker,
    network: Network,
}

impl Stage {
    async fn set(engine: &Engine) -> Self {
        let network = Network::new(engine).await;
        let (broker, inbox) = (Broker::start(&network, NEWEST).await, Inbox::start(&network).await);
        Self { inbox, broker, network }
    }

    fn config(&self, targets: &[(&str, &str)]) -> Folder {
        Folder::with(&[("natshook.toml", &config(&self.broker, &self.inbox, targets))])
    }

    /// Publishes bodies `0..count` to a subject.
    async fn publish(&self, subject: &'static str, bodies: std::ops::Range<usize>) {
        let context = jetstream::new(self.broker.client().await);
        let mut acks = Vec::new();
        for body in bodies {
            acks.push(context.publish(subject, body.to_string().into()).await.unwrap());
        }
        for ack in acks {
            ack.await.expect("it is stored");
        }
    }
}

/// `targets` are paths of the inbox and what else is said of the target; each takes the subject `a`.
fn config(broker: &Broker, inbox: &Inbox, targets: &[(&str, &str)]) -> String {
    let mut text = format!(
        "nats = {{ servers = [{:?}] }}\negress = {{ allow = [\"172.16.0.0/12\", \"192.168.0.0/16\"], allow_http = true }}\n",
        broker.url()
    );
    for (path, more) in targets {
        let url = inbox.url(&format!("/{path}"));
        text.push_str(&format!("[[targets]]\nname = {path:?}\nsubjects = [\"a\"]\nurl = {url:?}\n{more}\n"));
    }
    text
}

async fn dead_letters(broker: &Broker) -> u64 {
    let context = jetstream::new(broker.client().await);
    let stream = context.get_stream("NATSHOOK_DEAD_LETTER").await;
    stream.map_or(0, |stream| stream.cached_info().state.messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_delivers_retries_and_dead_letters_with_config_and_secrets_from_mounted_files() {
    let Some(engine) = Engine::find().await else { return };
    let network = Network::new(&engine).await;
    let broker = Broker::start(&network, NEWEST).await;
    // The inbox has the same folder, and so knows what signatures should be. Its own address stands in it.
    let folder = Folder::with(&[("secret", SECRET)]);
    let signed = "signing = { secrets = [{ file = \"/etc/natshook/secret\" }] }\nretry = { delays = [\"1s\", \"1s\"] }";
    let inbox_url = format!("http://{}-inbox:8080", network.name());
    let targets: String = ["works", "fails-twice", "never-works"]
        .map(|path| {
            format!(
                "[[targets]]\nname = {path:?}\nsubjects = [\"a\"]\nurl = \"{inbox_url}/{path}\"\n{signed}\n"
            )
        })
        .concat();
    let egress = "egress = { allow = [\"172.16.0.0/12\", \"192.168.0.0/16\"], allow_http = true }";
    let text = format!("nats = {{ servers = [{:?}] }}\n{egress}\n{targets}", broker.url());
    std::fs::write(folder.path().join("natshook.toml"), text).unwrap();
    let inbox = Inbox::start_verifying(&network, folder.path()).await;
    let natshook = Natshook::start(&network, "natshook", &folder).await;

    let published = natshook.container().exec(&["/natshook", "publish", "a", "{\"id\":1}"]).await;
    assert_eq!(published.0, 0, "{published:?}");
    until("two targets have it, and the third's is a dead letter", secs(30), async || {
        inbox.delivered("/works").await.len() == 1
            && inbox.delivered("/fails-twice").await.len() == 1
            && dead_letters(&broker).await == 1
    })
    .await;

    let received = inbox.received().await;
    assert!(received.iter().all(|request| request.signature() == "verified"));
    let attempts = |path| received.iter().filter(|request| request.path() == path).count();
    assert_eq!((attempts("/works"), attempts("/fails-twice"), attempts("/never-works")), (1, 3, 3));
    let listed = natshook.container().exec(&["/natshook", "dead-letters", "list"]).await;
    assert!(listed.1.contains("never-works") && listed.1.contains("attempts_exhausted"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_transforms_run_in_workers_although_nothing_in_it_can_be_written() {
    let Some(engine) = Engine::find().await else { return };
    let stage = Stage::set(&engine).await;
    let folder = stage.config(&[("works", "transform = \"{twice: (. * 2)}\"")]);
    let _natshook = Natshook::start(&stage.network, "natshook", &folder).await;
    stage.publish("a", 20..22).await;
    until("both were made anew", secs(30), async || {
        let delivered = stage.inbox.delivered("/works").await;
        delivered.contains_key(r#"{"twice":40}"#) && delivered.contains_key(r#"{"twice":42}"#)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_environment_alone_configures_it() {
    let Some(engine) = Engine::find().await else { return };
    let stage = Stage::set(&engine).await;
    let (servers, url) = (stage.broker.url(), stage.inbox.url("/works"));
    let environment = [
        ("NATSHOOK__NATS__SERVERS", servers.as_str()),
        ("NATSHOOK__EGRESS__ALLOW", "[\"172.16.0.0/12\", \"192.168.0.0/16\"]"),
        ("NATSHOOK__EGRESS__ALLOW_HTTP", "true"),
        ("NATSHOOK__TARGETS__0__NAME", "works"),
        ("NATSHOOK__TARGETS__0__SUBJECTS", "a"),
        ("NATSHOOK__TARGETS__0__URL", &url),
    ];
    let _natshook = Natshook::start_with(&stage.network, "natshook", &environment).await;
    stage.publish("a", 0..3).await;
    until("they arrive", secs(20), async || stage.inbox.delivered("/works").await.len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains_and_nothing_comes_twice() {
    let Some(engine) = Engine::find().await else { return };
    let stage = Stage::set(&engine).await;
    let folder = stage.config(&[("works", "rate = \"200/s\"")]);
    let natshook = Natshook::start(&stage.network, "natshook", &folder).await;
    stage.publish("a", 0..1500).await;
    until("it is at work", secs(20), async || stage.inbox.delivered("/works").await.len() > 100).await;

    assert_eq!(natshook.container().stop(STOP_TIMEOUT).await, 0, "{}", natshook.container().stderr().await);
    let drained = stage.inbox.delivered("/works").await.len();
    assert!(drained < 1500, "the stop came before the end, or this shows nothing");
    natshook.container().start_again().await;

    until("all arrive", secs(30), async || stage.inbox.delivered("/works").await.len() == 1500).await;
    let doubled = more_than_once(&stage.inbox.delivered("/works").await);
    assert_eq!(doubled, 0, "of {drained} that arrived before the stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let stage = Stage::set(&engine).await;
    // No more than these can be on their way, and come again, each time.
    const IN_FLIGHT: usize = 64;
    let lane = format!("rate = \"200/s\"\nconcurrency = {IN_FLIGHT}");
    let retried = format!("{lane}\nretry = {{ delays = [\"1s\", \"1s\", \"1s\"] }}");
    let folder = stage.config(&[("works", &lane), ("sometimes-fails", &retried)]);
    let natshook = Natshook::start(&stage.network, "natshook", &folder).await;
    stage.publish("a", 0..1000).await;
    for share in [100, 400] {
        until("it is at work", secs(30), async || stage.inbox.delivered("/works").await.len() > share).await;
        natshook.container().kill().await;
        natshook.container().start_again().await;
        natshook.wait_until_ready().await;
    }

    for path in ["/works", "/sometimes-fails"] {
        until("all arrive", secs(60), async || stage.inbox.delivered(path).await.len() == 1000).await;
        let doubled = more_than_once(&stage.inbox.delivered(path).await);
        println!("{path}: 1000 arrived over two kills, {doubled} of them more than once");
        assert!(doubled <= 2 * IN_FLIGHT, "{doubled} at {path}");
    }
}

fn more_than_once(delivered: &HashMap<String, usize>) -> usize {
    delivered.values().filter(|times| **times > 1).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_root_in_it_and_nothing_in_it_can_be_changed_or_run_but_natshook() {
    let Some(engine) = Engine::find().await else { return };
    let stage = Stage::set(&engine).await;
    let folder = stage.config(&[("works", "")]);
    let natshook = Natshook::start(&stage.network, "natshook", &folder).await;

    let seen = natshook.container().inspect().await;
    assert_eq!(seen.config.and_then(|config| config.user).as_deref(), Some("65532:65532"));
    assert_eq!(seen.host_config.and_then(|host| host.readonly_rootfs), Some(true));
    for uid in natshook.container().uids().await {
        assert_eq!(uid, "65532", "the process's own user, as the machine sees it");
    }
    for program in ["/bin/sh", "sh", "/busybox/sh", "ls"] {
        let (code, out, error) = natshook.container().exec(&[program]).await;
        assert_ne!(code, 0, "{program}: {out}{error}");
    }
    let top: Vec<String> = natshook.container().files().await;
    // The engine adds dev, proc, sys and .dockerenv.
    for file in top.iter().filter(|file| !["dev/", "proc/", "sys/", ".dockerenv"].contains(&file.as_str())) {
        assert!(["etc/", "natshook"].contains(&file.as_str()), "{file} in {top:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_knows_how_it_is_and_what_it_is() {
    let Some(engine) = Engine::find().await else { return };
    let image = engine.image(&format!("{}:{}", NATSHOOK.0, NATSHOOK.1)).await;
    let size = image.size.expect("a size");
    println!("the image has {size} bytes");
    assert!(size < IMAGE_BYTES_MAX, "{size}");
    let config = image.config.expect("its config");
    let labels = config.labels.expect("labels");
    assert_eq!(labels["org.opencontainers.image.title"], "natshook");
    assert_eq!(config.stop_signal.as_deref(), Some("SIGTERM"));

    let stage = Stage::set(&engine).await;
    let folder = stage.config(&[("works", "")]);
    let natshook = Natshook::start(&stage.network, "natshook", &folder).await;
    let health = async || natshook.container().health().await;
    until("the engine finds it healthy", secs(40), async || {
        health().await == Some(HealthStatusEnum::HEALTHY)
    })
    .await;
    // A broker that is away is no reason to end a natshook that waits for it.
    stage.broker.container().kill().await;
    let ready = until_some("it is not ready", secs(30), async || {
        let (code, _, error) = natshook.container().exec(&["/natshook", "health", "--ready"]).await;
        (code != 0).then_some(error)
    })
    .await;
    assert!(ready.contains("503"), "{ready}");
    assert_eq!(natshook.container().exec(&["/natshook", "health"]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_wrong_ends_it_with_78_and_says_where() {
    let Some(engine) = Engine::find().await else { return };
    let network = Network::new(&engine).await;
    let folder = Folder::with(&[("natshook.toml", "[[targets]]\nname = \"a\"\nsubject = [\"a\"]\n")]);
    let natshook = Natshook::start_unready(&network, "natshook", &folder).await;
    assert_eq!(natshook.container().exit_code().await, 78);
    let error = natshook.container().stderr().await;
    assert!(error.contains("/etc/natshook/natshook.toml") && error.contains("targets[0].subject"), "{error}");
}
