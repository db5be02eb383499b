//! The process around a command: its runtime and its signals.

use std::{future::Future, io};

use tokio::sync::mpsc;

use super::Failure;

/// The exit code of a process that a second signal ended: what was in flight comes again.
const EXIT_INTERRUPTED: i32 = 1;

/// Runs `work` on a runtime of one thread: measured, a second thread costs more than it brings (docs/design.md).
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(work)
}

/// Resolves at the first SIGTERM or SIGINT. From then on, another one ends the process at once, after `last_act`.
///
/// # Errors
/// The system does not let us listen for signals.
pub(super) fn shutdown_signal(
    last_act: impl FnOnce() + Send + 'static,
) -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    Ok(async move {
        let first = signals.next().await;
        tracing::info!(signal = first, "shutting down; a second signal ends at once");
        tokio::spawn(async move {
            let second = signals.next().await;
            tracing::warn!(signal = second, "ending at once");
            last_act();
            std::process::exit(EXIT_INTERRUPTED);
        });
    })
}

/// A word for each SIGHUP.
///
/// # Errors
/// The system does not let us listen for signals.
#[cfg(unix)]
pub(super) fn hangups() -> io::Result<mpsc::Receiver<()>> {
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            tracing::info!(signal = "SIGHUP", "reading the config again");
            // One that waits already stands for this one too.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}

/// No other system has it.
#[cfg(not(unix))]
pub(super) fn hangups() -> io::Result<mpsc::Receiver<()>> {
    Ok(mpsc::channel(1).1)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "ctrl-c"
    }
}
