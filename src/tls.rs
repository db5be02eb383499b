//! What the connections to a target need of TLS beyond what all have in common: authorities of its own, and a certificate
//! that says who we are. Pure: bytes come in, checked certificates and keys come out; `sender` makes connections of them.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

/// Why a file is of no use for TLS. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFileError {
    /// The file is not PEM where it should be.
    #[error("is not PEM: {0}")]
    NotPem(String),
    /// No certificate stands in it.
    #[error("holds no certificate; expected PEM with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// A certificate in it cannot be read.
    #[error("holds a certificate that cannot be used: {0}")]
    Certificate(String),
    /// No private key stands in it.
    #[error(
        "holds no private key; expected PEM with -----BEGIN PRIVATE KEY----- (PKCS#8, PKCS#1 or SEC 1, not encrypted)"
    )]
    NoKey,
    /// The key is of a kind that is not supported.
    #[error("holds a private key that cannot be used: {0}; expected RSA, ECDSA P-256, P-384 or Ed25519")]
    Key(String),
    /// The key is another certificate's.
    #[error("does not belong to the first certificate in cert_file; expected the key that it was issued for")]
    AnotherKey,
}

/// A certificate with the chain that leads to it, and its key. Printed without either.
#[derive(PartialEq)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the chain (our certificate first) from one PEM text and the key from another.
    ///
    /// # Errors
    /// About the chain, or else about the key.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = certificates(chain).map_err(IdentityError::Chain)?;
        let key = private_key(key).map_err(IdentityError::Key)?;
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider()) {
            Ok(_) => Ok(Self { chain, key }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Key(TlsFileError::AnotherKey)),
            Err(rustls::Error::InvalidCertificate(cause)) => {
                Err(IdentityError::Chain(TlsFileError::Certificate(cause.to_string())))
            }
            Err(cause) => Err(IdentityError::Key(TlsFileError::Key(cause.to_string()))),
        }
    }

    /// Our certificate, and those that lead to it.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The key of the first certificate.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// Which of the two files of an [`Identity`] is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificates'.
    Chain(TlsFileError),
    /// The key's.
    Key(TlsFileError),
}

/// What a target's connections need of TLS. Equal needs share connections. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Authorities that are trusted beside the system's.
    pub authorities: Arc<Vec<CertificateDer<'static>>>,
    /// Whether the system's authorities are trusted too.
    pub system_roots: bool,
    /// Who we are, if the receiver asks.
    pub identity: Option<Arc<Identity>>,
}

/// The certificate authorities in a PEM text, at least one.
///
/// # Errors
/// There is none, or one that cannot be trusted.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found = certificates(pem)?;
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|cause| TlsFileError::Certificate(cause.to_string()))?;
    }
    Ok(found)
}

/// The library that does the cryptography, stated rather than taken from what the process has installed.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsFileError::NoCertificate),
        Ok(found) => Ok(found),
        Err(cause) => Err(TlsFileError::NotPem(cause.to_string())),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|cause| match cause {
        pem::Error::NoItemsFound => TlsFileError::NoKey,
        // Its text may quote the file, which holds a key.
        _ => TlsFileError::NotPem("a line or an end is missing".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn issued() -> (String, String) {
        let issued = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_an_identity_and_print_nothing() {
        let (cert, key) = issued();
        let identity = Identity::read(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(format!("{identity:?}"), "Identity(1 certificates)");
        assert_eq!(identity, Identity::read(cert.as_bytes(), key.as_bytes()).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_told_of_the_file_that_is_wrong() {
        let ((cert, key), (_, other)) = (issued(), issued());
        let refused = |cert: &str, key: &str| Identity::read(cert.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(refused(&cert, &other), IdentityError::Key(TlsFileError::AnotherKey));
        assert_eq!(refused(&cert, &cert), IdentityError::Key(TlsFileError::NoKey));
        assert_eq!(refused(&key, &key), IdentityError::Chain(TlsFileError::NoCertificate));
        let torn = &cert[..cert.len() / 2];
        assert!(matches!(refused(torn, &key), IdentityError::Chain(TlsFileError::NotPem(_))));
        let other_bytes = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(authorities(other_bytes.as_bytes()), Err(TlsFileError::Certificate(_))));
        assert_eq!(authorities(b"hello"), Err(TlsFileError::NoCertificate));
        assert_eq!(authorities(cert.as_bytes()).unwrap().len(), 1);
    }
}
