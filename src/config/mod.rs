//! From what was written to what is valid. `load` reads files and the environment, `raw` is the config as written,
//! `check` judges it, and `checked` is the config as the rest of the house sees it. The way between them is here
//! and nowhere else; only `load` knows the config crate. `rules` judge a target that registers while natshook runs, and
//! `places` tells where one has secrets. `watch` notices that a file changed.

mod batch_value;
mod check;
mod checked;
mod connection;
mod error;
mod field;
mod limits;
mod load;
mod places;
mod raw;
mod reference;
mod rules;
mod schema;
mod secret;
mod target_test;
mod value;
mod watch;
mod words;

pub(crate) use check::shown_url;
pub use checked::{
    Admin, Config, InstanceName, NamedFile, Otlp, Registry, Reload, SealKey, SecretText, Shutdown,
};
pub use connection::{
    ClientCertificate, Connection, ConnectionName, Nats, NatsAuth, Reach, ServerUrl, SourceKind, Storage,
    Stream, Tls,
};
pub use error::{ConfigError, KeyPath, LoadError, Problem};
pub use load::read_target;
pub use places::{Place, visit_places};
pub use reference::reference;
pub use rules::TargetRules;
pub use schema::schema;
pub use secret::SecretError;
pub use target_test::{Expected, ExpectedBody, ExpectedRequest, TargetTest};
pub(crate) use value::{rate, rfc3339};
pub use watch::FileWatch;
