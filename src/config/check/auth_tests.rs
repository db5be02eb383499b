//! What `auth`, `signing` and `tls` of a target may say, and what is told of what they may not.
#![allow(clippy::unwrap_used)]

use crate::{config::Config, target::Auth};

const SHARED: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn text(keys: &str) -> String {
    format!("[[targets]]\nname = \"a\"\nsubjects = \"a\"\nurl = \"https://a.example/\"\n{keys}\n")
}

fn errors(keys: &str) -> String {
    Config::from_toml(&text(keys), "test").unwrap_err().to_string()
}

fn oauth2(more: &str) -> String {
    format!(
        "auth = {{ oauth2 = {{ token_url = \"https://id.example/t\", client_id = \"c\", client_secret = \"hunter2\"{more} }} }}"
    )
}

fn messages(more: &str) -> String {
    format!(
        "signing = {{ message_signatures = {{ algorithm = \"hmac-sha256\", key = \"{SHARED}\", key_id = \"k\"{more} }} }}"
    )
}

#[test]
fn what_is_wrong_is_told_with_its_key() {
    for (keys, wanted) in [
        (
            "auth = { oauth2 = {} }".to_owned(),
            vec!["auth.oauth2.token_url", "auth.oauth2.client_id", "auth.oauth2.client_secret"],
        ),
        (oauth2(", scope = [\"a\\\"b\"]"), vec!["auth.oauth2.scope[0]", "expected visible ASCII"]),
        (oauth2(", client_auth = \"jwt\""), vec!["found \"jwt\", expected \"basic\" or \"body\""]),
        (
            oauth2(", parameters = { grant_type = \"x\" }"),
            vec!["auth.oauth2.parameters.grant_type", "natshook sets this parameter itself"],
        ),
        (
            oauth2("").replace("https://id.example", "http://10.0.0.1"),
            vec!["auth.oauth2.token_url", "egress.allow_http"],
        ),
        (
            "auth = { sigv4 = { access_key_id = \"A\", secret_access_key = \"s\", region = \"eu 1\" } }".to_owned(),
            vec!["auth.sigv4.region", "found \"eu 1\"", "auth.sigv4.service (target \"a\"): is missing"],
        ),
        (
            "auth = { sigv4 = { access_key_id = \"A\", secret_access_key = \"s\", region = \"eu-1\", service = \"s3\" } }"
                .to_owned(),
            vec!["auth.sigv4.service (target \"a\"): found \"s3\""],
        ),
        (
            "auth = { bearer = \"x\", sigv4 = { region = \"r\" } }".to_owned(),
            vec!["found bearer and sigv4, expected only one"],
        ),
        ("signing = { message_signatures = {} }".to_owned(), vec!["message_signatures.algorithm", ".key_id"]),
        (
            "signing = { message_signatures = { algorithm = \"ed25519\", key = \"hunter2\", key_id = \"k\" } }".to_owned(),
            vec!["signing.message_signatures.key (target \"a\"): the secret is not a private key in PEM"],
        ),
        (messages(", label = \"Sig\""), vec!["found \"Sig\", expected lower-case letters"]),
        (messages(", key_id = \"\"").replacen("key_id = \"k\", ", "", 1), vec!["expected printable ASCII"]),
        (messages(", expires = \"2d\""), vec!["found 2days, expected 1s to 1day"]),
        (messages(", components = []"), vec!["is empty, expected at least one entry"]),
        (messages(", components = [\"@method\", \"@method\"]"), vec!["components[1]", "a second time"]),
        (messages(", components = [\"Host\"]"), vec!["found \"Host\"", "in lower case"]),
        (messages(", components = [\"host\"]"), vec!["cannot be signed", "expected \"@authority\""]),
        (
            format!("{}\n{}", oauth2(""), messages(", components = [\"authorization\"]")),
            vec!["which auth.oauth2 sets after signing"],
        ),
        ("tls = { cert_file = \"/none\" }".to_owned(), vec!["tls.cert_file", "needs key_file", "cannot read /none"]),
        ("tls = { key_file = \"/none\" }".to_owned(), vec!["needs cert_file beside it"]),
        ("tls = { system_roots = false }".to_owned(), vec!["tls.system_roots", "needs ca_file beside it"]),
    ] {
        let found = errors(&keys);
        for wanted in wanted {
            assert!(found.contains(wanted), "{keys}\n  wanted {wanted}\n  found {found}");
        }
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn a_file_that_is_no_use_for_tls_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let issued = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let cert = file("cert.pem", &issued.cert.pem());
    let key = file("key.pem", &issued.signing_key.serialize_pem());
    let other_key = file("other.pem", &other.signing_key.serialize_pem());
    let empty = file("empty.pem", "");
    for (keys, wanted) in [
        (format!("ca_file = {empty:?}"), "tls.ca_file (target \"a\")"),
        (format!("ca_file = {empty:?}"), "empty.pem holds no certificate; expected PEM"),
        (format!("cert_file = {cert:?}, key_file = {other_key:?}"), "other.pem does not belong to the first"),
        (format!("cert_file = {cert:?}, key_file = {cert:?}"), "tls.key_file (target \"a\")"),
        (format!("cert_file = {key:?}, key_file = {key:?}"), "tls.cert_file (target \"a\")"),
    ] {
        let found = errors(&format!("tls = {{ {keys} }}"));
        assert!(found.contains(wanted), "{keys}\n  wanted {wanted}\n  found {found}");
    }
    let good = text(&format!("tls = {{ ca_file = {cert:?}, cert_file = {cert:?}, key_file = {key:?} }}"));
    let config = Config::from_toml(&good, "test").unwrap();
    assert!(config.connections[0].targets[0].tls.as_ref().unwrap().identity.is_some());
    // A reload sees that one of them has changed.
    assert_eq!(config.reload.files.len(), 3);
    let before = config.connections[0].targets[0].clone();
    std::fs::write(&cert, other.cert.pem()).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    assert_ne!(Config::from_toml(&good, "test").unwrap().connections[0].targets[0], before);
}

#[test]
fn defaults_hold_for_all_and_nothing_secret_is_printed() {
    let text = format!(
        "[defaults]\n{}\nsigning = {{ secrets = [\"whsec_{SHARED}\"], message_signatures = {{ algorithm = \"hmac-sha256\", \
         key = \"{SHARED}\", key_id = \"k\" }} }}\n{}",
        oauth2(", scope = \"a\""),
        text("")
    );
    let config = Config::from_toml(&text, "test").unwrap();
    let target = &config.connections[0].targets[0];
    assert!(matches!(&target.auth, Auth::OAuth2(credentials) if credentials.scope.as_deref() == Some("a")));
    assert!(!target.signing.is_empty() && target.message_signatures.is_some());
    assert!(target.tls.is_none());
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(SHARED), "{shown}");
    let key = "auth = { sigv4 = { access_key_id = \"AKID\", secret_access_key = \"hunter2\", session_token = \"hunter3\", \
               region = \"eu-central-1\", service = \"execute-api\" } }";
    let shown = format!("{:?}", Config::from_toml(&self::text(key), "test").unwrap());
    assert!(shown.contains("SigV4(eu-central-1, execute-api)") && !shown.contains("hunter"), "{shown}");
}
