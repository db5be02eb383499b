//! Three brokers as a cluster, with three replicas of every stream: its nodes die, are cut off, or are restarted.

use std::time::{Duration, Instant};

use crate::campaign::{campaign, messages};
use crate::cluster::{Cluster, NODES};
use crate::proxy::Link;
use crate::rig::Rig;
use crate::support::broker::EVENTS;
use crate::support::{Config, Connector, millis, secs, until_some};

/// What is published while a fault lasts comes over this time.
const LOAD: Duration = secs(6);
/// Acks that a node took within this time before it ended may not have reached another.
const FORGOTTEN: Duration = secs(1);

async fn replicated(rig: &Rig, cluster: &Cluster) -> Connector {
    connected_to(rig, &cluster.servers()).await
}

async fn connected_to(rig: &Rig, servers: &str) -> Connector {
    let config = Config::offline()
        .nats_instead(servers)
        .stream_instead("name = \"EVENTS\"\ncreate = true\nreplicas = 3")
        .and("[retry_queue]\nreplicas = 3\n[dead_letter]\nreplicas = 3");
    Connector::start(&rig.with_targets(config, rig.sink.port, "")).await
}

/// The node that leads the source stream.
async fn leader(rig: &Rig) -> usize {
    until_some("the source stream has a leader", secs(30), async || {
        let stream = rig.books.context.get_stream(EVENTS).await.ok()?;
        stream.cached_info().cluster.as_ref()?.leader.as_ref()?.parse().ok()
    })
    .await
}

fn ended_lately(rig: &Rig) -> usize {
    rig.sink.ledger(|ledger| ledger.ended_within(FORGOTTEN, Instant::now()))
}

#[tokio::test]
async fn a_cluster_whose_leader_is_killed_loses_nothing() {
    campaign(
        "22-leader-killed",
        "3-node cluster: the stream's leader SIGKILLed, back after 3 s",
        async |seed| {
            let mut cluster = Cluster::start().await;
            let rig = Rig::new(cluster.client(None).await, seed, 2).await;
            let natshook = replicated(&rig, &cluster).await;
            let killing = async {
                tokio::time::sleep(millis(rig.random(1).u64(500..2_000))).await;
                cluster.kill9(leader(&rig).await);
                let forgotten = ended_lately(&rig);
                tokio::time::sleep(secs(3)).await;
                for node in 0..NODES {
                    cluster.restart_if_ended(node).await;
                }
                (forgotten, Instant::now())
            };
            let ((), (forgotten, ended)) = tokio::join!(rig.publish(messages(), LOAD), killing);
            rig.close(&natshook, rig.repeats(1) + forgotten, Some(ended)).await
        },
    )
    .await;
}

#[tokio::test]
async fn a_cluster_with_a_node_cut_off_loses_nothing() {
    campaign("23-partitioned", "3-node cluster: a node cut off from the others for 8 s", async |seed| {
        let cluster = Cluster::start().await;
        let node = seed as usize % NODES;
        let rig = Rig::new(cluster.client(Some(node)).await, seed, 2).await;
        let natshook = replicated(&rig, &cluster).await;
        let cutting = async {
            tokio::time::sleep(millis(rig.random(1).u64(500..2_000))).await;
            cluster.partition(node, Link::Cut);
            let forgotten = ended_lately(&rig);
            tokio::time::sleep(secs(8)).await;
            cluster.partition(node, Link::Passes);
            (forgotten, Instant::now())
        };
        let ((), (forgotten, ended)) = tokio::join!(rig.publish(messages(), LOAD), cutting);
        rig.close(&natshook, rig.repeats(1) + forgotten, Some(ended)).await
    })
    .await;
}

#[tokio::test]
async fn a_rolling_restart_of_the_cluster_loses_nothing() {
    campaign("24-cluster-rolling", "3-node cluster: rolling restart under load", async |seed| {
        let mut cluster = Cluster::start().await;
        let rig = Rig::new(cluster.client(None).await, seed, 2).await;
        let natshook = replicated(&rig, &cluster).await;
        let restarting = async {
            let mut forgotten = 0;
            for node in 0..NODES {
                tokio::time::sleep(secs(1)).await;
                cluster.stop(node).await;
                forgotten += ended_lately(&rig);
                cluster.restart_if_ended(node).await;
            }
            (forgotten, Instant::now())
        };
        let ((), (forgotten, ended)) = tokio::join!(rig.publish(messages(), LOAD), restarting);
        rig.close(&natshook, rig.repeats(NODES) + forgotten, Some(ended)).await
    })
    .await;
}

#[tokio::test]
async fn natshook_leaves_a_node_that_stays_cut_off() {
    let cluster = Cluster::start().await;
    let rig = Rig::new(cluster.client(Some(0)).await, 1, 2).await;
    let natshook = connected_to(&rig, &cluster.server(0)).await;

    cluster.partition(0, Link::Cut);
    rig.publish(messages(), secs(1)).await;

    natshook.wait_long_for_line(&["connecting to another of the cluster"], secs(90)).await;
    // All is delivered while the node is still cut off.
    let bound = rig.repeats(1);
    rig.close(&natshook, bound, None).await;
}
