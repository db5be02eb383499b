//! How a header carries the text of an attribute (HTTP protocol binding, 3.1.3.2; the NATS binding has the same rule).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What is percent-encoded, beside everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// `text` in printable ASCII without spaces and quotes.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The text that a header's value stands for; `None` where it is not UTF-8.
pub(super) fn decode(value: &str) -> Option<String> {
    let unquoted = unquote(value.trim());
    percent_decode_str(&unquoted).decode_utf8().ok().map(Cow::into_owned)
}

/// Older senders put a value into quotes, with backslashes before quotes and backslashes in it (RFC 9110, 5.6.4).
fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        // A backslash at the very end escapes nothing.
        text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(encode("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
    }

    #[test]
    fn quotes_needless_escapes_and_small_letters_are_read() {
        for value in ["a b", "\"a b\"", "a%20b", "%61%20%62", "\"a\\ b\""] {
            assert_eq!(decode(value).as_deref(), Some("a b"), "{value}");
        }
        assert_eq!(decode("%e2%82%ac").as_deref(), Some("€"));
        assert_eq!(decode("\"say \\\"a\\\\b\\\"\"").as_deref(), Some("say \"a\\b\""));
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert_eq!(decode("%C0%A0"), None);
    }

    proptest! {
        #[test]
        fn every_text_comes_back_and_travels_in_printable_ascii(text in "\\PC{0,40}") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && b != b'"'));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
