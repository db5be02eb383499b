//! How requests prove who sends them: real token endpoints, real TLS servers, signatures checked by others.

mod oauth2;
mod signatures;
mod tls;
