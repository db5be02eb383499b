//! Signatures checked by others' code: the `standardwebhooks` crate for `v1`, ring for `v1a`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::receiver::Received;

/// Whether one of the request's `v1` signatures was made with `secret` (`whsec_…`), just now.
pub(crate) fn v1_verifies(request: &Received, secret: &str) -> bool {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = request.header(name).unwrap_or_else(|| panic!("no {name}"));
        headers.insert(name, value.parse().expect("a header value"));
    }
    let webhook = standardwebhooks::Webhook::new(secret).expect("a secret");
    webhook.verify(&request.body, &headers).is_ok()
}

/// Whether one of the request's `v1a` signatures was made with the private half of `public_key`.
pub(crate) fn v1a_verifies(request: &Received, public_key: &[u8]) -> bool {
    let text = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}"));
    let signed =
        [text("webhook-id").as_bytes(), b".", text("webhook-timestamp").as_bytes(), b".", &request.body]
            .concat();
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    let header = text("webhook-signature");
    let mut signatures = header.split(' ').filter_map(|one| one.strip_prefix("v1a,"));
    signatures.any(|one| STANDARD.decode(one).is_ok_and(|bytes| key.verify(&signed, &bytes).is_ok()))
}
