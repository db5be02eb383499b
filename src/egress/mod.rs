//! The egress guard: targets are external, so natshook dials public addresses only, unless the config opens
//! more. `guard` judges URLs and addresses (pure); `resolver` is the one way from a host name to the addresses
//! that are dialled, so that what was judged is what is dialled.

mod guard;
mod resolver;

pub use guard::{Guard, Refusal};
pub use resolver::{GuardedResolver, ResolveError};
