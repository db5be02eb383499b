//! Keys and algorithms of HTTP Message Signatures (RFC 9421, 3.3). Pure, but for the random numbers that ECDSA and RSA-PSS
//! need for each signature, which the library draws from the system.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest, hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// The least bytes of a shared secret: as many as its digest has (RFC 2104, 3).
const SHARED_BYTES_MIN: usize = 32;

/// How a request is signed (RFC 9421, 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `ed25519`.
    Ed25519,
    /// `hmac-sha256`.
    HmacSha256,
    /// `ecdsa-p256-sha256`.
    EcdsaP256Sha256,
    /// `ecdsa-p384-sha384`.
    EcdsaP384Sha384,
    /// `rsa-pss-sha512`.
    RsaPssSha512,
    /// `rsa-v1_5-sha256`.
    RsaV15Sha256,
}

/// Why a text is not a key. Never holds the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A shared secret that is not base64.
    #[error("is not base64; expected at least 32 bytes of it for hmac-sha256")]
    NotBase64,
    /// A shared secret that is too short.
    #[error("has {0} bytes after decoding; expected at least 32 for hmac-sha256")]
    Short(usize),
    /// Not a private key in PEM.
    #[error("is not a private key in PEM; expected -----BEGIN PRIVATE KEY----- (PKCS#8, not encrypted)")]
    NotPem,
    /// A key in SEC 1.
    #[error("is a key in SEC 1; expected PKCS#8, as `openssl pkcs8 -topk8 -nocrypt` makes it")]
    Sec1,
    /// A private key of another kind.
    #[error("does not fit the algorithm: {0}")]
    Unfit(String),
}

/// A key with its algorithm. Printed without the key.
pub struct Key {
    secret: Secret,
    algorithm: Algorithm,
    /// Tells keys apart without keeping them.
    digest: digest::Digest,
    random: SystemRandom,
}

enum Secret {
    Shared(hmac::Key),
    Ed25519(Ed25519KeyPair),
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<rsa::KeyPair>, &'static dyn RsaEncoding),
}

impl Key {
    /// The key that `text` holds: base64 for `hmac-sha256`, PEM for the others.
    ///
    /// # Errors
    /// It does not, or holds one for another algorithm.
    pub fn read(algorithm: Algorithm, text: &str) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let secret = match algorithm {
            Algorithm::HmacSha256 => shared(text)?,
            Algorithm::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8(&pem(text)?)?)
                .map(Secret::Ed25519)
                .map_err(unfit)?,
            Algorithm::EcdsaP256Sha256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, text, &random)?,
            Algorithm::EcdsaP384Sha384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, text, &random)?,
            Algorithm::RsaPssSha512 => rsa(&RSA_PSS_SHA512, text)?,
            Algorithm::RsaV15Sha256 => rsa(&RSA_PKCS1_SHA256, text)?,
        };
        Ok(Self { secret, algorithm, digest: digest::digest(&digest::SHA256, text.as_bytes()), random })
    }

    /// The signature of `base`. Empty when the system has no random numbers left to give, which no receiver takes for one.
    pub(super) fn sign(&self, base: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Shared(key) => hmac::sign(key, base).as_ref().to_vec(),
            Secret::Ed25519(pair) => pair.sign(base).as_ref().to_vec(),
            Secret::Ecdsa(pair) => {
                pair.sign(&self.random, base).map(|signature| signature.as_ref().to_vec()).unwrap_or_default()
            }
            Secret::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match pair.sign(*encoding, &self.random, base, &mut signature) {
                    Ok(()) => signature,
                    Err(_) => Vec::new(),
                }
            }
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.digest.as_ref() == other.digest.as_ref()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

fn shared(text: &str) -> Result<Secret, KeyError> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| KeyError::NotBase64)?;
    if bytes.len() < SHARED_BYTES_MIN {
        return Err(KeyError::Short(bytes.len()));
    }
    Ok(Secret::Shared(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
}

fn pem(text: &str) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NotPem)
}

fn pkcs8<'a>(key: &'a PrivateKeyDer<'static>) -> Result<&'a [u8], KeyError> {
    match key {
        PrivateKeyDer::Pkcs8(key) => Ok(key.secret_pkcs8_der()),
        PrivateKeyDer::Sec1(_) => Err(KeyError::Sec1),
        _ => Err(KeyError::Unfit("it is an RSA key".to_owned())),
    }
}

fn unfit(cause: ring::error::KeyRejected) -> KeyError {
    KeyError::Unfit(cause.to_string())
}

fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    text: &str,
    random: &SystemRandom,
) -> Result<Secret, KeyError> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8(&pem(text)?)?, random).map_err(unfit)?;
    Ok(Secret::Ecdsa(Box::new(pair)))
}

fn rsa(encoding: &'static dyn RsaEncoding, text: &str) -> Result<Secret, KeyError> {
    let key = pem(text)?;
    let pair = match &key {
        PrivateKeyDer::Pkcs1(key) => rsa::KeyPair::from_der(key.secret_pkcs1_der()),
        _ => rsa::KeyPair::from_pkcs8(pkcs8(&key)?),
    };
    Ok(Secret::Rsa(Box::new(pair.map_err(unfit)?), encoding))
}
