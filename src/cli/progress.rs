//! How far a long command has come: a bar where stderr is a terminal, now and then a plain line where it is not.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The progress of one command.
pub(super) struct Progress {
    form: Form,
    /// What is counted, for people.
    what: &'static str,
    done: u64,
    total: Option<u64>,
    place: String,
}

enum Form {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Begins to count `what` to `total`, if that is known.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        let form = if io::stderr().is_terminal() {
            Form::Bar(bar(what, total))
        } else {
            Form::Lines { last: Instant::now() }
        };
        Self { form, what, done: 0, total, place: String::new() }
    }

    /// One more is done.
    pub(super) fn one_more(&mut self) {
        self.set(self.done + 1);
    }

    /// So many are done.
    pub(super) fn set(&mut self, done: u64) {
        self.done = done;
        match &mut self.form {
            Form::Bar(bar) => bar.set_position(done),
            Form::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                self.write_line();
            }
            Form::Lines { .. } => {}
        }
    }

    /// The same, and where that is.
    pub(super) fn one_more_at(&mut self, place: String) {
        if let Form::Bar(bar) = &self.form {
            bar.set_message(place.clone());
        }
        self.place = place;
        self.one_more();
    }

    /// Writes a line to stderr without disturbing a bar.
    pub(super) fn tell(&self, line: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| write(line)),
            Form::Lines { .. } => write(line),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        match &self.form {
            Form::Bar(bar) => bar.finish_and_clear(),
            Form::Lines { .. } => {}
        }
    }

    fn write_line(&self) {
        let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let at = if self.place.is_empty() { String::new() } else { format!(", {}", self.place) };
        write(&format!("{}{of} {}{at}", self.done, self.what));
    }
}

fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {pos} of {len} {prefix}, {eta} left {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {prefix} {msg}"),
    };
    let bar = bar.with_prefix(what);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Nobody who reads progress is missed when they are gone.
fn write(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
