//! What other programs may ask a running natshook over NATS: how it stands (all replicas answer), and to test a target
//! (one of them does). Whoever may publish to `<name>.line.>` may ask. What is answered comes from `control`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::sleep};

use super::{START_WAIT_MAX, control::TestReport, line::Line};
use crate::source::{Audience, Broker, Question, Questions};

/// The most tests that run at a time: each is one request of its target's `timeout` at most.
const TESTS_MAX: usize = 16;

/// The question to every replica: how do you stand?
pub const STATUS: &str = "status";
/// The question to one replica: send a test request to the target that the payload names.
pub const TEST: &str = "test";

/// What is answered to a test.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestAnswer {
    /// The request was made.
    Report(TestReport),
    /// It was not, and why.
    Refused(String),
}

/// Answers for as long as natshook runs.
pub(super) async fn answer(broker: Arc<Broker>, line: Line) {
    let instance = line.instance();
    let mut statuses = listen(&broker, instance.control_subject(STATUS), Audience::All).await;
    let mut tests = listen(&broker, instance.control_subject(TEST), Audience::Any).await;
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(question) = statuses.next() => {
                let snapshot = serde_json::to_vec(&line.snapshot()).unwrap_or_default();
                question.answer(Bytes::from(snapshot)).await;
            }
            Some(question) = tests.next(), if running.len() < TESTS_MAX => {
                running.spawn(test(line.clone(), question));
            }
            Some(_) = running.join_next() => {}
            // The connection was closed for good.
            else => std::future::pending().await,
        }
    }
}

async fn listen(broker: &Arc<Broker>, subject: String, audience: Audience) -> Questions {
    loop {
        match Questions::new(Arc::clone(broker), subject.clone(), audience).await {
            Ok(questions) => return questions,
            Err(error) => tracing::warn!(subject, %error, "cannot listen for questions; trying again"),
        }
        sleep(START_WAIT_MAX.max(Duration::from_secs(1))).await;
    }
}

async fn test(line: Line, question: Question) {
    let target = String::from_utf8_lossy(&question.payload).into_owned();
    let answer = match line.test(&target).await {
        Ok(report) => TestAnswer::Report(report),
        Err(error) => TestAnswer::Refused(error.to_string()),
    };
    question.answer(Bytes::from(serde_json::to_vec(&answer).unwrap_or_default())).await;
}
