//! What the CEL library leaves to the moment of evaluation and a config's author wants to know before: unknown names,
//! calls with unknown functions, patterns that are no regular expressions.

use std::ops::ControlFlow;

use cel::{
    IdedExpr, Program,
    common::ast::{EntryExpr, Expr, LiteralValue},
};

use super::misread::Misread;

/// What a filter can read.
const VARIABLES: [&str; 4] = ["payload", "headers", "subject", "tokens"];
/// What `type(…)` can be compared with.
const TYPES: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "uint"];
/// What a filter can call, beside operators and the macros that are gone after parsing.
const FUNCTIONS: [&str; 17] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "matches",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "value",
];
/// How deep an expression may be nested: it is evaluated on the stack that everything runs on.
const DEPTH_MAX: usize = 100;
/// The largest compiled pattern, in bytes: it is compiled anew for each message.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Judges `program`, which was read from `text`, and says whether it loops.
///
/// # Errors
/// The first of what is unknown in it.
pub(super) fn check(text: &str, program: &Program) -> Result<bool, Misread> {
    let mut walk = Walk { text, program, scope: Vec::new(), loops: false, depth: 0 };
    match walk.expression(program.expression()) {
        ControlFlow::Continue(()) => Ok(walk.loops),
        ControlFlow::Break(misread) => Err(misread),
    }
}

/// The way through an expression; it ends at the first thing that is wrong.
struct Walk<'a> {
    text: &'a str,
    program: &'a Program,
    /// The variables of the loops around.
    scope: Vec<&'a str>,
    loops: bool,
    depth: usize,
}

type Step = ControlFlow<Misread>;

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a IdedExpr) -> Step {
        if self.depth == DEPTH_MAX {
            return self.wrong(expression, "is nested too deep here");
        }
        self.depth += 1;
        self.inner(expression)?;
        self.depth -= 1;
        Step::Continue(())
    }

    fn inner(&mut self, expression: &'a IdedExpr) -> Step {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Step::Continue(()),
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Select(select) => self.expression(&select.operand),
            Expr::List(list) => self.expressions(&list.elements),
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(_) => self.wrong(expression, "a filter makes no structures"),
            Expr::Call(call) => {
                self.function(expression, &call.func_name)?;
                if call.func_name == "matches" {
                    self.pattern(expression, call.args.last())?;
                }
                call.target.iter().try_for_each(|target| self.expression(target))?;
                self.expressions(&call.args)
            }
            Expr::Comprehension(comprehension) => {
                self.loops = true;
                self.expression(&comprehension.iter_range)?;
                self.expression(&comprehension.accu_init)?;
                let outside = self.scope.len();
                self.scope.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.scope.extend(comprehension.iter_var2.as_deref());
                self.expression(&comprehension.loop_cond)?;
                self.expression(&comprehension.loop_step)?;
                self.expression(&comprehension.result)?;
                self.scope.truncate(outside);
                Step::Continue(())
            }
        }
    }

    fn expressions(&mut self, expressions: &'a [IdedExpr]) -> Step {
        expressions.iter().try_for_each(|expression| self.expression(expression))
    }

    fn entries(&mut self, mut entries: impl Iterator<Item = &'a EntryExpr>) -> Step {
        entries.try_for_each(|entry| match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        })
    }

    fn variable(&self, at: &IdedExpr, name: &str) -> Step {
        if VARIABLES.contains(&name) || TYPES.contains(&name) || self.scope.contains(&name) {
            return Step::Continue(());
        }
        self.wrong(at, &format!("unknown variable {name:?}; {}", known(name, &VARIABLES)))
    }

    fn function(&self, at: &IdedExpr, name: &str) -> Step {
        // Operators are calls of names that nobody can write.
        let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_operator || FUNCTIONS.contains(&name) {
            return Step::Continue(());
        }
        self.wrong(at, &format!("unknown function {name:?}; {}", known(name, &FUNCTIONS)))
    }

    fn pattern(&self, at: &IdedExpr, pattern: Option<&IdedExpr>) -> Step {
        let Some(Expr::Literal(LiteralValue::String(pattern))) = pattern.map(|pattern| &pattern.expr) else {
            return self.wrong(at, "matches needs its pattern as a literal text");
        };
        match regex::RegexBuilder::new(pattern.inner()).size_limit(PATTERN_BYTES_MAX).build() {
            Ok(_) => Step::Continue(()),
            Err(regex::Error::CompiledTooBig(_)) => self.wrong(at, "this pattern is too large"),
            Err(_) => self.wrong(at, "this pattern is no regular expression"),
        }
    }

    fn wrong(&self, at: &IdedExpr, problem: &str) -> Step {
        let offset = self.program.source_info().offset_for(at.id).map_or(0, |(start, _)| start);
        Step::Break(Misread::at(self.text, usize::try_from(offset).unwrap_or(0), problem))
    }
}

fn known(name: &str, known: &[&str]) -> String {
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    match nearest {
        Some(nearest) if strsim::jaro_winkler(name, nearest) > 0.8 => format!("did you mean {nearest:?}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}
