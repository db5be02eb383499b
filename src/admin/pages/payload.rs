//! The body of a dead letter, for reading: JSON laid out, other text as it is, anything else as hexadecimal. Pure, and
//! bounded whatever the body is.

use std::fmt::Write;

use serde::de::IgnoredAny;

/// The most bytes of text that are shown.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most bytes that are shown as hexadecimal.
const HEX_BYTES_MAX: usize = 4 << 10;
/// The largest JSON that is laid out, and how long it may get: indents can make it many times as long.
const JSON_BYTES_MAX: usize = 64 << 10;
const LAID_OUT_BYTES_MAX: usize = 256 << 10;
/// Text with more control characters than one in so many is no text.
const CONTROL_ONE_IN: usize = 20;
const HEX_ROW: usize = 16;

/// A body, as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Nothing.
    Empty,
    /// JSON, laid out; its tokens are as they were.
    Json(String),
    /// Any other text, or its beginning.
    Text {
        /// The beginning.
        beginning: String,
        /// Whether there is more.
        cut: bool,
    },
    /// Anything else, or its beginning.
    Hex {
        /// The beginning.
        dump: String,
        /// Whether there is more.
        cut: bool,
    },
}

impl Payload {
    /// How `bytes` are shown.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if is_readable(text) => json(text).unwrap_or_else(|| {
                let beginning = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
                Self::Text { beginning: beginning.to_owned(), cut: beginning.len() < text.len() }
            }),
            _ => {
                let beginning = &bytes[..bytes.len().min(HEX_BYTES_MAX)];
                Self::Hex { dump: hex(beginning), cut: beginning.len() < bytes.len() }
            }
        }
    }
}

fn json(text: &str) -> Option<Payload> {
    let is_json = text.len() <= JSON_BYTES_MAX
        && text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_json.then(|| laid_out(text)).filter(|json| json.len() <= LAID_OUT_BYTES_MAX).map(Payload::Json)
}

fn is_readable(text: &str) -> bool {
    let controls = text.chars().filter(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')).count();
    !text.contains('\0') && controls * CONTROL_ONE_IN <= text.len()
}

/// `json`, which is valid, with line breaks and indents. Written by hand since reading it into values would round numbers
/// and drop repeated keys.
fn laid_out(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut opened) = (0_usize, false, false, false);
    for c in json.chars() {
        if out.len() > LAID_OUT_BYTES_MAX {
            break;
        }
        if in_string {
            out.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if opened != closes {
            break_line(&mut out, depth);
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ',' => break_line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

/// JSON that is read is at most 128 deep, so an indent has a bound too.
fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, chunk) in bytes.chunks(HEX_ROW).enumerate() {
        let _ = write!(out, "{:08x} ", row * HEX_ROW);
        for at in 0..HEX_ROW {
            let gap = if at % 8 == 0 { " " } else { "" };
            let _ = match chunk.get(at) {
                Some(byte) => write!(out, "{gap}{byte:02x} "),
                None => write!(out, "{gap}   "),
            };
        }
        let printable =
            |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let _ = writeln!(out, " {}", chunk.iter().map(printable).collect::<String>());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_laid_out_and_its_tokens_stay() {
        let json = r#" {"a":[1.10,{"b":"x\"],:{"},[],{}],"a":12345678901234567890123,"c":""} "#;
        let laid_out = "{\n  \"a\": [\n    1.10,\n    {\n      \"b\": \"x\\\"],:{\"\n    },\n    [],\n    {}\n  ],\n  \
                        \"a\": 12345678901234567890123,\n  \"c\": \"\"\n}";
        assert_eq!(Payload::of(json.as_bytes()), Payload::Json(laid_out.to_owned()));
    }

    #[test]
    fn text_is_text_and_the_rest_is_hexadecimal() {
        assert_eq!(Payload::of(b""), Payload::Empty);
        let text = Payload::Text { beginning: "{not json\r\n\u{e9}".to_owned(), cut: false };
        assert_eq!(Payload::of("{not json\r\n\u{e9}".as_bytes()), text);
        let Payload::Hex { dump, cut: false } = Payload::of(b"\x00\xff<b>0123456789abcdef") else { panic!() };
        assert_eq!(
            dump,
            "00000000  00 ff 3c 62 3e 30 31 32  33 34 35 36 37 38 39 61  ..<b>0123456789a\n\
             00000010  62 63 64 65 66                                    bcdef\n"
        );
        assert!(matches!(Payload::of("a\u{0}b".as_bytes()), Payload::Hex { .. }));
    }

    #[test]
    fn large_bodies_are_cut() {
        let Payload::Text { beginning, cut: true } = Payload::of("é".repeat(40_000).as_bytes()) else {
            panic!()
        };
        assert!(beginning.len() <= TEXT_BYTES_MAX);
        let Payload::Hex { dump, cut: true } = Payload::of(&vec![0xff; 1 << 20]) else { panic!() };
        assert_eq!(dump.lines().count(), HEX_BYTES_MAX / HEX_ROW);
        assert!(matches!(Payload::of("[".repeat(30_000).as_bytes()), Payload::Text { .. }));
        let deep = format!("{}{}1{}", "[".repeat(100), "1,".repeat(10_000), "]".repeat(100));
        assert!(matches!(Payload::of(deep.as_bytes()), Payload::Text { .. }));
    }

    proptest! {
        /// Laying out changes nothing but white space between tokens.
        #[test]
        fn laid_out_json_means_the_same(value in any_json()) {
            let json = value.to_string();
            let again: serde_json::Value = serde_json::from_str(&laid_out(&json)).unwrap();
            prop_assert_eq!(again, value);
        }

        #[test]
        fn any_bytes_are_shown(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Payload::of(&bytes);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Into::into),
            any::<bool>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
