//! Subjects and patterns: natshook matches as the broker does, and what it makes of a list of patterns matches no less.

use natshook::subject::{Pattern, disjoint, reduce};

/// More patterns and longer ones add nothing but time.
const LINES_MAX: usize = 8;
const TOKENS_MAX: usize = 12;

/// The last line is a subject; those before it are patterns.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines: Vec<&str> = text.split('\n').take(LINES_MAX).collect();
    if lines.iter().any(|line| line.split('.').count() > TOKENS_MAX) {
        return;
    }
    let subject = lines.pop().unwrap_or_default();
    let mut patterns = Vec::new();
    for line in lines {
        let pattern = Pattern::new(line);
        assert_eq!(pattern.is_ok(), is_legal(line), "{line:?}");
        patterns.extend(pattern);
    }
    if !is_legal(subject) || subject.contains(['*', '>']) {
        return;
    }
    for pattern in &patterns {
        let tokens: Vec<&str> = pattern.as_str().split('.').collect();
        let expected = reference(&tokens, &subject.split('.').collect::<Vec<_>>());
        assert_eq!(pattern.matches(subject), expected, "{pattern} and {subject}");
        assert_eq!(pattern.is_literal(), !tokens.iter().any(|token| ["*", ">"].contains(token)), "{pattern}");
    }
    related(&patterns, subject);
    sets(&patterns, subject);
}

/// The rules of NATS subjects, token by token.
fn is_legal(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    tokens.iter().enumerate().all(|(index, token)| {
        let bare = !token.contains(['*', '>']);
        let wild = *token == "*" || (*token == ">" && index + 1 == tokens.len());
        !token.is_empty() && (bare || wild) && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn reference(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => reference(pattern, subject),
        ([one, pattern @ ..], [two, subject @ ..]) => one == two && reference(pattern, subject),
        _ => false,
    }
}

fn related(patterns: &[Pattern], subject: &str) {
    for one in patterns {
        assert!(one.contains(one) && one.overlaps(one), "{one} and itself");
        for two in patterns {
            let (in_one, in_two) = (one.matches(subject), two.matches(subject));
            assert!(!one.contains(two) || !in_two || in_one, "{one} contains {two}, but not {subject}");
            assert!(!(in_one && in_two) || one.overlaps(two), "{subject} is in {one} and {two}");
            assert_eq!(one.overlaps(two), two.overlaps(one), "{one} and {two}");
            assert!(!one.contains(two) || one.overlaps(two), "{one} contains {two} without overlapping");
        }
    }
}

fn sets(patterns: &[Pattern], subject: &str) {
    let matched = |set: &[Pattern]| set.iter().any(|pattern| pattern.matches(subject));
    assert_eq!(matched(&reduce(patterns)), matched(patterns), "reducing {patterns:?}, for {subject}");
    let apart = disjoint(patterns);
    assert!(matched(&apart) || !matched(patterns), "{subject} is lost from {patterns:?}: {apart:?}");
    for (index, one) in apart.iter().enumerate() {
        assert!(apart[index + 1..].iter().all(|two| !one.overlaps(two)), "{apart:?} overlap");
    }
}
