//! Reading templates: `{{ subject }}`, `{{ subject[1] }}`, `{{ headers["X-Tenant"] }}`, `{{ payload.items[0].id }}`, each
//! with `| default("…")` or without, and `{{ "{{" }}` for braces themselves.

use super::{
    misread::Misread,
    template::{Part, Place, Source, Step},
};

/// What begins a place.
pub(super) const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const NAMES: &str = "known are subject, subject[1], headers[\"X-Name\"] and payload.field";

pub(super) fn read(text: &str) -> Result<Vec<Part>, Misread> {
    let mut reader = Reader { text, at: 0 };
    let mut parts = Vec::new();
    while let Some(found) = reader.rest().find(OPEN) {
        if found > 0 {
            parts.push(Part::Literal(reader.rest()[..found].to_owned()));
        }
        reader.at += found + OPEN.len();
        parts.push(reader.place()?);
    }
    if !reader.rest().is_empty() {
        parts.push(Part::Literal(reader.rest().to_owned()));
    }
    Ok(parts)
}

struct Reader<'a> {
    text: &'a str,
    /// The byte that is read next.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong<T>(&self, problem: impl Into<String>) -> Result<T, Misread> {
        Err(Misread::at(self.text, self.at, problem))
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        self.at += if there { text.len() } else { 0 };
        there
    }

    /// What stands between the braces, and the closing ones.
    fn place(&mut self) -> Result<Part, Misread> {
        self.space();
        if self.rest().starts_with('"') {
            let literal = self.string()?;
            self.close()?;
            return Ok(Part::Literal(literal));
        }
        let from = self.at;
        let source = self.source()?;
        let written = self.text[from..self.at].to_owned();
        self.space();
        let default = if self.take("|") { Some(self.default()?) } else { None };
        self.close()?;
        Ok(Part::Place(Place { source, default, written }))
    }

    fn close(&mut self) -> Result<(), Misread> {
        self.space();
        if self.take(CLOSE) { Ok(()) } else { self.wrong("expected }} here") }
    }

    fn default(&mut self) -> Result<String, Misread> {
        self.space();
        if !(self.take("default") && self.take("(")) {
            return self.wrong("expected default(\"…\")");
        }
        self.space();
        let text = self.string()?;
        self.space();
        if self.take(")") { Ok(text) } else { self.wrong("expected ) here") }
    }

    fn source(&mut self) -> Result<Source, Misread> {
        let from = self.at;
        let name = self.word();
        match name {
            "subject" => match self.steps()?.as_slice() {
                [] => Ok(Source::Subject),
                [Step::Index(index)] => Ok(Source::Token(*index)),
                _ => self.back(from, "a subject has tokens only: subject[1] is the second one"),
            },
            "headers" => match self.steps()?.as_slice() {
                [Step::Field(name)] => Ok(Source::Header(name.clone())),
                _ => self.back(from, "expected the name of one header: headers[\"X-Name\"]"),
            },
            "payload" => match self.steps()? {
                steps if steps.is_empty() => {
                    self.back(from, "expected a field of the payload: payload.field")
                }
                steps => Ok(Source::Payload(steps)),
            },
            "tokens" => self.back(from, "unknown name \"tokens\"; write subject[1] for the second token"),
            "" => self.wrong(format!("expected a name; {NAMES}")),
            other => self.back(from, &format!("unknown name {other:?}; {NAMES}")),
        }
    }

    fn back<T>(&mut self, to: usize, problem: &str) -> Result<T, Misread> {
        self.at = to;
        self.wrong(problem)
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn steps(&mut self) -> Result<Vec<Step>, Misread> {
        let mut steps = Vec::new();
        loop {
            if self.take(".") {
                match self.word() {
                    "" => {
                        return self
                            .wrong("expected a field's name; one with other characters is written [\"…\"]");
                    }
                    name => steps.push(Step::Field(name.to_owned())),
                }
            } else if self.take("[") {
                self.space();
                let step = if self.rest().starts_with('"') {
                    Step::Field(self.string()?)
                } else {
                    Step::Index(self.index()?)
                };
                self.space();
                if !self.take("]") {
                    return self.wrong("expected ] here");
                }
                steps.push(step);
            } else {
                return Ok(steps);
            }
        }
    }

    fn index(&mut self) -> Result<usize, Misread> {
        let digits = self.rest().len() - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match self.rest()[..digits].parse() {
            Ok(index) => {
                self.at += digits;
                Ok(index)
            }
            Err(_) => self.wrong("expected a number from 0, or a name in quotes"),
        }
    }

    /// A text in quotes, with `\"` and `\\` for what would end it.
    fn string(&mut self) -> Result<String, Misread> {
        if !self.take("\"") {
            return self.wrong("expected a text in quotes");
        }
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    _ => {
                        self.at += at;
                        return self.wrong("expected \\\" or \\\\");
                    }
                },
                c => text.push(c),
            }
        }
        self.wrong("a text in quotes does not end")
    }
}
