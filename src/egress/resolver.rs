//! From a host name to the addresses that may be dialled. What comes out of here is what is dialled, so an
//! answer that changes between a check and the dialling (DNS rebinding) has nothing to aim at.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::{Guard, Refusal};

/// Resolves through the system and leaves out what the guard refuses.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    guard: Guard,
}

/// Why a host name has no address that may be dialled.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name has no address, or the resolver did not answer.
    #[error("cannot resolve {host}: {cause}")]
    Lookup {
        /// The name.
        host: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// All its addresses are refused; the first refusal is named.
    #[error("{host} resolves to {refusal}")]
    Refused {
        /// The name.
        host: String,
        /// Why the first address is refused.
        refusal: Refusal,
    },
}

impl GuardedResolver {
    /// A resolver that obeys `guard`.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }

    /// The addresses of `host` that may be dialled; at least one.
    ///
    /// # Errors
    /// The name has none, or all are refused.
    pub async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let lookup = |cause| ResolveError::Lookup { host: host.to_owned(), cause };
        let mut refusal = None;
        let mut allowed = Vec::new();
        for address in tokio::net::lookup_host((host, 0)).await.map_err(lookup)? {
            match self.guard.check_address(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        match refusal {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(refusal) => Err(ResolveError::Refused { host: host.to_owned(), refusal }),
            None => Err(lookup(std::io::Error::other("the name has no address"))),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = GuardedResolver::resolve(&resolver, name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
