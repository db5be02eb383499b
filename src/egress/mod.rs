//! The egress guard: targets are external, so natshook dials public addresses on a few ports only, unless the config
//! opens more. `ranges` knows which addresses are not public and `guard` judges URLs and addresses (both pure);
//! `resolver` is the one way from a host name to the addresses that are dialled, so that what was judged is what is
//! dialled.

mod guard;
mod ranges;
mod resolver;

pub use guard::{DEFAULT_PORTS, Grounds, Guard, Reach, Refusal};
pub use resolver::{GuardedResolver, ResolveError, Verdict};
