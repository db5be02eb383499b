//! What the end of a batch's request means: for each member, and for the breaker, which is told of one request. Each
//! member's status is judged by the table of `outcome`. Pure.

use bytes::Bytes;

use super::answer::{AnswerRule, Item, read};
use crate::outcome::{Answer, End, Outcome, Overrides, Strike, classify};

/// What the end of a request means for one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How the request ended for it.
    pub end: End,
    /// What that means.
    pub outcome: Outcome,
    /// What went wrong, in words, where the end alone would not say it.
    pub error: Option<String>,
}

/// What the end of a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What it means as a whole, for the breaker and for metrics, and for every member unless there is a word on each:
    /// then it has failed when it has failed for everybody.
    pub request: Judgement,
    /// What it means for each member, in their order, where the answer has a word on each.
    pub each: Option<Vec<Judgement>>,
}

/// Judges the `end` of the request whose members' ids are `ids`.
#[must_use]
pub fn judge(end: &End, overrides: &Overrides, rule: &AnswerRule, ids: &[&str]) -> Judged {
    let whole = |outcome, error| Judgement { end: without_kept(end), outcome, error };
    let alike = |request| Judged { request, each: None };
    let End::Answered(answer) = end else { return alike(whole(classify(end, overrides), None)) };
    match read(rule, answer, ids) {
        Ok(None) => alike(whole(classify(end, overrides), None)),
        Ok(Some(items)) => {
            let each: Vec<Judgement> =
                items.into_iter().map(|item| of_item(item, answer, overrides)).collect();
            let request = best(&each).cloned().unwrap_or_else(|| whole(classify(end, overrides), None));
            Judged { request, each: Some(each) }
        }
        // Nobody knows what became of whom: better twice than never.
        Err(error) => {
            let text = format!("answered {}, but cannot be read message by message: {error}", answer.status);
            alike(whole(Outcome::Transient(Strike::Failure), Some(text)))
        }
    }
}

/// The first of the best. A refused message tells as well as a delivered one that the receiver is at work.
fn best(each: &[Judgement]) -> Option<&Judgement> {
    let first = |outcome: Outcome| each.iter().find(|one| one.outcome == outcome);
    first(Outcome::Delivered).or_else(|| first(Outcome::Permanent)).or(each.first())
}

fn of_item(item: Item, answer: &Answer, overrides: &Overrides) -> Judgement {
    let end = |status, said| {
        End::Answered(Answer { status, retry_after: answer.retry_after, excerpt: said, kept: None })
    };
    match item {
        Item::NotListed => {
            Judgement { end: end(answer.status, Bytes::new()), outcome: Outcome::Delivered, error: None }
        }
        Item::Failed { said } => Judgement {
            end: end(answer.status, said),
            outcome: Outcome::Transient(Strike::Failure),
            error: Some(format!("answered {}, which lists this message as failed", answer.status)),
        },
        Item::Status { status, said } => {
            let end = end(status, said);
            let outcome = classify(&end, overrides);
            let error = format!("answered {}, with {status} for this message", answer.status);
            Judgement { end, outcome, error: (outcome != Outcome::Delivered).then_some(error) }
        }
    }
}

/// What is kept of an answer has been read by now.
fn without_kept(end: &End) -> End {
    match end {
        End::Answered(Answer { status, retry_after, excerpt, kept: _ }) => {
            let (status, retry_after, excerpt) = (*status, *retry_after, excerpt.clone());
            End::Answered(Answer { status, retry_after, excerpt, kept: None })
        }
        End::Broken(fault) => End::Broken(fault.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Fault, Kept};
    use http::HeaderMap;
    use std::time::Duration;

    const IDS: [&str; 2] = ["a", "b"];
    const TRANSIENT: Outcome = Outcome::Transient(Strike::Failure);

    fn answered(status: u16, body: &'static str) -> End {
        let kept = Kept { headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
        let excerpt = Bytes::from_static(body.as_bytes());
        End::Answered(Answer { status, retry_after: None, excerpt, kept: Some(Box::new(kept)) })
    }

    fn judged(end: &End, rule: &AnswerRule) -> Judged {
        judge(end, &Overrides::default(), rule, &IDS)
    }

    /// The outcomes of both members, and of the request.
    fn outcomes(body: &'static str) -> (Vec<Outcome>, Outcome) {
        let judged = judged(&answered(207, body), &AnswerRule::MultiStatus);
        let each = judged.each.unwrap_or_default().into_iter().map(|one| one.outcome).collect();
        (each, judged.request.outcome)
    }

    #[test]
    fn each_item_s_status_is_judged_by_the_same_table() {
        assert_eq!(outcomes("[200,422]"), (vec![Outcome::Delivered, Outcome::Permanent], Outcome::Delivered));
        assert_eq!(outcomes("[503,422]"), (vec![TRANSIENT, Outcome::Permanent], Outcome::Permanent));
        assert_eq!(outcomes("[503,429]"), (vec![TRANSIENT, TRANSIENT], TRANSIENT));
    }

    #[test]
    fn an_answer_that_cannot_be_read_fails_all_and_says_why() {
        for rule in [AnswerRule::MultiStatus, AnswerRule::Failed { pointer: "/failed".into() }] {
            let Judged { request: one, each } = judged(&answered(207, "fine"), &rule);
            assert_eq!((one.outcome, each), (TRANSIENT, None));
            let error = one.error.unwrap_or_default();
            assert!(error.starts_with("answered 207, but cannot be read message by message"), "{error}");
        }
    }

    #[test]
    fn without_a_word_on_each_the_end_is_everybody_s() {
        let timeout = End::Broken(Fault::Timeout(Duration::from_secs(1)));
        for (end, outcome) in [
            (answered(200, ""), Outcome::Delivered),
            (answered(413, ""), Outcome::Permanent),
            (timeout, TRANSIENT),
        ] {
            let Judged { request: one, each } = judged(&end, &AnswerRule::MultiStatus);
            assert_eq!((one.outcome, one.error, each), (outcome, None, None));
        }
    }
}
