//! HTTP Message Signatures and AWS's signatures, checked at a receiver by code that is not natshook's.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use ring::{digest, hmac};

use crate::support::connector::natshook_with;
use crate::support::receiver::Received;
use crate::support::tools::python_libraries;
use crate::support::{Broker, Config, Connector, Receiver};

const SHARED: &str = "c2hhcmVkIHNlY3JldCBvZiB0aGlydHktdHdvIGJ5dGVzLi4=";

fn messages(keys: &str) -> String {
    format!("signing = {{ message_signatures = {{ {keys} }} }}")
}

/// A request signed for `more`, and the URL that it came to.
async fn signed(more: &str, path: &str) -> (Received, String) {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let url = receiver.url(path);
    let _connector = Connector::start(&Config::on(&broker).target("policy", "a", &url, more)).await;
    broker.publish_with_headers("a", &[("Content-Type", "application/json")], "{\"a\": 1}").await;
    let request = receiver.wait_for(path, 1).await.remove(0);
    (request, url)
}

/// What was signed, put together again from what arrived, by the letter of RFC 9421, 2.5.
fn base(request: &Received, url: &str) -> String {
    let input = request.header("signature-input").unwrap();
    let parameters = input.split_once('=').unwrap().1;
    let names = parameters.trim_start_matches('(').split_once(')').unwrap().0;
    let authority = request.header("host").unwrap();
    let mut base = String::new();
    for name in names.split(' ').map(|name| name.trim_matches('"')) {
        let value = match name {
            "@method" => request.method.clone(),
            "@target-uri" => url.to_owned(),
            "@authority" => authority.clone(),
            "@request-target" => request.path.clone(),
            header => request.header(header).unwrap_or_else(|| panic!("no {header}")),
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    format!("{base}\"@signature-params\": {parameters}")
}

fn signature(request: &Received) -> Vec<u8> {
    let value = request.header("signature").unwrap();
    STANDARD.decode(value.split_once("=:").unwrap().1.trim_end_matches(':')).unwrap()
}

/// Whether the request's digest is that of its body (RFC 9530).
fn digest_fits(request: &Received) -> bool {
    let expected = STANDARD.encode(digest::digest(&digest::SHA256, &request.body));
    request.header("content-digest") == Some(format!("sha-256=:{expected}:"))
}

#[tokio::test]
async fn a_shared_secret_signs_method_address_type_digest_and_id() {
    let keys = format!("algorithm = \"hmac-sha256\", key = {SHARED:?}, key_id = \"ours\", expires = \"5m\"");
    let (request, url) = signed(&messages(&keys), "/hook?tenant=7").await;
    let input = request.header("signature-input").unwrap();
    assert!(
        input.starts_with(
            "sig1=(\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \"webhook-id\");created="
        ),
        "{input}"
    );
    assert!(input.contains(";expires=") && input.ends_with(";keyid=\"ours\""), "{input}");
    assert!(digest_fits(&request));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SHARED).unwrap());
    hmac::verify(&key, base(&request, &url).as_bytes(), &signature(&request)).unwrap();
}

#[tokio::test]
async fn private_keys_from_files_sign_what_the_public_keys_verify() {
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, kind, verification) in [
        ("ed25519", &rcgen::PKCS_ED25519, &ED25519 as &dyn VerificationAlgorithm),
        ("ecdsa-p256-sha256", &rcgen::PKCS_ECDSA_P256_SHA256, &ECDSA_P256_SHA256_FIXED),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let file = dir.path().join(algorithm);
        std::fs::write(&file, pair.serialize_pem()).unwrap();
        let keys = format!(
            "algorithm = {algorithm:?}, key = {{ file = {file:?} }}, key_id = \"k\", label = \"natshook\", \
             components = [\"@authority\", \"@request-target\", \"content-digest\", \"natshook-subject\"]"
        );
        let (request, url) = signed(&messages(&keys), "/hook").await;
        let public = UnparsedPublicKey::new(verification, pair.public_key_raw());
        public.verify(base(&request, &url).as_bytes(), &signature(&request)).unwrap();
        assert!(request.header("signature").unwrap().starts_with("natshook=:"));
    }
}

#[tokio::test]
async fn both_kinds_of_signatures_go_together_and_send_shows_them() {
    let receiver = Receiver::start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let keys = format!("algorithm = \"hmac-sha256\", key = {SHARED:?}, key_id = \"k\"");
    let more = format!("signing = {{ secrets = [{secret:?}], message_signatures = {{ {keys} }} }}");
    let config = Config::offline().target("policy", "a", &receiver.url("/hook"), &more);
    let finished = natshook_with(&config, &["send", "policy"]).await;
    assert_eq!(finished.code, 0, "{}", finished.all());
    assert!(finished.stdout.contains("signature-input: sig1=(\"@method\""), "{}", finished.stdout);
    assert!(!finished.stdout.contains(SHARED));
    let request = receiver.at("/hook").remove(0);
    assert!(crate::support::signatures::v1_verifies(&request, secret));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SHARED).unwrap());
    let base = base(&request, &receiver.url("/hook"));
    hmac::verify(&key, base.as_bytes(), &signature(&request)).unwrap();
}

/// Verifies a request that it reads as JSON with the Python library http-message-signatures.
const VERIFY: &str = r#"
import json, sys
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from cryptography.hazmat.primitives.serialization import load_pem_public_key

given = json.load(sys.stdin)

class Keys(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        assert key_id == "ours", key_id
        return load_pem_public_key(given["public"].encode())

class Message:
    method, url, headers = given["method"], given["url"], given["headers"]

verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
verified = verifier.verify(Message, body=given["body"].encode(), require_components=["@method", "content-digest"])
print(verified[0].covered_components)
"#;

#[tokio::test]
async fn another_implementation_verifies_what_natshook_signs_and_nothing_else() {
    let has = Command::new("python3").args(["-c", "import cryptography"]).stderr(Stdio::null()).status();
    let Some(libraries) = python_libraries().filter(|_| has.is_ok_and(|status| status.success())) else {
        println!("skipped: no python3 with cryptography");
        return;
    };
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = pair.serialize_pem();
    let keys = format!("algorithm = \"ed25519\", key = {key:?}, key_id = \"ours\"");
    let (request, url) = signed(&messages(&keys), "/hook?a=b&c=d").await;
    let names = ["content-type", "content-digest", "webhook-id", "signature", "signature-input"];
    let headers: BTreeMap<&str, String> =
        names.iter().map(|name| (*name, request.header(name).unwrap())).collect();
    let verified = |method: &str, body: &str| {
        let public = pair.public_key_pem();
        let given = serde_json::json!({
            "method": method, "url": url, "headers": headers, "body": body, "public": public,
        });
        let mut child = Command::new("python3")
            .args(["-c", VERIFY])
            .env("PYTHONPATH", &libraries)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), given.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    let (good, said) = verified("POST", "{\"a\": 1}");
    assert!(good && said.contains("@target-uri"), "{said}");
    for (method, body) in [("PUT", "{\"a\": 1}"), ("POST", "{\"a\": 2}")] {
        let (good, said) = verified(method, body);
        assert!(!good && said.contains("InvalidSignature"), "{said}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The value of `Authorization` that AWS would expect, put together by the letter of its documentation ("Create a signed
/// AWS API request").
fn aws(request: &Received, canonical_uri: &str, canonical_query: &str, secret: &str) -> String {
    let sent = request.header("authorization").unwrap();
    let signed = sent.split_once("SignedHeaders=").unwrap().1.split_once(',').unwrap().0;
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", request.header(name).unwrap())).collect();
    let payload = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    let method = &request.method;
    let canonical = format!("{method}\n{canonical_uri}\n{canonical_query}\n{headers}\n{signed}\n{payload}");
    let time = request.header("x-amz-date").unwrap();
    let scope = format!("{}/eu-central-1/execute-api/aws4_request", &time[..8]);
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    let signature = hex(&mac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders={signed}, Signature={signature}")
}

#[tokio::test]
async fn a_gateway_can_verify_aws_s_signature() {
    let secret = "an/aws+secret";
    let auth = format!(
        "auth = {{ sigv4 = {{ access_key_id = \"AKID\", secret_access_key = {secret:?}, session_token = \"session\", \
         region = \"eu-central-1\", service = \"execute-api\" }} }}"
    );
    let (request, _) = signed(&auth, "/prod/hook%20s?b=2&a=1").await;
    let expected = aws(&request, "/prod/hook%2520s", "a=1&b=2", secret);
    assert_eq!(request.header("authorization"), Some(expected));
    assert_eq!(request.header("x-amz-security-token").as_deref(), Some("session"));
}
