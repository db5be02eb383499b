//! A message's headers on their way into a request: none of them steers the connection, proves who we are, or
//! speaks in natshook's name, and each value is one that HTTP can carry.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use natshook::{
    config::Config,
    message::{Delivery, Headers, Message, Origin},
    request::{Request, Template},
};

use super::headers_and_payload;

/// Passes on more than any real target, some of it unwisely named.
const CONFIG: &str = r#"
[[targets]]
name = "fuzzed"
subjects = "fuzzed"
url = "https://hooks.example/"
auth = { bearer = "our-token" }
signing = { secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }
headers = { X-Static = "fixed", ce-static = "fixed" }
pass_headers = ["X-Pass", "Accept", "Cookie", "X-Static"]
"#;

/// The connection's, and what proves who sends (RFC 9110, 7.6.1, 7.8 and 11).
const NEVER: [&str; 12] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// The most bytes of a request's headers: what is passed on, with room for natshook's own and a long id and subject.
const OWN_BYTES_MAX: usize = 2 * 1024;
const PASSED_BYTES_MAX: usize = 6 * 1024;

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| match Config::from_toml(CONFIG, "fuzz.toml") {
        Ok(config) => Template::new(&config.connections[0].targets[0]),
        Err(error) => panic!("{error}"),
    })
}

/// Makes the request of a message whose headers and payload are `bytes`; its first header value is its subject too.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (headers, payload) = headers_and_payload(&text);
    let subject = headers.first().map_or("fuzzed", |(_, value)| value.as_str()).to_owned();
    let message = Message {
        subject,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers(headers),
        origin: Origin::Stored { stream: "EVENTS".into(), sequence: 7 },
        published: UNIX_EPOCH,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let delivery = Delivery::fresh(message);
    let request = template().request(&delivery, None, now);
    judge(&request, &delivery.message);
}

fn judge(request: &Request, message: &Message) {
    assert_eq!(request.body, message.payload, "the body is the payload");
    for (name, value) in &request.headers {
        assert!(!NEVER.contains(&name.as_str()), "{name} came from a message");
        let legal = value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte) || *byte == b'\t');
        assert!(legal, "{name}: {value:?}");
    }
    let one = |name: &str| {
        let values: Vec<_> = request.headers.get_all(name).into_iter().collect();
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0].to_str().unwrap_or_default().to_owned()
    };
    assert_eq!(one("authorization"), "Bearer our-token");
    assert_eq!((one("x-static"), one("ce-static")), ("fixed".into(), "fixed".into()));
    assert_eq!((one("natshook-attempt"), one("webhook-timestamp")), ("1".into(), "1700000000".into()));
    let id = one("webhook-id");
    assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'), "{id:?}");
    assert!(one("webhook-signature").starts_with("v1,"));
    for name in ["content-type", "natshook-subject", "user-agent"] {
        one(name);
    }
    passed_on_as_they_were(request, message);
}

fn passed_on_as_they_were(request: &Request, message: &Message) {
    const OURS: [&str; 10] = [
        "authorization",
        "user-agent",
        "x-static",
        "ce-static",
        "natshook-attempt",
        "natshook-subject",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "content-type",
    ];
    let mut bytes = 0;
    for (name, value) in &request.headers {
        bytes += name.as_str().len() + value.len();
        if OURS.contains(&name.as_str()) {
            continue;
        }
        let may_pass = matches!(name.as_str(), "traceparent" | "tracestate" | "x-pass" | "accept" | "cookie")
            || name.as_str().starts_with("ce-");
        assert!(may_pass, "nobody asked for {name}");
        if name == "accept" && value == "*/*" {
            // Ours, where the message has none.
            continue;
        }
        let had = message.headers.iter().any(|(n, v)| name.as_str().eq_ignore_ascii_case(n) && value == v);
        assert!(had, "{name}: {value:?} is not the message's");
    }
    let id = message.webhook_id().len() + 3 * message.subject.len();
    assert!(bytes <= PASSED_BYTES_MAX + OWN_BYTES_MAX + id, "{bytes} bytes of headers");
}
