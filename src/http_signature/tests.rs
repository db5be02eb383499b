//! The test vectors of RFC 9421 (B.2) and RFC 9530 (B). The keys in `rfc9421/` are those that the RFC publishes (B.1), its RSA
//! and P-256 keys as plain PKCS#8. B.2.4 signs a response, which natshook never does.
#![allow(clippy::unwrap_used)]

use super::*;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

const CREATED: u64 = 1_618_884_473;
const BODY: &[u8] = br#"{"hello": "world"}"#;
const RSA_PSS: &str = include_str!("rfc9421/rsa-pss.pem");
const P256: &str = include_str!("rfc9421/ecc-p256.pem");
const ED25519: &str = include_str!("rfc9421/ed25519.pem");
const SHARED: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

/// The request of B.2.
fn request() -> (Method, Uri, HeaderMap) {
    let mut headers = HeaderMap::new();
    let digest =
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    for (name, value) in [
        (DATE, "Tue, 20 Apr 2021 02:07:55 GMT"),
        (CONTENT_TYPE, "application/json"),
        (CONTENT_DIGEST, digest),
        (CONTENT_LENGTH, "18"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    (Method::POST, "https://example.com/foo?param=Value&Pet=dog".parse().unwrap(), headers)
}

fn signer(
    label: &str,
    algorithm: Algorithm,
    key: &str,
    key_id: &str,
    components: &[Component],
) -> MessageSigner {
    let key = Key::read(algorithm, key).unwrap();
    let (label, key_id) = (label.to_owned(), key_id.to_owned());
    Settings { label, components: components.to_vec(), key, key_id, expires: None, tag: None }.into()
}

fn component(name: &str) -> Component {
    Component::new(name).unwrap_or_else(|_| Component::Header(name.parse().unwrap()))
}

fn components(names: &str) -> Vec<Component> {
    names.split(' ').map(component).collect()
}

/// The two headers of the signed request of B.2.
fn signed(signer: &MessageSigner) -> (String, String) {
    let (method, uri, mut headers) = request();
    signer.sign(&method, &uri, &mut headers, BODY, CREATED);
    let text = |name| headers.get(name).unwrap().to_str().unwrap().to_owned();
    (text(SIGNATURE_INPUT), text(SIGNATURE))
}

/// The bytes in `label=:…:`.
fn bytes(signature: &str) -> Vec<u8> {
    STANDARD.decode(signature.split_once("=:").unwrap().1.trim_end_matches(':')).unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_der().to_vec()
}

#[test]
fn b_2_5_with_a_shared_secret() {
    let parts = components("date @authority content-type");
    let signer = signer("sig-b25", Algorithm::HmacSha256, SHARED, "test-shared-secret", &parts);
    let (input, signature) = signed(&signer);
    assert_eq!(
        input,
        r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#
    );
    assert_eq!(signature, "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:");
}

#[test]
fn b_2_6_with_ed25519() {
    let parts = components("date @method @path @authority content-type content-length");
    let signer = signer("sig-b26", Algorithm::Ed25519, ED25519, "test-key-ed25519", &parts);
    let (input, signature) = signed(&signer);
    assert_eq!(
        input,
        "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
         ;created=1618884473;keyid=\"test-key-ed25519\""
    );
    assert_eq!(
        signature,
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    );
}

#[test]
fn b_2_3_with_rsa_pss_signs_the_text_that_the_rfc_signs() {
    let parts = components("date @method @path @query @authority content-type content-digest content-length");
    let signer = signer("sig-b23", Algorithm::RsaPssSha512, RSA_PSS, "test-key-rsa-pss", &parts);
    let (method, uri, headers) = request();
    let (base, _) = signer.base(&method, &uri, &headers, CREATED);
    let of_the_rfc = "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:";
    let pair = ring::rsa::KeyPair::from_pkcs8(&der(RSA_PSS)).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA512, pair.public().as_ref());
    public.verify(base.as_bytes(), &bytes(of_the_rfc)).unwrap();
    public.verify(base.as_bytes(), &signer.0.key.sign(base.as_bytes())).unwrap();
}

#[test]
fn every_algorithm_makes_signatures_that_the_public_key_verifies() {
    let random = ring::rand::SystemRandom::new();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let ecdsa = |algorithm, pem: &str| {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der(pem), &random).unwrap();
        pair.public_key().as_ref().to_vec()
    };
    let rsa = ring::rsa::KeyPair::from_pkcs8(&der(RSA_PSS)).unwrap().public().as_ref().to_vec();
    let p256_public = ecdsa(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, P256);
    let p384_public = ecdsa(&ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING, &p384);
    let cases: [(Algorithm, &str, &'static dyn VerificationAlgorithm, Vec<u8>); 4] = [
        (Algorithm::EcdsaP256Sha256, P256, &ECDSA_P256_SHA256_FIXED, p256_public),
        (Algorithm::EcdsaP384Sha384, &p384, &ECDSA_P384_SHA384_FIXED, p384_public),
        (Algorithm::RsaPssSha512, RSA_PSS, &RSA_PSS_2048_8192_SHA512, rsa.clone()),
        (Algorithm::RsaV15Sha256, RSA_PSS, &RSA_PKCS1_2048_8192_SHA256, rsa),
    ];
    for (algorithm, pem, verification, public) in cases {
        let key = Key::read(algorithm, pem).unwrap();
        let public = UnparsedPublicKey::new(verification, public);
        assert!(public.verify(b"base", &key.sign(b"base")).is_ok(), "{algorithm:?}");
        assert!(public.verify(b"other", &key.sign(b"base")).is_err(), "{algorithm:?}");
    }
}

#[test]
fn digests_are_those_of_rfc_9530() {
    assert_eq!(
        content_digest(b"{\"hello\": \"world\"}\n"),
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    );
    assert_eq!(content_digest(b""), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
}

#[test]
fn a_signed_digest_is_that_of_the_body_whatever_stood_there() {
    let signer = signer("a", Algorithm::HmacSha256, SHARED, "k", &components("content-digest"));
    let (method, uri, mut headers) = request();
    signer.sign(&method, &uri, &mut headers, BODY, CREATED);
    assert_eq!(headers[CONTENT_DIGEST], content_digest(BODY).as_str());
}

#[test]
fn derived_parts_are_as_the_rfc_writes_them() {
    let (method, _, mut headers) = request();
    headers.append("x-tag", HeaderValue::from_static(" a "));
    headers.append("x-tag", HeaderValue::from_static("b"));
    let value = |name: &str, uri: &str| {
        let uri: Uri = uri.parse().unwrap();
        component(name).value(&method, &uri, &headers).map(|value| value.into_owned())
    };
    for (name, uri, expected) in [
        ("@authority", "https://Example.COM:443/", Some("example.com")),
        ("@authority", "https://example.com:8443/", Some("example.com:8443")),
        ("@target-uri", "https://example.com/a?b=c", Some("https://example.com/a?b=c")),
        ("@request-target", "https://example.com/a?b=c", Some("/a?b=c")),
        ("@scheme", "http://example.com/", Some("http")),
        ("@path", "https://example.com", Some("/")),
        ("@query", "https://example.com/a", Some("?")),
        ("x-tag", "https://example.com/a", Some("a, b")),
        ("x-none", "https://example.com/a", None),
    ] {
        assert_eq!(value(name, uri).as_deref(), expected, "{name} of {uri}");
    }
}

#[test]
fn what_is_not_there_is_not_listed_and_parameters_are_written_as_strings() {
    let settings = Settings {
        label: "s".to_owned(),
        components: components("@method x-none"),
        key: Key::read(Algorithm::HmacSha256, SHARED).unwrap(),
        key_id: r#"a"b\c"#.to_owned(),
        expires: Some(Duration::from_secs(300)),
        tag: Some("webhook".to_owned()),
    };
    let (input, _) = signed(&settings.into());
    assert_eq!(input, r#"s=("@method");created=1618884473;expires=1618884773;keyid="a\"b\\c";tag="webhook""#);
}

#[test]
fn keys_that_do_not_fit_are_refused_and_never_shown() {
    let sec1 = include_str!("rfc9421/ecc-p256-sec1.pem");
    let refused = |algorithm, text: &str| Key::read(algorithm, text).unwrap_err();
    assert_eq!(refused(Algorithm::EcdsaP256Sha256, sec1), KeyError::Sec1);
    assert_eq!(refused(Algorithm::HmacSha256, "no base64!"), KeyError::NotBase64);
    assert_eq!(refused(Algorithm::HmacSha256, "AAAA"), KeyError::Short(3));
    assert_eq!(refused(Algorithm::Ed25519, "hunter2"), KeyError::NotPem);
    assert!(matches!(refused(Algorithm::EcdsaP256Sha256, ED25519), KeyError::Unfit(_)));
    assert!(matches!(refused(Algorithm::EcdsaP384Sha384, P256), KeyError::Unfit(_)));
    assert!(matches!(refused(Algorithm::RsaPssSha512, P256), KeyError::Unfit(_)));
    assert_eq!(format!("{:?}", Key::read(Algorithm::Ed25519, ED25519).unwrap()), "Key(Ed25519)");
}

#[test]
fn only_what_can_be_signed_is_a_component() {
    for refused in ["host", "content-length", "traceparent", "signature"] {
        assert!(matches!(Component::new(refused), Err(ComponentError::NotSigned(_))), "{refused}");
    }
    for unknown in ["@status", "Content-Type", "", "a b"] {
        assert_eq!(Component::new(unknown), Err(ComponentError::Unknown), "{unknown:?}");
    }
    assert!(is_label("sig1") && is_label("*a-b.c_d") && !is_label("1a") && !is_label("A") && !is_label(""));
}
