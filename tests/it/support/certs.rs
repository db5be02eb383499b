//! A certificate authority with one server and one client certificate, as files and as TLS settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Files of one authority. Both certificates are for 127.0.0.1 and localhost.
#[derive(Debug)]
pub(crate) struct Certs {
    pub(crate) ca: PathBuf,
    pub(crate) server_cert: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) client_cert: PathBuf,
    pub(crate) client_key: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
    server: (CertificateDer<'static>, Vec<u8>),
}

/// What is wrong with a receiver's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Expired,
    NotYetValid,
    WrongHost,
    SelfSigned,
}

impl Certs {
    pub(crate) fn in_folder(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "natshook test authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let (server, server_key) = issue(&ca, ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = issue(&ca, ExtendedKeyUsagePurpose::ClientAuth);
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        Self {
            server: (server.der().clone(), server_key.serialize_der()),
            ca: write("ca.pem", ca.pem()),
            server_cert: write("server.pem", server.pem()),
            server_key: write("server-key.pem", server_key.serialize_pem()),
            client_cert: write("client.pem", client.pem()),
            client_key: write("client-key.pem", client_key.serialize_pem()),
            authority: ca,
        }
    }

    /// Settings for a TLS receiver that speaks HTTP/1.1.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::new(settings(self.server.clone()))
    }

    /// Settings for a TLS receiver that lets in only who shows a certificate of the authority `of`.
    pub(crate) fn mutual_config(&self, of: &Certs) -> Arc<ServerConfig> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(of.authority.der().clone()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (cert, key) = self.server.clone();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("supported")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![cert], PrivateKeyDer::try_from(key).expect("a key"));
        Arc::new(config.expect("the key fits"))
    }

    /// The keys of a target's `tls`: this authority.
    pub(crate) fn trust(&self) -> String {
        format!("ca_file = {:?}", self.ca)
    }

    /// The keys of a target's `tls`: this client certificate.
    pub(crate) fn identity(&self) -> String {
        format!("cert_file = {:?}, key_file = {:?}", self.client_cert, self.client_key)
    }

    /// Settings for a TLS receiver that speaks HTTP/2 alone.
    pub(crate) fn http2_config(&self) -> Arc<ServerConfig> {
        let mut config = settings(self.server.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Settings for a TLS receiver that nobody should trust.
    pub(crate) fn flawed_config(&self, flaw: Flaw) -> Arc<ServerConfig> {
        let mut params = params(ExtendedKeyUsagePurpose::ServerAuth);
        match flaw {
            Flaw::Expired => params.not_after = rcgen::date_time_ymd(2024, 1, 1),
            Flaw::NotYetValid => params.not_before = rcgen::date_time_ymd(3024, 1, 1),
            Flaw::WrongHost => {
                params.subject_alt_names = vec![SanType::DnsName("else.example".try_into().expect("a name"))]
            }
            Flaw::SelfSigned => {}
        }
        let key = KeyPair::generate().expect("a key");
        let cert = if flaw == Flaw::SelfSigned {
            params.self_signed(&key)
        } else {
            params.signed_by(&key, &self.authority)
        };
        Arc::new(settings((cert.expect("signed").der().clone(), key.serialize_der())))
    }
}

fn settings((cert, key): (CertificateDer<'static>, Vec<u8>)) -> ServerConfig {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("the key fits")
}

fn params(usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("valid names");
    params.extended_key_usages = vec![usage];
    params
}

fn issue(ca: &CertifiedIssuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let cert = params(usage).signed_by(&key, ca).expect("signed");
    (cert, key)
}
