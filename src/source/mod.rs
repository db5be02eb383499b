//! Where messages come from. `broker` is the connection; `streams` finds or makes the streams, `own_stream` keeps
//! natshook's own, `consumer` the durable consumers; `pull` takes messages from a consumer and survives what happens
//! to it; `gaps` notices what a stream dropped;
//! `core` is the plain subscription for brokers without JetStream; `watch` only looks on. What leaves this
//! room is an [`Incoming`]: a delivery and the receipt by which it is acked. Nothing here knows targets' URLs or HTTP.

mod attach;
mod broker;
mod connect;
mod consumer;
mod core;
mod gaps;
mod own_stream;
mod pull;
mod receipt;
mod rescue;
mod streams;
mod watch;
mod wire;

pub use attach::{PullSpec, Recovery};
pub use broker::{Broker, BrokerError, StoreError, Stored};
pub use connect::{ConnectError, connect};
pub use consumer::{ConsumerSpec, Position};
pub use core::Subscription;
pub use gaps::{Dropped, GapCheck};
pub use own_stream::{OwnStream, StreamRole};
pub use pull::Pull;
pub use receipt::{Incoming, Receipt};
pub use streams::{TargetStream, ensure_source_streams, warn_of_limits};
pub use watch::Watch;
