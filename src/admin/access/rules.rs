//! What the config says about who may come in.

use std::fmt;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::session::SessionKey;
use crate::config;

/// Who may come in.
#[derive(Debug)]
pub(in crate::admin) enum Rules {
    /// Everybody who reaches the loopback address under one of its own names.
    Loopback,
    /// Whoever knows the token.
    Token(Box<Token>),
}

/// The token, in the two forms in which it is needed. Printed without either.
pub(in crate::admin) struct Token {
    /// Its SHA-256: comparing digests tells nothing of the token's length.
    digest: [u8; 32],
    pub(super) key: SessionKey,
    /// Whether metrics are open to everybody all the same.
    pub(super) open_metrics: bool,
}

impl Rules {
    /// As `admin` says.
    pub(in crate::admin) fn new(admin: &config::Admin) -> Self {
        match &admin.token {
            None => Self::Loopback,
            Some(token) => Self::Token(Box::new(Token {
                digest: sha256(token.expose()),
                key: SessionKey::new(token.expose()),
                open_metrics: admin.open_metrics,
            })),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("open_metrics", &self.open_metrics).finish_non_exhaustive()
    }
}

impl Token {
    /// Whether `token` is the one, in a time that does not depend on where it differs.
    pub(super) fn is(&self, token: &str) -> bool {
        self.digest.ct_eq(&sha256(token)).into()
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}
