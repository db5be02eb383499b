//! A certificate authority with one server and one client certificate, as files and as TLS settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Files of one authority. Both certificates are for 127.0.0.1 and localhost.
#[derive(Debug)]
pub(crate) struct Certs {
    pub(crate) ca: PathBuf,
    pub(crate) server_cert: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) client_cert: PathBuf,
    pub(crate) client_key: PathBuf,
    server: (CertificateDer<'static>, Vec<u8>),
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
            ca: write("ca.pem", ca.pem()),
            server_cert: write("server.pem", server.pem()),
            server_key: write("server-key.pem", server_key.serialize_pem()),
            client_cert: write("client.pem", client.pem()),
            client_key: write("client-key.pem", client_key.serialize_pem()),
            server: (server.der().clone(), server_key.serialize_der()),
        }
    }

    /// Settings for a TLS receiver.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let (cert, key) = self.server.clone();
        let key = PrivateKeyDer::try_from(key).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("supported")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("the key fits");
        Arc::new(config)
    }
}

fn issue(ca: &CertifiedIssuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("valid names");
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, ca).expect("signed");
    (cert, key)
}
