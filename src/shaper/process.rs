//! One worker, as natshook sees it: another process of the same program, which answers questions in turn. It ends with the
//! value, whatever it is doing.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    ShapeError,
    frame::{self, Answer, Question, Setup},
    watch,
};
use crate::shape::Failed;

/// The command that makes the program a worker.
const WORKER_COMMAND: &str = "shape-worker";
/// How long a start or an answer may take on a machine that has no time for it. What a program itself may take is far
/// less, and counted by the worker.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The allocator of the program would otherwise begin with more than a worker may have, and the kernel counts that.
const ALLOCATOR: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// A worker that is up.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

/// How a worker ended instead of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What it was asked took too long.
    TooLong,
    /// It took too much memory.
    TooMuch,
    /// Something else ended it.
    Died,
}

impl Process {
    /// Starts a worker for `setup`.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start(setup: &Setup) -> Result<Self, ShapeError> {
        let mut command = Command::new(program().map_err(ShapeError::Start)?);
        command
            .arg(WORKER_COMMAND)
            // It needs none of it, and there are secrets in it.
            .env_clear()
            .envs(ALLOCATOR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        // What a terminal sends to natshook must not end what natshook still works with.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(ShapeError::Start)?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ShapeError::Unfit("it has no pipes".to_owned()));
        };
        let mut worker = Self { child, questions, answers };
        let setup = serde_json::to_vec(setup).map_err(|error| ShapeError::Unfit(error.to_string()))?;
        match timeout(ANSWER_MAX, worker.exchange(&[&setup])).await {
            Ok(Some(Ok(Answer::Ready))) => Ok(worker),
            Ok(Some(Err(failed))) => Err(ShapeError::Unfit(failed.error)),
            Ok(Some(Ok(_)) | None) => Err(ShapeError::Unfit("it ended at once".to_owned())),
            Err(_) => Err(ShapeError::Unfit(format!(
                "it says nothing for {}",
                humantime::format_duration(ANSWER_MAX)
            ))),
        }
    }

    /// What it answers. After an error it is of no use.
    ///
    /// # Errors
    /// It ended instead.
    pub(super) async fn ask(
        &mut self,
        question: &Question,
        payload: &Bytes,
    ) -> Result<Result<Answer, Failed>, End> {
        let Ok(question) = serde_json::to_vec(question) else { return Err(End::Died) };
        match timeout(ANSWER_MAX, self.exchange(&[&question, payload])).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.end().await),
            Err(_) => Err(End::TooLong),
        }
    }

    /// Writes frames and reads one; `None` when the worker is gone.
    async fn exchange(&mut self, frames: &[&[u8]]) -> Option<Result<Answer, Failed>> {
        for bytes in frames {
            self.questions.write_all(&frame::length(bytes).ok()?).await.ok()?;
            self.questions.write_all(bytes).await.ok()?;
        }
        self.questions.flush().await.ok()?;
        let mut length = [0; frame::LENGTH_BYTES];
        self.answers.read_exact(&mut length).await.ok()?;
        let mut answer = vec![0; frame::read_length(length).ok()?];
        self.answers.read_exact(&mut answer).await.ok()?;
        frame::read_answer(answer.into())
    }

    async fn end(&mut self) -> End {
        match timeout(ANSWER_MAX, self.child.wait()).await {
            Ok(Ok(status)) if status.code() == Some(watch::EXIT_TOO_LONG) => End::TooLong,
            Ok(Ok(status)) if status.code() == Some(watch::EXIT_TOO_MUCH) => End::TooMuch,
            Ok(_) | Err(_) => End::Died,
        }
    }
}

/// This program, even where its file has been replaced since it was started.
fn program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { env::current_exe() }
}
