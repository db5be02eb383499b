//! The harness of the container tests: a real Docker engine, private networks, and the images as their users run them.
//! No sentence about natshook stands here; those are in `tests/`.

pub mod broker;
pub mod container;
pub mod engine;
pub mod inbox;
pub mod natshook;
pub mod network;
mod older_engine;
pub mod wait;

pub use broker::{Broker, Cluster, NEWEST, OLDER};
pub use container::Container;
pub use engine::Engine;
pub use inbox::Inbox;
pub use natshook::Natshook;
pub use network::Network;
pub use wait::{secs, until, until_some};
