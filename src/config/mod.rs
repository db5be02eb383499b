//! From what was written to what is valid. `raw` is the config as written, `checked` as the rest of the house
//! sees it; the way between them is here and nowhere else.

mod checked;

pub use checked::{
    Admin, ClientCertificate, Config, InstanceName, Nats, NatsAuth, ServerUrl, Shutdown, SourceKind, Storage,
    Stream, Tls,
};
