//! How commands print: colours where there is a terminal, and text from outside made harmless.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    time::SystemTime,
};

use crate::telemetry;

/// The most characters of a body that are printed.
const BODY_CHARS_MAX: usize = 2000;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours if stdout is a terminal and the user wants them.
    pub(super) fn for_stdout() -> Self {
        Self { on: io::stdout().is_terminal() && telemetry::colours_wanted() }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }
}

/// The time of day (UTC) for the beginning of a line.
pub(super) fn clock() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.get(11..19).unwrap_or_default().to_owned()
}

/// A body as indented lines: text as it is, anything else by its size.
pub(super) fn body(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("    ({} bytes, not text)\n", bytes.len());
    };
    let mut shown = String::new();
    for line in text.chars().take(BODY_CHARS_MAX).collect::<String>().lines() {
        let _ = writeln!(shown, "    {}", harmless(line));
    }
    if text.chars().nth(BODY_CHARS_MAX).is_some() {
        let _ = writeln!(shown, "    … ({} bytes in all)", bytes.len());
    }
    if text.is_empty() {
        shown.push_str("    (no body)\n");
    }
    shown
}

/// Text from outside without what would steer a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of what follows, so that it reads as something else.
pub(super) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_steer_the_terminal() {
        assert_eq!(body(b"a\x1b[2Jb\nc"), "    a\u{fffd}[2Jb\n    c\n");
        assert_eq!(harmless("a\u{202e}b\u{9b}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(body(b"\xff\x00"), "    (2 bytes, not text)\n");
        assert!(body(&[b'x'; 5000]).len() < 2100);
    }

    #[test]
    fn without_a_terminal_there_is_no_colour() {
        assert_eq!(Paint { on: false }.bold("x"), "x");
        assert_eq!(clock().len(), 8);
    }
}
