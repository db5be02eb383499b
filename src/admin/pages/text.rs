//! What strangers wrote, as text on a page. maud escapes what would be HTML; here what would still mislead becomes visible:
//! control characters, those that turn or hide text, and more of it than anybody wants to read. Pure.

use maud::{Markup, html};

/// Whether `character` would be invisible, or change how others are shown.
pub(super) fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line of at most `chars_max` characters; line breaks are shown as what they are.
pub(super) fn line(text: &str, chars_max: usize) -> Markup {
    shown(text, chars_max, |_| false)
}

/// Several lines of at most `chars_max` characters altogether.
pub(super) fn block(text: &str, chars_max: usize) -> Markup {
    shown(text, chars_max, |character| matches!(character, '\n' | '\t'))
}

fn shown(text: &str, chars_max: usize, is_layout: impl Fn(char) -> bool) -> Markup {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    let (text, rest) = text.split_at(end);
    let odd = |character: char| is_odd(character) && !is_layout(character);
    html! {
        bdi {
            @for run in runs(text, odd) {
                @if run.starts_with(odd) { span.odd { (names(run)) } } @else { (run) }
            }
            @if !rest.is_empty() { span.more { "… " (rest.chars().count()) " more characters" } }
        }
    }
}

/// `text` in pieces of which each is odd throughout, or nowhere.
fn runs(text: &str, odd: impl Fn(char) -> bool) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_odd = odd(first);
        let end = rest.find(|character| odd(character) != is_odd).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        runs.push(run);
        rest = after;
    }
    runs
}

fn names(run: &str) -> String {
    let names: Vec<String> = run.chars().map(name).collect();
    names.join(" ")
}

fn name(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other => format!("U+{:04X}", u32::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_mislead_is_visible() {
        let html = line("a\u{202e}\u{0}b\r\n<script>&\"", 100).into_string();
        assert_eq!(
            html,
            "<bdi>a<span class=\"odd\">U+202E U+0000</span>b<span class=\"odd\">\\r \\n</span>&lt;script&gt;&amp;&quot;</bdi>"
        );
        let html = block("a\n\tb\r", 100).into_string();
        assert_eq!(html, "<bdi>a\n\tb<span class=\"odd\">\\r</span></bdi>");
        assert!(line(&"é".repeat(12), 10).into_string().contains("… 2 more characters"));
    }

    proptest! {
        /// Nothing that a stranger writes opens a tag or keeps an odd character.
        #[test]
        fn whatever_is_written_stays_text(text in any::<String>(), most in 0_usize..60) {
            let html = line(&text, most).into_string();
            let own = ["<bdi>", "</bdi>", "<span class=\"odd\">", "<span class=\"more\">", "</span>"];
            let rest = own.iter().fold(html, |html, tag| html.replace(tag, ""));
            prop_assert!(!rest.contains(['<', '>', '"']), "{}", rest);
            prop_assert!(!rest.contains(is_odd));
        }
    }
}
