//! The process: its allocator, its TLS provider, its exit code. No logic.

use std::process::ExitCode;

// Allocations are the largest single cost of a delivery; see docs/design.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Only fails when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    natshook::cli::main()
}
