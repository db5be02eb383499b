//! Subject patterns as NATS defines them: what matches, what contains what, and how a set of patterns is
//! reduced until no two of them overlap. Pure; nothing here knows the broker or the config file.

use std::{collections::HashSet, fmt};

/// A subject or a pattern with wildcards: tokens separated by dots, `*` for any one token, `>` for one or
/// more tokens at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// Why a text is not a subject pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text, or a token between two dots, is empty.
    #[error("has an empty token; write tokens separated by single dots, as in \"orders.created\"")]
    EmptyToken,
    /// White space or a control character, which the NATS protocol cannot carry in a subject.
    #[error("has white space or a control character, which NATS subjects cannot have")]
    WhiteSpace,
    /// `*` inside a token, or `>` anywhere but as the last token.
    #[error(
        "uses a wildcard inside a token or `>` before the end; `*` stands for one whole token, `>` for all the rest"
    )]
    MisplacedWildcard,
}

impl Pattern {
    /// Checks `text` against the rules of NATS subjects.
    ///
    /// # Errors
    /// Says which rule `text` breaks.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(PatternError::WhiteSpace);
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let last = tokens.peek().is_none();
            match token {
                "" => return Err(PatternError::EmptyToken),
                "*" => {}
                ">" if last => {}
                _ if token.contains(['*', '>']) => return Err(PatternError::MisplacedWildcard),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern names exactly one subject.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.tokens().any(|token| matches!(token, "*" | ">"))
    }

    fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether the pattern matches `subject`, by the broker's own rule.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut subject = subject.split('.');
        for token in self.tokens() {
            match (token, subject.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(other)) if literal == other => {}
                _ => return false,
            }
        }
        subject.next().is_none()
    }

    /// Whether every subject that `other` matches is matched by `self` too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let mut theirs = other.tokens();
        for token in self.tokens() {
            match (token, theirs.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(">")) => return false,
                ("*", Some(_)) => {}
                (literal, Some(other)) if literal == other => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some subject is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// The narrowest pattern that contains both.
    fn cover(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        let mut tokens = Vec::new();
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (Some(a), Some(b)) if a == b => tokens.push(a),
                (Some(a), Some(b)) if a != ">" && b != ">" => tokens.push("*"),
                _ => {
                    tokens.push(">");
                    break;
                }
            }
        }
        Self(tokens.join("."))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Patterns among which it is quickly found whether one contains another, also where there are thousands.
#[derive(Clone, Debug, Default)]
pub struct PatternSet {
    subjects: HashSet<Pattern>,
    with_wildcards: Vec<Pattern>,
}

impl PatternSet {
    /// Whether one of these contains `pattern`.
    #[must_use]
    pub fn contains(&self, pattern: &Pattern) -> bool {
        self.subjects.contains(pattern) || self.with_wildcards.iter().any(|wide| wide.contains(pattern))
    }
}

impl FromIterator<Pattern> for PatternSet {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        let (subjects, with_wildcards) = patterns.into_iter().partition::<Vec<_>, _>(Pattern::is_literal);
        Self { subjects: subjects.into_iter().collect(), with_wildcards }
    }
}

/// Removes every pattern that another one contains; the rest keep their order.
#[must_use]
pub fn reduce(patterns: &[Pattern]) -> Vec<Pattern> {
    // Only what has wildcards contains more than itself.
    let wide: Vec<&Pattern> = patterns.iter().filter(|pattern| !pattern.is_literal()).collect();
    let mut seen = HashSet::new();
    let kept = patterns.iter().filter(|pattern| {
        seen.insert(*pattern) && !wide.iter().any(|wide| wide != pattern && wide.contains(pattern))
    });
    kept.cloned().collect()
}

/// Patterns of which no two overlap and which together match at least what `patterns` match.
///
/// nats-server refuses overlapping filters on one consumer and overlapping subjects in one stream. Two
/// patterns that overlap only in part (`a.*` and `*.b`) are replaced by one that contains both; what that
/// one matches beyond them is for the caller to leave out.
#[must_use]
pub fn disjoint(patterns: &[Pattern]) -> Vec<Pattern> {
    let mut result = reduce(patterns);
    while let Some((one, two)) = overlapping_pair(&result) {
        let cover = one.cover(two);
        result.push(cover);
        result = reduce(&result);
    }
    result
}

/// Two of `patterns` that overlap, if there are such.
#[must_use]
pub fn overlapping_pair(patterns: &[Pattern]) -> Option<(&Pattern, &Pattern)> {
    let mut subjects = HashSet::new();
    patterns.iter().enumerate().find_map(|(i, one)| {
        // Two without wildcards overlap only if they are the same.
        if one.is_literal() {
            return (!subjects.insert(one)).then_some((one, one));
        }
        let mut others = patterns.iter().enumerate().filter(|(j, _)| *j != i);
        others.find(|(_, two)| one.overlaps(two)).map(|(_, two)| (one, two))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        (prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4), prop::bool::ANY).prop_map(
            |(mut tokens, tail)| {
                if tail {
                    tokens.push(">");
                }
                Pattern::new(&tokens.join(".")).unwrap()
            },
        )
    }

    fn subject() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5).prop_map(|t| t.join("."))
    }

    #[test]
    fn bad_patterns_are_refused_with_the_rule_they_break() {
        for (text, error) in [
            ("", PatternError::EmptyToken),
            ("a..b", PatternError::EmptyToken),
            (".a", PatternError::EmptyToken),
            ("a.", PatternError::EmptyToken),
            ("a b", PatternError::WhiteSpace),
            ("a\u{0}", PatternError::WhiteSpace),
            ("a*.b", PatternError::MisplacedWildcard),
            (">.a", PatternError::MisplacedWildcard),
        ] {
            assert_eq!(Pattern::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_greater_sign_needs_at_least_one_token() {
        let pattern = Pattern::new("policies.>").unwrap();
        assert!(pattern.matches("policies.a") && pattern.matches("policies.a.b"));
        assert!(!pattern.matches("policies"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_a_contained_pattern_matches_the_container_matches(a in pattern(), b in pattern(), s in subject()) {
            prop_assert!(!(a.contains(&b) && b.matches(&s)) || a.matches(&s));
        }

        #[test]
        fn a_subject_matched_by_both_means_overlap(a in pattern(), b in pattern(), s in subject()) {
            prop_assert!(!(a.matches(&s) && b.matches(&s)) || (a.overlaps(&b) && b.overlaps(&a)));
        }

        #[test]
        fn no_reduced_pattern_contains_another(patterns in prop::collection::vec(pattern(), 1..6)) {
            let reduced = reduce(&patterns);
            for (i, one) in reduced.iter().enumerate() {
                prop_assert!(reduced.iter().enumerate().all(|(j, two)| i == j || !one.contains(two)));
            }
        }

        #[test]
        fn a_set_contains_what_one_of_its_patterns_contains(patterns in prop::collection::vec(pattern(), 1..5), p in pattern()) {
            let set: PatternSet = patterns.iter().cloned().collect();
            prop_assert_eq!(set.contains(&p), patterns.iter().any(|one| one.contains(&p)));
        }

        #[test]
        fn an_overlapping_pair_is_found_wherever_there_is_one(patterns in prop::collection::vec(pattern(), 1..5)) {
            let all = patterns.iter().enumerate();
            let any = all.flat_map(|(i, a)| patterns[i + 1..].iter().map(move |b| (a, b))).any(|(a, b)| a.overlaps(b));
            let found = overlapping_pair(&patterns);
            prop_assert_eq!(found.is_some(), any);
            prop_assert!(found.is_none_or(|(a, b)| a.overlaps(b)));
        }

        #[test]
        fn reducing_changes_nothing_that_is_matched(patterns in prop::collection::vec(pattern(), 1..5), s in subject()) {
            let before = patterns.iter().any(|p| p.matches(&s));
            prop_assert_eq!(before, reduce(&patterns).iter().any(|p| p.matches(&s)));
        }

        #[test]
        fn disjoint_patterns_lose_nothing_and_never_overlap(patterns in prop::collection::vec(pattern(), 1..5), s in subject()) {
            let result = disjoint(&patterns);
            prop_assert_eq!(overlapping_pair(&result), None);
            if patterns.iter().any(|p| p.matches(&s)) {
                prop_assert!(result.iter().any(|p| p.matches(&s)));
            }
        }
    }
}
