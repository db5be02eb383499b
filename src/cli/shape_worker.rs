//! `natshook shape-worker`: what natshook starts for itself. Not for people.

use clap::Args;

use super::Failure;
use crate::shaper;

/// Run filters and transforms for another natshook
#[derive(Args, Debug)]
pub(super) struct ShapeWorker {}

impl ShapeWorker {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        shaper::work().map_err(Failure::Worker)
    }
}
