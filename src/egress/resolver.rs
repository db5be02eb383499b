//! From a host name to the addresses that may be dialled. What comes out of here is what is dialled, so an
//! answer that changes between a check and the dialling (DNS rebinding) has nothing to aim at.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::guard::{Grounds, Guard, Reach, Refusal};

/// Resolves through the system and leaves out what the guard refuses.
///
/// A resolver is told a name but no port; the reach of the URLs that it serves says what their ports allow.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    guard: Arc<Guard>,
    reach: Reach,
}

/// Whether one address of a name may be dialled.
pub type Verdict = Result<Grounds, Refusal>;

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
    /// A resolver that obeys `guard`, for URLs of this reach.
    #[must_use]
    pub fn new(guard: Arc<Guard>, reach: Reach) -> Self {
        Self { guard, reach }
    }

    /// All addresses of `host`, each with its verdict; at least one.
    ///
    /// # Errors
    /// [`ResolveError::Lookup`]: the name has none.
    pub async fn judge(&self, host: &str) -> Result<Vec<(SocketAddr, Verdict)>, ResolveError> {
        let lookup = |cause| ResolveError::Lookup { host: host.to_owned(), cause };
        let mut judged: Vec<(SocketAddr, Verdict)> = Vec::new();
        // The client puts the URL's port in the place of 0.
        for address in tokio::net::lookup_host((host, 0)).await.map_err(lookup)? {
            if !judged.iter().any(|(known, _)| *known == address) {
                judged.push((address, self.guard.check_address(address.ip(), self.reach)));
            }
        }
        if judged.is_empty() {
            return Err(lookup(std::io::Error::other("the name has no address")));
        }
        Ok(judged)
    }

    /// The addresses of `host` that may be dialled; at least one.
    ///
    /// # Errors
    /// The name has none, or all are refused.
    pub async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut refusal = None;
        let mut allowed = Vec::new();
        for (address, verdict) in self.judge(host).await? {
            match verdict {
                Ok(_) => allowed.push(address),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => {
                Err(ResolveError::Refused { host: host.to_owned(), refusal })
            }
            _ => Ok(allowed),
        }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.into_iter()) })
    }
}
