//! AWS Signature Version 4, as API gateways ask for it: static keys, a signature in `Authorization`. Pure: the time is an
//! argument. The library is AWS's own; which headers it signs is decided here.

use std::{fmt, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{self, SignableBody, SignableRequest, SigningSettings},
    sign::v4,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::CONTENT_TYPE};
use tracing::subscriber::{NoSubscriber, with_default};

/// Holds the token of temporary keys.
pub const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What a target's requests are signed with. Cheap to clone; printed without keys.
#[derive(Clone, PartialEq)]
pub struct SigV4 {
    credentials: Credentials,
    region: String,
    service: String,
}

impl SigV4 {
    /// Signs with a static key, for `service` in `region`; `session_token` belongs to temporary keys.
    #[must_use]
    pub fn new(
        access_key_id: &str,
        secret_access_key: &str,
        session_token: Option<&str>,
        region: String,
        service: String,
    ) -> Self {
        let token = session_token.map(str::to_owned);
        let credentials = Credentials::new(access_key_id, secret_access_key, token, None, "natshook");
        Self { credentials, region, service }
    }

    /// Signs a request that is whole but for this. A request that AWS's library cannot sign stays unsigned, and is refused by
    /// whoever asks for signatures.
    pub fn sign(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, body: &[u8], now: SystemTime) {
        // The library's own log lines hold the whole address, whose query may be a secret, and the body if the environment
        // says so.
        let silent = NoSubscriber::default();
        let set = with_default(silent, || self.signature(method, uri, headers, body, now));
        for (name, value) in set.unwrap_or_default() {
            headers.insert(name, value);
        }
    }

    fn signature(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        // Host and x-amz-* have to be signed; proxies on the way may change most others.
        let signed = headers.iter().filter(|(name, _)| signs(name));
        let signed = signed.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let uri = uri.to_string();
        let request = SignableRequest::new(method.as_str(), uri, signed, SignableBody::Bytes(body)).ok()?;
        let (instructions, _) = http_request::sign(request, &parameters).ok()?.into_parts();
        let (set, _) = instructions.into_parts();
        set.into_iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value()).ok()?;
                value.set_sensitive(header.sensitive() || header.name() == "authorization");
                Some((HeaderName::from_static(header.name()), value))
            })
            .collect()
    }
}

fn signs(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-")
}

impl fmt::Debug for SigV4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigV4({}, {})", self.region, self.service)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    /// 2015-08-30T12:36:00Z, the time of AWS's test suite.
    const THEN: Duration = Duration::from_secs(1_440_938_160);
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn sign(method: Method, token: Option<&str>, path: &str, headers: &mut HeaderMap, body: &[u8]) {
        let key = SigV4::new("AKIDEXAMPLE", SECRET, token, "us-east-1".into(), "service".into());
        assert_eq!(format!("{key:?}"), "SigV4(us-east-1, service)");
        let uri: Uri = format!("https://example.amazonaws.com{path}").parse().unwrap();
        key.sign(&method, &uri, headers, body, SystemTime::UNIX_EPOCH + THEN);
    }

    /// Of the suite: post-vanilla, post-vanilla-query, get-vanilla-with-session-token.
    #[test]
    fn the_vectors_of_aws_are_met() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        for (method, token, path, signed, signature) in [
            (
                Method::POST,
                None,
                "/",
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                Method::POST,
                None,
                "/?Param1=value1",
                "host;x-amz-date",
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
            (
                Method::GET,
                Some(token),
                "/",
                "host;x-amz-date;x-amz-security-token",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
        ] {
            let mut headers = HeaderMap::new();
            sign(method, token, path, &mut headers, b"");
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            );
            assert_eq!(headers["authorization"], expected.as_str(), "{path}");
            assert!(headers["authorization"].is_sensitive());
            assert_eq!(headers["x-amz-date"], "20150830T123600Z");
            let sent = headers.get("x-amz-security-token");
            assert_eq!(
                sent.map(|value| (value.to_str().unwrap(), value.is_sensitive())),
                token.map(|t| (t, true))
            );
        }
    }

    #[test]
    fn of_other_headers_only_the_type_is_signed() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("traceparent", HeaderValue::from_static("anything"));
        sign(Method::POST, None, "/", &mut headers, b"{}");
        let signed = headers["authorization"].to_str().unwrap();
        assert!(signed.contains("SignedHeaders=content-type;host;x-amz-date,"), "{signed}");
    }
}
