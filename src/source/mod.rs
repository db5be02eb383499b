//! Where messages come from. `broker` is the connection; `streams` finds or makes the streams, `known_streams` is what
//! was found, `own_stream` keeps natshook's own, `consumer` the durable consumers; `pull` takes messages from a consumer and survives what happens
//! to it; `gaps` notices what a stream dropped;
//! `core` is the plain subscription for brokers without JetStream; `browse` reads a stream without a consumer, `survey`
//! asks what waits, `watch` only looks on; `bucket` keeps what natshook is told while it runs, `claim` a key of it that one process
//! holds; `questions` are asked and answered among natshooks, requests to a `service` by anybody. What leaves this
//! room is an [`Incoming`]: a delivery and the receipt by which it is acked. Nothing here knows targets' URLs or HTTP.

mod attach;
mod broker;
mod browse;
mod bucket;
mod claim;
mod connect;
mod consumer;
mod core;
mod gaps;
mod known_streams;
mod own_stream;
mod pull;
mod questions;
mod receipt;
mod rescue;
mod service;
mod silence;
mod streams;
pub mod survey;
mod watch;
mod wire;

pub use attach::{PullSpec, Recovery};
pub use broker::{Broker, BrokerError, StoreError, Stored};
pub use browse::{AHEAD_MAX, Extent, StreamReader, Walk};
pub use bucket::{Bucket, Changes, Entry, KeepError, TARGET_BYTES_MAX};
pub use claim::{Claim, Held};
pub use connect::{ConnectError, connect};
pub use consumer::{ConsumerSpec, Position, remove_consumer};
pub use core::Subscription;
pub use gaps::{Dropped, GapCheck};
pub use known_streams::KnownStreams;
pub use own_stream::{OwnStream, StreamRole};
pub use pull::Pull;
pub use questions::{Audience, Question, Questions, ask};
pub use receipt::{Incoming, Receipt};
pub use service::{Endpoint, Request, Service, ServiceError};
pub use streams::{TargetStream, ensure_source_streams, find_source_streams, has_stream};
pub use watch::Watch;
