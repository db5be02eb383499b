//! Targets that register while natshook runs, as they are kept and shown: `seal` makes secrets unreadable for whoever
//! reads the bucket, `document` is a target's JSON in its three forms (as written, as stored, as shown), `judge` tells what
//! becomes of what is stored, `protocol` is what is asked of natshook and answered. Nothing here asks anybody or keeps
//! anything: that is done in `connector::registry` and `connector::registrar`.

mod document;
mod judge;
mod protocol;
mod seal;

pub use document::{Incoming, is_of_former_key, shown, unsealed};
pub use judge::{Judge, Verdict};
pub use protocol::{
    Deleted, Deletion, Found, ListAnswer, ListQuestion, Listed, Named, Paused, Put, PutAnswer, Refused,
    State, VERBS, Wrong,
};
pub use seal::{NONCE_BYTES, SealError, Vault};
