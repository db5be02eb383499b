//! The places where natshook reads what others wrote, each with what must hold whatever stands there. One function
//! for each place: it takes any bytes and panics when the law is broken.
//!
//! The fuzz targets call these functions, and so do the property tests of `make test` (`tests/it/fuzzed.rs`), which
//! include this file. So nothing here may need more than natshook's public interface and its dependencies.

pub mod config_text;
pub mod egress_url;
pub mod request_headers;
pub mod retry_after;
pub mod retry_headers;
pub mod subject_matching;

/// Takes any bytes, and panics when they break the law.
pub type Law = fn(&[u8]);

/// Every target by its name, which is also the name of its corpus.
pub const ALL: [(&str, Law); 6] = [
    ("config_text", config_text::check),
    ("egress_url", egress_url::check),
    ("request_headers", request_headers::check),
    ("retry_after", retry_after::check),
    ("retry_headers", retry_headers::check),
    ("subject_matching", subject_matching::check),
];

/// `Name: value` lines as headers, up to an empty line; what follows that is the payload.
pub(crate) fn headers_and_payload(text: &str) -> (Vec<(String, String)>, &str) {
    let (head, payload) = text.split_once("\n\n").unwrap_or((text, ""));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()))
    };
    (head.split('\n').filter_map(header).collect(), payload)
}
