//! How a target's requests prove who sends them, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    field::{Field, Section},
    limits::*,
    secret::Secret,
    value::{OneOrMore, Private, Span, Text},
    words::{ClientAuth, SignatureAlgorithm},
};

/// How requests prove who sends them: exactly one of these.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::config) struct Auth {
    /// Authorization: Bearer …
    #[schemars(extend("examples" = [{ "env": "POLICY_TOKEN" }]))]
    pub(in crate::config) bearer: Field<Secret>,
    /// Authorization: Basic …, of user and password.
    pub(in crate::config) basic: Section<Basic>,
    /// A header of the receiver's choice.
    pub(in crate::config) header: Section<AuthHeader>,
    /// Authorization: Bearer …, with an access token that natshook asks for (OAuth 2.0, client credentials).
    pub(in crate::config) oauth2: Section<OAuth2>,
    /// AWS Signature Version 4, as API gateways ask for it.
    pub(in crate::config) sigv4: Section<SigV4>,
}

/// User and password of basic authentication.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["user", "password"]))]
pub(in crate::config) struct Basic {
    /// The user, without a colon.
    #[schemars(extend("examples" = ["hms"]))]
    pub(in crate::config) user: Field<Text>,
    /// The password.
    #[schemars(extend("examples" = [{ "env": "POLICY_PASSWORD" }]))]
    pub(in crate::config) password: Field<Secret>,
}

/// A header that holds a secret.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "value"]))]
pub(in crate::config) struct AuthHeader {
    /// The header's name.
    #[schemars(extend("examples" = ["X-Api-Key"]))]
    pub(in crate::config) name: Field<Text>,
    /// Its value.
    #[schemars(extend("examples" = [{ "file": "/run/secrets/policy_key" }]))]
    pub(in crate::config) value: Field<Secret>,
}

/// Where access tokens come from: OAuth 2.0 client credentials (RFC 6749, 4.4). Targets with the same settings share one
/// token.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["token_url", "client_id", "client_secret"]))]
pub(in crate::config) struct OAuth2 {
    /// The token endpoint. What [egress] says of targets holds for it, and so does the target's tls.
    #[schemars(extend("examples" = ["https://id.thirdparty.example/oauth2/token"]))]
    pub(in crate::config) token_url: Field<Private>,
    /// Who natshook is there.
    #[schemars(extend("examples" = ["natshook"]))]
    pub(in crate::config) client_id: Field<Text>,
    /// The secret of client_id.
    #[schemars(extend("examples" = [{ "env": "POLICY_CLIENT_SECRET" }]))]
    pub(in crate::config) client_secret: Field<Secret>,
    /// What the token is to allow: a text, or a list that is sent with spaces between.
    #[schemars(extend("examples" = [["webhooks.write"]]))]
    pub(in crate::config) scope: Field<OneOrMore<Text>>,
    /// Whom the token is for, where the endpoint asks for it.
    #[schemars(extend("examples" = ["https://thirdparty.example"]))]
    pub(in crate::config) audience: Field<Text>,
    /// Further parameters of the token request; not secret.
    #[schemars(extend("default" = {}, "examples" = [{ "resource": "https://thirdparty.example" }]))]
    pub(in crate::config) parameters: Field<BTreeMap<String, Field<Private>>>,
    /// How natshook proves itself to the endpoint: "basic" (a header) or "body" (client_id and client_secret among the
    /// parameters).
    #[schemars(extend("default" = CLIENT_AUTH))]
    pub(in crate::config) client_auth: Field<ClientAuth>,
}

/// Static credentials for AWS Signature Version 4. Roles and instance metadata are not asked for: a file that something
/// else keeps fresh is read again when it changes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(
    deny_unknown_fields,
    extend("required" = ["access_key_id", "secret_access_key", "region", "service"])
)]
pub(in crate::config) struct SigV4 {
    /// The id of the access key; sent with every request.
    #[schemars(extend("examples" = [{ "env": "AWS_ACCESS_KEY_ID" }]))]
    pub(in crate::config) access_key_id: Field<Secret>,
    /// The access key itself; never sent.
    #[schemars(extend("examples" = [{ "env": "AWS_SECRET_ACCESS_KEY" }]))]
    pub(in crate::config) secret_access_key: Field<Secret>,
    /// The session's token, for temporary keys.
    #[schemars(extend("examples" = [{ "env": "AWS_SESSION_TOKEN" }]))]
    pub(in crate::config) session_token: Field<Secret>,
    /// The region of the service.
    #[schemars(extend("examples" = ["eu-central-1"]))]
    pub(in crate::config) region: Field<Text>,
    /// The service's name for signing: "execute-api" for an API gateway, "lambda" for a function's URL.
    #[schemars(extend("examples" = ["execute-api"]))]
    pub(in crate::config) service: Field<Text>,
}

/// What requests are signed with: secrets, message_signatures, or both.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1))]
pub(in crate::config) struct Signing {
    /// Standard Webhooks 1.0. One or more secrets: "whsec_" and base64 (v1, HMAC-SHA256), or "whsk_" and base64 (v1a,
    /// ed25519). Several while a secret is rotated: requests carry a signature for each.
    #[schemars(extend("examples" = [[{ "env": "POLICY_SIGNING_SECRET" }]]))]
    pub(in crate::config) secrets: Field<Vec<Field<Secret>>>,
    /// HTTP Message Signatures (RFC 9421): the headers Signature-Input and Signature.
    pub(in crate::config) message_signatures: Section<MessageSignatures>,
}

/// HTTP Message Signatures (RFC 9421): the headers Signature-Input and Signature.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["algorithm", "key", "key_id"]))]
pub(in crate::config) struct MessageSignatures {
    /// How requests are signed. Not sent: the receiver knows it by key_id.
    #[schemars(extend("examples" = ["ed25519"]))]
    pub(in crate::config) algorithm: Field<SignatureAlgorithm>,
    /// The key: base64 of at least 32 bytes for hmac-sha256; for the others a private key as PEM (PKCS#8, not encrypted).
    #[schemars(extend("examples" = [{ "file": "/run/secrets/policy_signing_key.pem" }]))]
    pub(in crate::config) key: Field<Secret>,
    /// What the receiver finds the key by.
    #[schemars(extend("examples" = ["natshook-2026"]))]
    pub(in crate::config) key_id: Field<Text>,
    /// What is signed: "@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", and
    /// headers in lower case. A header that a request does not have is left out. "content-digest" is made when it is
    /// named (RFC 9530, SHA-256).
    #[schemars(extend("default" = COMPONENTS_DEFAULT))]
    pub(in crate::config) components: Field<Vec<Field<Text>>>,
    /// The signature's name in both headers.
    #[schemars(extend("default" = LABEL))]
    pub(in crate::config) label: Field<Text>,
    /// How long after it was made a signature says that it holds. Default: it says nothing.
    #[schemars(extend("examples" = ["5m"], "x-range" = span_range(&SIGNATURE_LIFE)))]
    pub(in crate::config) expires: Field<Span>,
    /// What the signature is for, where the receiver asks for it.
    #[schemars(extend("examples" = ["webhook"]))]
    pub(in crate::config) tag: Field<Text>,
}

/// What the connections to a target need of TLS beyond what all have in common.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1))]
pub(in crate::config) struct TargetTls {
    /// CA certificates (PEM) to trust.
    #[schemars(extend("examples" = ["/etc/natshook/policy-ca.pem"]))]
    pub(in crate::config) ca_file: Field<Text>,
    /// Whether the system's certificate authorities are trusted beside those in ca_file.
    #[schemars(extend("default" = true))]
    pub(in crate::config) system_roots: Field<bool>,
    /// A client certificate (PEM), with the chain that leads to it, for receivers that ask for one; needs key_file.
    #[schemars(extend("examples" = ["/etc/natshook/policy-client.pem"]))]
    pub(in crate::config) cert_file: Field<Text>,
    /// The private key (PEM, not encrypted) of cert_file.
    #[schemars(extend("examples" = ["/etc/natshook/policy-client.key"]))]
    pub(in crate::config) key_file: Field<Text>,
}
