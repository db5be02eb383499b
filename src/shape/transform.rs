//! Transforms: a jq program that makes the body of requests from a JSON payload. jq can loop for ever and fill any memory,
//! so a program is run by a worker process only; here it is checked, and run for whoever bounds it.

use std::{fmt, io, sync::Arc};

use jaq_core::{
    Compiler, Ctx, Vars,
    data::JustLut,
    load::{self, Arena, File, Loader},
};
use jaq_json::{Val, read, write};
use serde::de::IgnoredAny;

use super::{json_error, misread::Misread};

/// What a program knows beside its input, in the order in which it is handed over.
const VARIABLES: [&str; 3] = ["$subject", "$tokens", "$headers"];

/// A transform that can be used. Two are equal when the same was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Transform(Arc<str>);

impl Transform {
    /// Reads `text`.
    ///
    /// # Errors
    /// It is no jq program, too long, or names what jq does not know.
    pub fn new(text: &str) -> Result<Self, Misread> {
        super::compile(text, || Program::new(text).map(drop))?;
        Ok(Self(text.into()))
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transform").field(&self.0).finish()
    }
}

/// Why a program made no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What is wrong, in one line without anything from the message.
    pub error: String,
    /// The same as jq says it, with values of the message; not for logs.
    pub detail: Option<String>,
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self { error, detail: None }
    }
}

/// A transform ready to run. For one thread.
pub struct Program(jaq_core::Filter<JustLut<Val>>);

impl Program {
    /// Compiles `text`.
    ///
    /// # Errors
    /// It is no jq program, or names what jq does not know.
    pub fn new(text: &str) -> Result<Self, Misread> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| unread(text, errors))?;
        let filter = Compiler::default()
            .with_funs(functions)
            .with_global_vars(VARIABLES)
            .compile(modules)
            .map_err(|errors| undefined(text, errors))?;
        Ok(Self(filter))
    }

    /// The body that the program makes of `payload`, at most `max_bytes` long. May take for ever, and any memory.
    ///
    /// # Errors
    /// The payload is not JSON, the program fails, or what it makes is not one JSON value of that length.
    pub fn run(
        &self,
        payload: &[u8],
        subject: &str,
        headers: &[(String, String)],
        max_bytes: usize,
    ) -> Result<Vec<u8>, Failed> {
        // The interpreter's own reader takes more than JSON; it is used because it keeps numbers as they are written.
        serde_json::from_slice::<IgnoredAny>(payload)
            .map_err(|error| format!("the payload is not JSON: {}", json_error(&error)))?;
        let input =
            read::parse_single(payload).map_err(|error| format!("the payload cannot be read: {error}"))?;
        let variables = [text(subject), subject.split('.').map(text).collect(), headers_value(headers)];
        let context = Ctx::<JustLut<Val>>::new(&self.0.lut, Vars::new(variables));
        let mut outputs = self.0.id.run((context, input));
        let output = match outputs.next() {
            None => return Err("it gives no value; to leave messages out use a filter".to_owned().into()),
            Some(Ok(output)) => output,
            Some(Err(end)) => return Err(described(end)),
        };
        match outputs.next() {
            None => written(&output, max_bytes),
            Some(Ok(_)) => Err("it gives more than one value; put them into a list: [ … ]".to_owned().into()),
            Some(Err(end)) => Err(described(end)),
        }
    }
}

fn text(text: &str) -> Val {
    Val::utf8_str(text.as_bytes().to_vec())
}

/// The first value under each name, in small letters.
fn headers_value(headers: &[(String, String)]) -> Val {
    let mut fields = jaq_json::Map::default();
    for (name, value) in headers {
        fields.entry(text(&name.to_ascii_lowercase())).or_insert_with(|| text(value));
    }
    Val::obj(fields)
}

/// The interpreter can hold what JSON cannot, so what it writes is judged.
fn written(output: &Val, max_bytes: usize) -> Result<Vec<u8>, Failed> {
    let mut body = Bounded { bytes: Vec::new(), max: max_bytes };
    if write::write(&mut body, &write::Pp::default(), 0, output).is_err() {
        return Err(format!("its value is larger than max_payload_bytes ({max_bytes})").into());
    }
    match serde_json::from_slice::<IgnoredAny>(&body.bytes) {
        Ok(_) => Ok(body.bytes),
        Err(_) => Err("its value is not JSON; has it a number that is none, or a key that is no text?"
            .to_owned()
            .into()),
    }
}

/// Takes no more than a number of bytes.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a run ended in. The interpreter's text shows values, so that the error tells only its kind.
fn described(end: jaq_core::Exn<'_, Val>) -> Failed {
    let Ok(error) = end.get_err() else { return "it halts".to_owned().into() };
    let detail = error.to_string();
    let kind = match detail.split_whitespace().take(2).collect::<Vec<_>>()[..] {
        ["cannot", "use"] => match detail.rsplit_once(" as ") {
            Some((_, kind)) => format!("a value cannot be used as {kind}"),
            None => "a value cannot be used so".to_owned(),
        },
        ["cannot", "index"] => "a value cannot be indexed so".to_owned(),
        ["cannot", "calculate"] => "values of these types cannot be calculated with".to_owned(),
        ["invalid", "path"] => "what is assigned to is no path".to_owned(),
        _ => "it raises an error".to_owned(),
    };
    Failed { error: kind, detail: Some(detail) }
}

/// The place of `part` in `whole`, which it is a slice of; the end of it otherwise.
fn offset(whole: &str, part: &str) -> usize {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    start.min(whole.len())
}

fn unread(text: &str, errors: load::Errors<&str, ()>) -> Misread {
    let first = errors.into_iter().next().map(|(_, error)| error);
    let (problem, at) = match first {
        Some(load::Error::Lex(errors)) => {
            errors.first().map(|(expected, at)| (format!("expected {}", expected.as_str()), *at))
        }
        Some(load::Error::Parse(errors)) => {
            errors.first().map(|(expected, at)| (format!("expected {}", expected.as_str()), *at))
        }
        Some(load::Error::Io(errors)) => {
            errors.first().map(|(at, _)| ("a transform imports nothing".to_owned(), *at))
        }
        None => None,
    }
    .unwrap_or(("cannot be read".to_owned(), text));
    Misread::at(text, offset(text, at), problem)
}

fn undefined(text: &str, errors: jaq_core::compile::Errors<&str, ()>) -> Misread {
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((name, what)) = first else { return Misread::at(text, 0, "cannot be compiled") };
    let problem = match what {
        jaq_core::compile::Undefined::Filter(arity) => format!("unknown function {name}/{arity}"),
        jaq_core::compile::Undefined::Var => {
            format!("unknown variable {name:?}; known are {}", VARIABLES.join(", "))
        }
        other => format!("unknown {} {name:?}", other.as_str()),
    };
    Misread::at(text, offset(text, name), problem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shape::PROGRAM_BYTES_MAX;

    fn run(program: &str, payload: &str) -> Result<String, Failed> {
        let headers = [("X-Tenant".to_owned(), "acme".to_owned()), ("x-tenant".to_owned(), "2".to_owned())];
        let body = Program::new(program).unwrap().run(payload.as_bytes(), "orders.eu", &headers, 64)?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_body_is_made_of_payload_subject_and_headers() {
        for (program, payload, body) in [
            ("{id, total: (.a + .b)}", r#"{"id": 7, "a": 1, "b": 2}"#, r#"{"id":7,"total":3}"#),
            (
                "{$subject, region: $tokens[1], tenant: $headers[\"x-tenant\"]}",
                "{}",
                r#"{"subject":"orders.eu","region":"eu","tenant":"acme"}"#,
            ),
            ("[.[] | select(.ok) | .n]", r#"[{"ok":true,"n":1},{"ok":false,"n":2}]"#, "[1]"),
            (
                ".",
                "[1.10, 18446744073709551616, 1e400, \"\\u00e9\"]",
                "[1.10,18446744073709551616,1e400,\"é\"]",
            ),
            ("(.a | ascii_downcase | test(\"^x\"))", r#"{"a":"XY"}"#, "true"),
            (".at | todate", r#"{"at": 0}"#, "\"1970-01-01T00:00:00Z\""),
        ] {
            assert_eq!(run(program, payload), Ok(body.to_owned()), "{program}");
        }
    }

    #[test]
    fn what_is_no_single_json_value_is_told_without_the_message() {
        for (program, payload, error) in [
            ("empty", "1", "it gives no value; to leave messages out use a filter"),
            ("1, 2", "1", "it gives more than one value; put them into a list: [ … ]"),
            ("nan", "1", "its value is not JSON; has it a number that is none, or a key that is no text?"),
            (
                "{(1|tostring): 1} | {(.): 2}",
                "1",
                "its value is not JSON; has it a number that is none, or a key that is no text?",
            ),
            ("\"x\" * 100", "1", "its value is larger than max_payload_bytes (64)"),
            ("halt", "1", "it halts"),
            (".", "{\"a\":", "the payload is not JSON: EOF while parsing a value at line 1 column 5"),
            (".", "NaN", "the payload is not JSON: expected value at line 1 column 1"),
            ("error(\"secret\")", "1", "it raises an error"),
            (".a", "\"secret\"", "a value cannot be indexed so"),
            ("keys", "\"secret\"", "a value cannot be used as iterable (array or object)"),
            (". + 1", "\"secret\"", "values of these types cannot be calculated with"),
        ] {
            let failed = run(program, payload).unwrap_err();
            assert_eq!(failed.error, error, "{program}");
            assert!(!failed.error.contains("secret"));
        }
        assert_eq!(
            run(".a", "\"secret\"").unwrap_err().detail.unwrap(),
            "cannot index \"secret\" with \"a\""
        );
    }

    #[test]
    fn no_program_is_nested_too_deep_to_be_read() {
        let nested = |open: &str, end: &str, close: &str| {
            let n = (PROGRAM_BYTES_MAX - end.len()) / (open.len() + close.len());
            format!("{}{end}{}", open.repeat(n), close.repeat(n))
        };
        for program in [
            nested("(", ".", ")"),
            nested("[", ".", "]"),
            nested("{a:", ".", "}"),
            nested("-", "1", ""),
            nested(".|", ".", ""),
            nested(".+", ".", ""),
            nested(".,", ".", ""),
            nested("try ", ".", ""),
            nested("if . then ", ".", " end"),
            nested(". as $x|", ".", ""),
            nested("def f: ", ".", "; f"),
            nested("\"\\(", ".", ")\""),
            nested("(", "", ""),
            nested("reduce . as $x (", ".", "; .)"),
        ] {
            let _ = Transform::new(&program);
        }
        let long = Transform::new(&" ".repeat(PROGRAM_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(long.problem, "is longer than 4096 bytes");
    }

    #[test]
    fn a_bad_program_is_told_at_the_place() {
        for (program, at, problem) in [
            (".a | foo", (1, 6), "unknown function foo/0"),
            ("{\n  a: $b }", (2, 6), "unknown variable \"$b\"; known are $subject, $tokens, $headers"),
            ("{a: ", (1, 5), "expected closing brace"),
            (".a |", (1, 5), "expected term"),
            ("if . then 1", (1, 12), "expected else or end"),
            ("import \"x\" as x; .", (1, 9), "a transform imports nothing"),
            ("$ENV.HOME", (1, 1), "unknown variable \"$ENV\"; known are $subject, $tokens, $headers"),
            ("input", (1, 1), "unknown function input/0"),
        ] {
            let misread = Transform::new(program).unwrap_err();
            assert_eq!(
                ((misread.line, misread.column), misread.problem.as_str()),
                (at, problem),
                "{program}"
            );
        }
    }
}
