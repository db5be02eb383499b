//! The signals that end natshook: the first one asks, the second one insists.

use std::{future::Future, process};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Listens for SIGTERM and SIGINT from now on. The future resolves at the first; a second one ends the process at
/// once, with exit code 1.
pub(super) fn first_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal: ending at once; what was in flight comes again");
            process::exit(1);
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
