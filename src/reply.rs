//! What a target tells NATS of its answers: which ones, of what, and on which subject. Pure; publishing is for `replies`.

use http::HeaderName;

use crate::{
    disposition::Disposition,
    message::{Message, Origin},
    subject::{Pattern, PatternError},
};

/// What stands for the message's subject in a reply's subject.
const PLACE: &str = "subject";

/// What is told of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where to; `None` for those only whose publisher waits for an answer.
    pub subject: Option<ReplySubject>,
    /// Headers of the answer that are told, and under which names, beside its content type.
    pub headers: Vec<(HeaderName, String)>,
    /// The most bytes of a body that are told.
    pub max_body_bytes: usize,
    /// Which answers are told.
    pub on: ReplyOn,
}

/// Which answers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOn {
    /// Those that mean "delivered".
    Delivered,
    /// Those that settle a delivery: also the one after which it is given up.
    Answered,
}

/// A subject with `{{ subject }}` where the message's own is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplySubject {
    /// The texts before, between and after the message's subject.
    parts: Vec<String>,
}

/// Why a text is no subject for answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplySubjectError {
    /// Something else between `{{` and `}}`, or only one of them.
    #[error("has {{{{ … }}}} around something else than the word \"subject\", or only one half of it")]
    Placeholder,
    /// It is no subject whatever the message's is.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// It has wildcards.
    #[error("has wildcards, and nothing can be published to those")]
    Wildcard,
}

impl Reply {
    /// Whether the answer of an attempt is told after which this is done.
    #[must_use]
    pub fn wants(&self, disposition: Disposition) -> bool {
        match disposition {
            Disposition::Ack => true,
            Disposition::DeadLetter(_) => self.on == ReplyOn::Answered,
            Disposition::Retry { .. } | Disposition::Skip => false,
        }
    }

    /// Where an answer to `message` goes, if anywhere: to whoever waits for it, else to the target's subject.
    #[must_use]
    pub fn place(&self, message: &Message) -> Option<String> {
        match &message.origin {
            Origin::Passing { reply: Some(waiting), .. } => Some(waiting.to_string()),
            Origin::Passing { reply: None, .. } | Origin::Stored { .. } => {
                self.subject.as_ref().map(|subject| subject.of(&message.subject))
            }
        }
    }
}

impl ReplySubject {
    /// Checks `text` against the rules of NATS subjects.
    ///
    /// # Errors
    /// Says which rule `text` breaks.
    pub fn new(text: &str) -> Result<Self, ReplySubjectError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or(ReplySubjectError::Placeholder)?;
            if inside.trim() != PLACE {
                return Err(ReplySubjectError::Placeholder);
            }
            parts.push(before.to_owned());
            rest = after;
        }
        parts.push(rest.to_owned());
        if parts.iter().any(|part| part.contains("}}")) {
            return Err(ReplySubjectError::Placeholder);
        }
        let subject = Self { parts };
        if Pattern::new(&subject.of("a"))?.is_literal() {
            Ok(subject)
        } else {
            Err(ReplySubjectError::Wildcard)
        }
    }

    /// The subject for an answer to a message on `subject`.
    #[must_use]
    pub fn of(&self, subject: &str) -> String {
        self.parts.join(subject)
    }

    /// What answers to messages of `pattern` are published to, at most.
    #[must_use]
    pub fn reach(&self, pattern: &Pattern) -> Option<Pattern> {
        let text = self.of(pattern.as_str());
        let mut tokens = Vec::new();
        for token in text.split('.') {
            if token.contains('>') {
                tokens.push(">");
                break;
            }
            tokens.push(if token.contains('*') { "*" } else { token });
        }
        Pattern::new(&tokens.join(".")).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn the_message_s_subject_takes_its_place() {
        for (text, subject) in [
            ("answers", "answers"),
            ("answers.{{ subject }}", "answers.a.b"),
            ("{{subject}}.answer", "a.b.answer"),
            ("x-{{ subject }}-{{ subject }}", "x-a.b-a.b"),
        ] {
            assert_eq!(ReplySubject::new(text).unwrap().of("a.b"), subject);
        }
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for text in ["a.{{ target }}", "a.{{ subject", "a.subject }}", "a.{{ subject }}}}", "{{}}"] {
            assert_eq!(ReplySubject::new(text), Err(ReplySubjectError::Placeholder), "{text}");
        }
        for text in ["", "a..b", "a.{{ subject }}.", "a b"] {
            assert!(matches!(ReplySubject::new(text), Err(ReplySubjectError::Pattern(_))), "{text}");
        }
        for text in ["a.*", "a.>"] {
            assert_eq!(ReplySubject::new(text), Err(ReplySubjectError::Wildcard), "{text}");
        }
    }

    #[test]
    fn what_is_reached_is_as_wide_as_the_target_s_subjects() {
        for (text, own, reached) in [
            ("answers", "orders.>", "answers"),
            ("answers.{{ subject }}", "orders.>", "answers.orders.>"),
            ("answers.{{ subject }}.x", "orders.*", "answers.orders.*.x"),
            ("{{ subject }}.answer", "orders.>", "orders.>"),
            ("{{ subject }}-answer", "orders.*", "orders.*"),
        ] {
            assert_eq!(
                ReplySubject::new(text).unwrap().reach(&pattern(own)),
                Some(pattern(reached)),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_answer_is_where_it_is_said_to_reach(
            text in "(a\\.)?\\{\\{ subject \\}\\}(-x)?(\\.b)?",
            (own, subject) in prop::sample::select(vec![
                ("orders.>", "orders.a.b"), ("*", "c"), ("a.*.c", "a.b.c"), (">", "x.y"), ("a", "a"),
            ]),
        ) {
            let reply = ReplySubject::new(&text).unwrap();
            let reached = reply.reach(&pattern(own)).unwrap();
            prop_assert!(reached.matches(&reply.of(subject)), "{} {}", reached, reply.of(subject));
        }
    }
}
