//! From what was written to what is valid. `load` reads files and the environment, `raw` is the config as written,
//! `check` judges it, and `checked` is the config as the rest of the house sees it. The way between them is here
//! and nowhere else; only `load` knows the config crate.

mod check;
mod checked;
mod error;
mod field;
mod load;
mod raw;
mod schema;
mod secret;
mod value;

pub use checked::{
    Admin, ClientCertificate, Config, InstanceName, Nats, NatsAuth, ServerUrl, Shutdown, SourceKind, Storage,
    Stream, Tls,
};
pub use error::{ConfigError, KeyPath, LoadError, Problem};
pub use schema::schema;
pub use secret::SecretError;
