//! The workers of one target: started when they are needed, used again, and ended when they have been idle for a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    ShapeError,
    frame::{Answer, Question, Setup, Stage},
    process::{End, Process},
    watch::{CPU_MAX, memory_max},
};
use crate::{message::Message, shape::Failed};

/// How many workers a target has at most: while one is busy with something that loops, the target's other messages go on.
const WORKERS_MAX: usize = 2;
/// How long a worker may be idle before it is ended, at the next opportunity.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The workers of one target.
#[derive(Debug)]
pub(super) struct Pool {
    setup: Setup,
    permits: Semaphore,
    idle: Mutex<Vec<(Process, Instant)>>,
}

impl Pool {
    /// No worker yet.
    pub(super) fn new(setup: Setup) -> Self {
        Self { setup, permits: Semaphore::new(WORKERS_MAX), idle: Mutex::default() }
    }

    /// What a worker says of `message`, or why it cannot say anything of this one.
    ///
    /// # Errors
    /// There is no worker to be had.
    pub(super) async fn ask(
        &self,
        stage: Stage,
        message: &Message,
    ) -> Result<Result<Answer, Failed>, ShapeError> {
        // Nobody closes it.
        let _permit = self.permits.acquire().await;
        let question = Question::of(stage, message);
        if let Some(worker) = self.take() {
            match self.ask_one(worker, &question, message).await {
                // It may have been ended while it was idle, or with others by a signal.
                Err(End::Died) => {}
                Err(end) => return Ok(Err(self.blame(end))),
                Ok(answer) => return Ok(answer),
            }
        }
        let fresh = Process::start(&self.setup).await?;
        Ok(self.ask_one(fresh, &question, message).await.unwrap_or_else(|end| Err(self.blame(end))))
    }

    async fn ask_one(
        &self,
        mut worker: Process,
        question: &Question,
        message: &Message,
    ) -> Result<Result<Answer, Failed>, End> {
        let answer = worker.ask(question, &message.payload).await?;
        self.give_back(worker);
        Ok(answer)
    }

    fn blame(&self, end: End) -> Failed {
        let error = match end {
            End::TooLong => format!("takes longer than {}", humantime::format_duration(CPU_MAX)),
            End::TooMuch => {
                format!("takes more than {} MiB of memory", memory_max(self.setup.max_payload_bytes) >> 20)
            }
            End::Died => "ends its worker: it recurses too deep, or takes too much memory".to_owned(),
        };
        error.into()
    }

    fn take(&self) -> Option<Process> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().map(|(worker, _)| worker)
    }

    fn give_back(&self, worker: Process) {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| now.duration_since(*since) < IDLE_MAX);
        idle.push((worker, now));
    }
}
