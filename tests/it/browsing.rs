//! Reading a stream by sequence finds all that it holds, in order, also where it has gaps and while it changes.

use std::collections::HashSet;
use std::sync::Arc;

use async_nats::jetstream;
use natshook::message::{Message, Origin};
use natshook::source::{StreamReader, Walk, connect};

use crate::support::{Broker, Config, letters, secs};

const STREAM: &str = "NATSHOOK_RETRY";

async fn reader(broker: &Broker) -> StreamReader {
    let config = Config::on(broker).target("policy", "a", "http://127.0.0.1:1/", "").text();
    let config = natshook::config::Config::from_toml(&config, "a test").expect("a config");
    let broker = connect(&config.connections[0].nats, &config.name).await.expect("the broker answers");
    StreamReader::new(Arc::new(broker), STREAM)
}

fn sequence(message: &Message) -> u64 {
    match &message.origin {
        Origin::Stored { sequence, .. } => *sequence,
        Origin::Passing { .. } => panic!("it is in a stream"),
    }
}

async fn all(mut walk: Walk) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(message) = walk.next().await.expect("the broker answers") {
        sequences.push(sequence(&message));
    }
    sequences
}

#[tokio::test]
async fn every_message_is_found_once_and_in_order_whatever_gaps_there_are() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let broker = Broker::start().await;
        let context = broker.jetstream_context().await;
        letters::own_streams(&context, secs(120)).await;
        let stream = context.get_stream(STREAM).await.unwrap();
        let mut held: Vec<(u64, bool)> = Vec::new();
        for _ in 0..10 {
            // Whole stretches of one subject, or removed; and single ones.
            let (ours, kept) = (random.bool(), random.f64());
            for _ in 0..random.usize(1..120) {
                let ours = ours ^ (random.u8(0..20) == 0);
                let subject = if ours { "natshook.retry.ours" } else { "natshook.retry.other" };
                let sequence = broker_publish(&context, subject).await;
                if random.f64() < kept {
                    held.push((sequence, ours));
                } else {
                    stream.delete_message(sequence).await.unwrap();
                }
            }
        }
        let reader = reader(&broker).await;
        let ours: Vec<u64> = held.iter().filter(|(_, ours)| *ours).map(|(sequence, _)| *sequence).collect();
        let every: Vec<u64> = held.iter().map(|(sequence, _)| *sequence).collect();
        for ahead in [1, 7, 64] {
            assert_eq!(all(reader.walk("natshook.retry.ours".into(), 1, ahead)).await, ours, "seed {seed}");
            assert_eq!(all(reader.walk("natshook.retry.*".into(), 0, ahead)).await, every, "seed {seed}");
        }
        let from = random.u64(1..every.last().unwrap() + 2);
        let rest: Vec<u64> = ours.iter().copied().filter(|sequence| *sequence >= from).collect();
        assert_eq!(all(reader.walk("natshook.retry.ours".into(), from, 64)).await, rest, "seed {seed}");
    }
}

async fn broker_publish(context: &jetstream::Context, subject: &str) -> u64 {
    context.publish(subject.to_owned(), "".into()).await.unwrap().await.unwrap().sequence
}

#[tokio::test]
async fn what_only_moves_towards_the_end_is_not_missed() {
    const CHAINS: usize = 60;
    let broker = Broker::start().await;
    let context = broker.jetstream_context().await;
    letters::own_streams(&context, secs(120)).await;
    let stream = context.get_stream(STREAM).await.unwrap();
    let publish = async |chain: usize| {
        let sent = context.publish("natshook.retry.ours", chain.to_string().into()).await.unwrap();
        sent.await.unwrap().sequence
    };
    let mut places = Vec::new();
    for chain in 0..CHAINS {
        places.push(publish(chain).await);
    }
    let reader = reader(&broker).await;
    let mut random = fastrand::Rng::with_seed(7);
    // As renewed copies do: stored anew, then removed where it was.
    let moving = async {
        // Never ends by itself.
        loop {
            let chain = random.usize(0..CHAINS);
            let before = std::mem::replace(&mut places[chain], publish(chain).await);
            stream.delete_message(before).await.unwrap();
        }
    };
    let reading = async {
        for _ in 0..200 {
            let mut walk = reader.walk("natshook.retry.*".into(), 1, 64);
            let mut seen = HashSet::new();
            while let Some(message) = walk.next().await.expect("the broker answers") {
                seen.insert(message.payload);
            }
            assert_eq!(seen.len(), CHAINS);
        }
    };
    tokio::select! {
        () = reading => {}
        () = moving => {}
    }
    assert!(places.iter().any(|place| *place > 2 * CHAINS as u64), "they moved while they were read");
}
