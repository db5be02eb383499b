//! How many files and connections this process may have open: as many as the system lets it have without being asked by an
//! administrator. The usual limit of 1,024 is less than a backlog of twenty targets uses.

use super::space;
use crate::config::Config;

/// Files that are no connections to targets.
const OTHERS: u64 = 64;
/// What systems let a process have if nobody says otherwise.
const USUAL: u64 = 1_024;

/// Raises the limit as far as it goes, and says what it is then.
pub(super) fn raise() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::debug!(limit, "open files");
            limit
        }
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            USUAL
        }
    }
}

/// Warns where `limit` is less than the targets of `config` may want.
pub(super) fn warn_if_few(limit: u64, config: &Config) {
    let targets = config.targets().count();
    let concurrency = config.targets().map(|target| target.concurrency.max().get()).sum();
    let wanted = u64::try_from(space::open_at_most(targets, concurrency)).unwrap_or(u64::MAX);
    // Connections are kept for a while after their request.
    let wanted = wanted.saturating_mul(2).saturating_add(OTHERS);
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            targets,
            concurrency,
            "natshook may have fewer files open than its targets may want connections: fewer requests are made at a \
             time; raise the hard limit (LimitNOFILE=, ulimits)"
        );
    }
}
