//! A broker in operator mode: accounts and users as signed JWTs, and credentials files for them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with one account for applications and one for the system.
pub(crate) struct Accounts {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self {
            operator: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            system: KeyPair::new_account(),
        }
    }

    /// What makes a broker trust them.
    pub(crate) fn broker_config(&self) -> String {
        let Self { operator, account, system } = self;
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let account_claims = json!({ "type": "account", "version": 2, "limits": limits });
        let system_claims = json!({ "type": "account", "version": 2 });
        format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n {}: {}\n {}: {}\n}}",
            jwt(operator, operator, "operator", json!({ "type": "operator", "version": 2 })),
            system.public_key(),
            account.public_key(),
            jwt(operator, account, "account", account_claims),
            system.public_key(),
            jwt(operator, system, "system", system_claims),
        )
    }

    /// The text of a credentials file for a new user of the account.
    pub(crate) fn credentials(&self, name: &str) -> String {
        let user = KeyPair::new_user();
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
        let jwt = jwt(&self.account, &user, name, claims);
        let seed = user.seed().expect("a new user has one");
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A JWT as the broker reads them: claims of `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_secs();
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({
        "jti": name, "iat": now, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "nats": nats,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).expect("it has its seed"));
    format!("{signed}.{signature}")
}
