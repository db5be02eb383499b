//! Sentences about three replicas of natshook on three servers of NATS, all in containers of their own, while something
//! goes wrong with one of them and messages keep coming. `rig` sets it up and settles the account.

mod load;
mod rig;

use natshook_containers::{secs, Engine, Natshook, NEWEST, OLDER};
use rig::{Doubled, Rig};
use tokio::time::sleep;

/// How long what is cut off stays so: long enough for a new leader, and for natshook to notice.
const CUT: std::time::Duration = secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_cut_off_and_comes_back() {
    let Some(engine) = Engine::find().await else { return };
    let rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    let follower = (rig.cluster.leader_of("EVENTS").await + 1) % 3;
    rig.cut_off_for(rig.cluster.server(follower), CUT).await;
    rig.settle("a server that does not lead is cut off for 15 s", load, Doubled::WhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_cut_off_and_comes_back() {
    let Some(engine) = Engine::find().await else { return };
    let rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    let leader = rig.cluster.leader_of("EVENTS").await;
    rig.cut_off_for(rig.cluster.server(leader), CUT).await;
    rig.settle("the stream's leader is cut off for 15 s", load, Doubled::WhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_and_starts_again() {
    let Some(engine) = Engine::find().await else { return };
    let rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    let leader = rig.cluster.leader_of("EVENTS").await;
    rig.cluster.server(leader).kill().await;
    sleep(secs(5)).await;
    rig.cluster.server(leader).start_again().await;
    rig.settle("the stream's leader is killed, and starts 5 s later", load, Doubled::WhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_are_upgraded_one_by_one() {
    let Some(engine) = Engine::find().await else { return };
    let mut rig = Rig::start(&engine, OLDER).await;
    let load = rig.load().await;
    for number in 0..3 {
        rig.cluster.replace(number, NEWEST).await;
    }
    let what = format!("the servers are upgraded one by one, {OLDER} to {NEWEST}");
    rig.settle(&what, load, Doubled::WhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn natshook_is_replaced_one_by_one() {
    let Some(engine) = Engine::find().await else { return };
    let mut rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    for number in 0..3 {
        rig.replace_natshook(number).await;
    }
    rig.settle("the natshooks are replaced one by one", load, Doubled::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_natshook_is_cut_off_and_comes_back() {
    let Some(engine) = Engine::find().await else { return };
    let rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    rig.cut_off_for(rig.natshooks[0].container(), CUT).await;
    rig.settle("a natshook is cut off for 15 s", load, Doubled::WhatWasInFlight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_natshook_is_killed_and_starts_again() {
    let Some(engine) = Engine::find().await else { return };
    let rig = Rig::start(&engine, NEWEST).await;
    let load = rig.load().await;
    let natshook: &Natshook = &rig.natshooks[0];
    natshook.container().kill().await;
    sleep(secs(5)).await;
    natshook.container().start_again().await;
    rig.settle("a natshook is killed, and starts 5 s later", load, Doubled::WhatWasInFlight).await;
}
