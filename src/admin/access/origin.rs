//! Where a request comes from, as a browser tells it: whether another site is behind it. Pure.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether `method` can change nothing here.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether the request names this machine as its own: a name that somebody points at 127.0.0.1 (DNS rebinding) does
/// not. Without a host there is no browser behind it, but then nobody knows who is.
pub(super) fn is_for_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => None,
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, host, None) => host.and_then(|host| host.to_str().ok()),
    };
    host.is_some_and(|host| is_loopback_name(without_port(host)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn is_loopback_name(name: &str) -> bool {
    if let Some(inside) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether another site may be behind the request. Such a request changes nothing, and reads nothing but what a person
/// opens by following a link.
pub(super) fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    match text(&SEC_FETCH_SITE) {
        Some("same-origin" | "none") => false,
        Some(_) if is_safe(method) => text(&SEC_FETCH_MODE) != Some("navigate"),
        Some(_) => true,
        None if is_safe(method) => false,
        // Browsers that say nothing of the site, because the connection is plain http, send the origin.
        None => text(&header::ORIGIN).is_some_and(|origin| !is_origin_of(origin, headers)),
    }
}

fn is_origin_of(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    named.is_some_and(|named| host.is_some_and(|host| named.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_this_machine_s_own_names_are_for_loopback() {
        let root = Uri::from_static("/");
        for (host, ours) in [
            ("localhost", true),
            ("LocalHost:8822", true),
            ("127.0.0.1:8822", true),
            ("127.9.9.9", true),
            ("[::1]:8822", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:8822", false),
            ("10.0.0.1", false),
            ("[::2]:8822", false),
            ("localhost@evil.example", false),
            ("localhost.", false),
            ("", false),
            (":8822", false),
        ] {
            assert_eq!(is_for_loopback(&root, &headers(&[("host", host)])), ours, "{host}");
        }
        assert!(!is_for_loopback(&root, &HeaderMap::new()));
        let proxied = Uri::from_static("http://evil.example/");
        assert!(!is_for_loopback(&proxied, &headers(&[("host", "localhost")])));
        let mut two = headers(&[("host", "localhost")]);
        two.append(header::HOST, "evil.example".parse().unwrap());
        assert!(!is_for_loopback(&root, &two));
    }

    #[test]
    fn another_site_changes_nothing_and_reads_only_by_a_link() {
        let host = ("host", "a.example:8822");
        for (method, lines, cross) in [
            (Method::POST, vec![], false),
            (Method::POST, vec![("sec-fetch-site", "same-origin")], false),
            (Method::POST, vec![("sec-fetch-site", "none")], false),
            (Method::POST, vec![("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")], true),
            (Method::POST, vec![("sec-fetch-site", "cross-site"), ("origin", "http://a.example:8822")], true),
            (Method::POST, vec![("origin", "http://a.example:8822")], false),
            (Method::POST, vec![("origin", "https://A.example:8822")], false),
            (Method::POST, vec![("origin", "http://a.example")], true),
            (Method::POST, vec![("origin", "http://evil.example")], true),
            (Method::POST, vec![("origin", "null")], true),
            (Method::PUT, vec![("origin", "null")], true),
            (Method::GET, vec![("origin", "http://evil.example")], false),
            (Method::GET, vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
            (Method::GET, vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], true),
            (Method::GET, vec![("sec-fetch-site", "cross-site")], true),
        ] {
            let all = headers(&[&[host][..], &lines].concat());
            assert_eq!(is_cross_site(&method, &all), cross, "{method} {lines:?}");
        }
    }
}
