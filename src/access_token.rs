//! OAuth 2.0 client credentials (RFC 6749, 4.4): what is asked of a token endpoint, and what its answer means. Pure: when
//! it is asked, and over which connection, is the business of `sender`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use crate::{
    config::SecretText,
    outcome,
    request::{AGENT, JSON},
    target::HttpUrl,
};

/// The most characters of the endpoint's own words that an error holds.
const WORDS_CHARS_MAX: usize = 200;
/// A token is used at least so long after it came, whatever its answer says: one that ends at once, or on its way to us, would
/// be asked for without end.
pub const LIFE_MIN: Duration = Duration::from_secs(1);
/// How long a token is used whose answer does not say how long it lives; a 401 ends it sooner.
const LIFE_UNSAID: Duration = Duration::from_secs(3600);
/// A token is renewed when less than a fifth of its life is left, and less than this.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// How a client proves itself to a token endpoint (RFC 6749, 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// By HTTP basic authentication.
    Basic,
    /// By parameters of the request.
    Body,
}

/// Where access tokens come from, and for what. Targets with equal ones share a token.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub token_url: HttpUrl,
    /// Who we are there.
    pub client_id: String,
    /// The secret of the client.
    pub client_secret: SecretText,
    /// What the token is to allow; scopes with spaces between.
    pub scope: Option<String>,
    /// Whom the token is for.
    pub audience: Option<String>,
    /// Further parameters.
    pub parameters: BTreeMap<String, String>,
    /// How the client proves itself.
    pub client_auth: ClientAuth,
}

/// Parameters that natshook sets itself.
pub const OWN_PARAMETERS: [&str; 5] = ["grant_type", "scope", "audience", "client_id", "client_secret"];

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The value of `Authorization`; marked sensitive.
    pub value: HeaderValue,
    /// How long it may be used, counted from when it was asked for.
    pub life: Duration,
}

impl AccessToken {
    /// After how long it is renewed, counted from when it was asked for: early enough that none ends on its way.
    #[must_use]
    pub fn renewed_after(&self) -> Duration {
        self.life - (self.life / 5).min(MARGIN_MAX)
    }
}

/// Why there is no token. Never holds the client's secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    /// Whether the endpoint refused, so that asking again would change nothing.
    pub refused: bool,
    /// What happened, in one line.
    pub cause: String,
    /// The wait that the endpoint asked for.
    pub retry_after: Option<Duration>,
}

/// What the endpoint answers (RFC 6749, 5.1 and 5.2). Some write numbers as text.
#[derive(Deserialize)]
struct Answered {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl ClientCredentials {
    /// The headers and the body of a request for a token.
    #[must_use]
    pub fn request(&self) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, JSON);
        headers.insert(USER_AGENT, AGENT);
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        match self.client_auth {
            ClientAuth::Basic => {
                headers.extend(self.basic().map(|value| (AUTHORIZATION, value)));
            }
            ClientAuth::Body => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", self.client_secret.expose());
            }
        }
        let own = [("scope", &self.scope), ("audience", &self.audience)];
        form.extend_pairs(own.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        form.extend_pairs(&self.parameters);
        (headers, form.finish().into())
    }

    /// Both are form-encoded first (RFC 6749, 2.3.1), so that neither can hold the colon between them.
    fn basic(&self) -> Option<HeaderValue> {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let secret = Zeroizing::new(encoded(self.client_secret.expose()));
        let pair = Zeroizing::new(format!("{}:{}", encoded(&self.client_id), *secret));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What the endpoint's answer means; `now` is for the dates in it.
    ///
    /// # Errors
    /// It is no token.
    pub fn read(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<AccessToken, TokenError> {
        let answered = serde_json::from_slice::<Answered>(body).ok();
        if !(200..300).contains(&status) {
            let said = answered.and_then(|answered| self.words(&answered));
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(TokenError {
                refused: !matches!(status, 408 | 429 | 500..),
                cause: format!("the token endpoint answered {status}{said}"),
                retry_after: retry_after.and_then(|value| outcome::retry_after(value, now)),
            });
        }
        let unusable = |cause: &str| TokenError {
            refused: true,
            cause: format!("the token endpoint's answer {cause}"),
            retry_after: None,
        };
        let answered = answered.ok_or_else(|| unusable("is not the JSON of RFC 6749, 5.1"))?;
        if !answered.token_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(unusable("holds a token that is not of the type Bearer"));
        }
        let token = answered.access_token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| unusable("holds no access_token"))?;
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| unusable("holds a token that no header can carry"))?;
        value.set_sensitive(true);
        let life = answered.expires_in.as_ref().and_then(seconds).unwrap_or(LIFE_UNSAID);
        Ok(AccessToken { value, life: life.max(LIFE_MIN) })
    }

    /// The endpoint's own words on what went wrong, made fit for a line of a log.
    fn words(&self, answered: &Answered) -> Option<String> {
        let error = answered.error.as_deref()?;
        let said = match &answered.error_description {
            Some(description) => format!("{error} ({description})"),
            None => error.to_owned(),
        };
        if said.contains(self.client_secret.expose()) {
            return None;
        }
        let tame = |c: char| if c.is_control() { ' ' } else { c };
        Some(said.chars().take(WORDS_CHARS_MAX).map(tame).collect())
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    // What is longer than a year is as good as without end.
    Some(Duration::from_secs(seconds.clamp(0.0, 31_536_000.0) as u64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn credentials(client_auth: ClientAuth) -> ClientCredentials {
        ClientCredentials {
            token_url: HttpUrl::new("https://id.example/token".parse().unwrap()).unwrap(),
            client_id: "nats hook".to_owned(),
            client_secret: secrecy::SecretString::from("s:3&cret").into(),
            scope: Some("a b".to_owned()),
            audience: None,
            parameters: BTreeMap::from([("resource".to_owned(), "https://x.example".to_owned())]),
            client_auth,
        }
    }

    fn read(status: u16, body: &str) -> Result<AccessToken, TokenError> {
        credentials(ClientAuth::Basic).read(
            status,
            &HeaderMap::new(),
            body.as_bytes(),
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn the_client_proves_itself_in_a_header_or_in_the_body() {
        let (headers, body) = credentials(ClientAuth::Basic).request();
        assert_eq!(
            body,
            "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fx.example".as_bytes()
        );
        let expected = format!("Basic {}", STANDARD.encode("nats+hook:s%3A3%26cret"));
        assert_eq!(headers[AUTHORIZATION], expected.as_str());
        assert!(headers[AUTHORIZATION].is_sensitive());
        let (headers, body) = credentials(ClientAuth::Body).request();
        assert!(!headers.contains_key(AUTHORIZATION));
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("client_id=nats+hook&client_secret=s%3A3%26cret"), "{body}");
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let token = read(200, r#"{"access_token":"t","token_type":"bearer","expires_in":3600}"#).unwrap();
        assert_eq!((token.value.to_str().unwrap(), token.value.is_sensitive()), ("Bearer t", true));
        assert_eq!(token.renewed_after(), Duration::from_secs(3540));
        let short = read(200, r#"{"access_token":"t","expires_in":"10"}"#).unwrap();
        assert_eq!(short.renewed_after(), Duration::from_secs(8));
        assert_eq!(read(200, r#"{"access_token":"t"}"#).unwrap().life, LIFE_UNSAID);
        for ended in ["0", "-5", "0.2"] {
            let body = format!(r#"{{"access_token":"t","expires_in":{ended}}}"#);
            assert_eq!(read(200, &body).unwrap().life, LIFE_MIN, "{ended}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_from_an_endpoint_that_is_ill() {
        for body in ["<html>", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#, "[]"] {
            assert!(read(200, body).unwrap_err().refused, "{body}");
        }
        let mac = read(200, r#"{"access_token":"t","token_type":"mac"}"#).unwrap_err();
        assert!(mac.cause.contains("type Bearer"), "{}", mac.cause);
        for (status, refused) in
            [(400, true), (401, true), (404, true), (302, true), (429, false), (408, false), (503, false)]
        {
            assert_eq!(read(status, "").unwrap_err().refused, refused, "{status}");
        }
    }

    #[test]
    fn the_endpoint_s_words_are_one_short_line_without_the_secret() {
        let said = |body: &str| read(400, body).unwrap_err().cause;
        let told = r#"{"error":"invalid_client","error_description":"no\nsuch client"}"#;
        assert_eq!(said(told), "the token endpoint answered 400: invalid_client (no such client)");
        let echoed = r#"{"error":"invalid_client","error_description":"s:3&cret is wrong"}"#;
        assert_eq!(said(echoed), "the token endpoint answered 400");
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(9000));
        assert!(said(&long).len() < 260);
    }
}
