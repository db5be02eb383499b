//! Filters: a CEL expression over a message that says whether a target wants it. Compiled once, when the config is
//! checked. An expression without loops is at most its own length times the message's long to evaluate; one with a loop
//! is for a worker.

use std::{collections::HashMap, fmt, panic, sync::Arc};

use cel::{Context, Env, ExecutionError, Program, Value, objects::Map};

use super::{filter_check, misread::Misread};
use crate::message::Message;

/// A compiled filter. Two are equal when the same was written.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    program: Arc<Program>,
    env: Arc<Env>,
    loops: bool,
    uses: Uses,
}

/// Which parts of a message a filter reads; the others need not be prepared.
#[derive(Clone, Copy, Debug)]
struct Uses {
    payload: bool,
    headers: bool,
    subject: bool,
    tokens: bool,
}

impl Filter {
    /// Reads `text`.
    ///
    /// # Errors
    /// It is no CEL expression, too long, nested too deep, or names what a filter does not know.
    pub fn new(text: &str) -> Result<Self, Misread> {
        let env = Arc::new(Env::stdlib());
        let (program, loops) = super::compile(text, || {
            let program = env.compile(text).map_err(|errors| syntax_error(text, &errors))?;
            let loops = filter_check::check(text, &program)?;
            Ok((program, loops))
        })?;
        let references = program.references();
        let uses = Uses {
            payload: references.has_variable("payload"),
            headers: references.has_variable("headers"),
            subject: references.has_variable("subject"),
            tokens: references.has_variable("tokens"),
        };
        drop(references);
        Ok(Self { text: text.into(), program: Arc::new(program), env, loops, uses })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it walks lists or maps of the message, so that only a worker bounds how long it takes.
    #[must_use]
    pub fn loops(&self) -> bool {
        self.loops
    }

    /// Whether `message` is wanted.
    ///
    /// # Errors
    /// It cannot be told; why, in one line without anything from the message.
    pub fn wants(&self, message: &Message) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        if self.uses.payload {
            let payload = serde_json::from_slice(&message.payload)
                .map_err(|error| format!("the payload is not JSON: {}", super::json_error(&error)))?;
            context.add_variable_from_value("payload", value(payload));
        }
        if self.uses.headers {
            context.add_variable_from_value("headers", headers(message));
        }
        if self.uses.subject {
            context.add_variable_from_value("subject", message.subject.as_str());
        }
        if self.uses.tokens {
            let tokens: Vec<&str> = message.subject.split('.').collect();
            context.add_variable_from_value("tokens", tokens);
        }
        // Whatever the library has not thought of must cost one message and not the process.
        let executed = panic::catch_unwind(panic::AssertUnwindSafe(|| self.program.execute(&context)));
        match executed {
            Ok(Ok(Value::Bool(wanted))) => Ok(wanted),
            Ok(Ok(other)) => Err(format!("the value is of type {}, and not true or false", other.type_of())),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("the expression cannot be evaluated".to_owned()),
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

fn syntax_error(text: &str, errors: &cel::ParseErrors) -> Misread {
    let Some(first) = errors.errors.first() else { return Misread::at(text, 0, "cannot be read") };
    let (line, column) = (usize::try_from(first.pos.0), usize::try_from(first.pos.1));
    let problem = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    Misread::in_line(text, line.unwrap_or(1), column.unwrap_or(1), problem)
}

/// Whole numbers become `int`, as they are written, and all others `double`.
fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(bool),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(list) => Value::List(Arc::new(list.into_iter().map(value).collect())),
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, field)| (name.into(), value(field)));
            Value::Map(Map { map: Arc::new(fields.collect()) })
        }
    }
}

/// The first value under each name, in small letters.
fn headers(message: &Message) -> HashMap<String, String> {
    let mut headers = HashMap::new();
    for (name, value) in message.headers.iter() {
        headers.entry(name.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
    }
    headers
}

/// The library's own texts show values, and what is in a message belongs into no log.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no field {:?}", key.as_str()),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UndeclaredReference(name) => format!("{:?} is not known", name.as_str()),
        ExecutionError::UnexpectedType { got, want } => {
            format!("found a value of type {got}, expected {want}")
        }
        ExecutionError::FunctionError { function, .. } => format!("{function} cannot take this value"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a division by zero".to_owned()
        }
        ExecutionError::Overflow(operator, ..) => format!("the result of {operator} is too large"),
        ExecutionError::IndexOutOfBounds(_) => "an index beyond the end of a list".to_owned(),
        ExecutionError::ValuesNotComparable(..) => "values of these types cannot be compared".to_owned(),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
            format!("values of these types do not go with {operator}")
        }
        ExecutionError::UnsupportedIndex(..) | ExecutionError::UnsupportedKeyType(_) => {
            "a value of this type cannot be an index".to_owned()
        }
        _ => "the expression cannot be evaluated".to_owned(),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
