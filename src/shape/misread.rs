//! What is wrong with a program in the config, and where in its text.

use std::fmt;

/// The most characters of a line that are shown, so that the mark under it stays in sight.
const SHOWN_CHARS_MAX: usize = 100;

/// Why a program cannot be used, pointing into its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The line, from 1.
    pub line: usize,
    /// The character of that line, from 1.
    pub column: usize,
    /// What is wrong there, as one would say it after the place.
    pub problem: String,
    /// The line itself, as far as it is shown, and the column in what is shown, from 1.
    excerpt: (String, usize),
}

impl Misread {
    /// Something is wrong with `text` at its byte `offset`.
    #[must_use]
    pub fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Self::in_line(text, line, before[start..].chars().count() + 1, problem)
    }

    /// Something is wrong with `text` at a place that is counted in lines and characters, both from 1.
    #[must_use]
    pub fn in_line(text: &str, line: usize, column: usize, problem: impl Into<String>) -> Self {
        let whole = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let column = column.clamp(1, whole.chars().count() + 1);
        let cut = (column - 1).saturating_sub(SHOWN_CHARS_MAX * 3 / 4);
        let shown = whole.chars().skip(cut).take(SHOWN_CHARS_MAX);
        // A tab or worse would move the mark away from what it points at.
        let shown = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { line, column, problem: problem.into(), excerpt: (shown, column - cut) }
    }

    /// Where and what, without the line itself: for texts that may hold secrets.
    #[must_use]
    pub fn without_excerpt(&self) -> String {
        format!("character {}: {}", self.column, self.problem)
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, column) = &self.excerpt;
        write!(
            f,
            "line {}, column {}: {}\n    {shown}\n    {:>column$}",
            self.line, self.column, self.problem, "^"
        )
    }
}

impl std::error::Error for Misread {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_what_is_wrong() {
        let misread = Misread::at("a &&\n\tbé == 1", 9, "expected c");
        assert_eq!(misread.to_string(), "line 2, column 4: expected c\n     bé == 1\n       ^");
        assert_eq!(misread.without_excerpt(), "character 4: expected c");
        let end = Misread::at("a ==", 4, "ends too early");
        assert_eq!(end.to_string(), "line 1, column 5: ends too early\n    a ==\n        ^");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_mark_is_shown() {
        let long = format!("{}!{}", "x".repeat(500), "y".repeat(500));
        let text = Misread::at(&long, 500, "no").to_string();
        let mut lines = text.lines().skip(1);
        let (shown, mark) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        assert_eq!(shown.find('!'), mark.find('^'));
        assert!(shown.len() < 110, "{shown}");
    }
}
