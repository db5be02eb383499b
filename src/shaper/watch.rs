//! What a worker may take for one message, and the thread in it that sees to that: a program cannot be interrupted, so the
//! process ends.

use std::{
    fs, process,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    metrics::process::{cpu_seconds, resident_bytes},
    shape::STACK_BYTES,
};

/// The most CPU time for one message. It is not counted by the clock on the wall: what is slow because the machine is busy
/// does nobody harm.
pub(super) const CPU_MAX: Duration = Duration::from_millis(100);
/// The same by the clock on the wall, where CPU time cannot be told.
const WALL_MAX: Duration = Duration::from_secs(1);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(5);
/// The most memory, beside what the payload takes.
const MEMORY_MAX: u64 = 64 << 20;
/// A byte of JSON can become so many in memory: `[{},{},…]`, as the interpreter holds it, before and after.
const BYTES_PER_PAYLOAD_BYTE: u64 = 64;

/// The exit code of a worker that took too long.
pub(super) const EXIT_TOO_LONG: i32 = 121;
/// The exit code of a worker that took too much memory.
pub(super) const EXIT_TOO_MUCH: i32 = 122;

/// The most memory of a worker whose payloads are at most so long, in bytes.
pub(super) fn memory_max(max_payload_bytes: usize) -> u64 {
    MEMORY_MAX + BYTES_PER_PAYLOAD_BYTE * u64::try_from(max_payload_bytes).unwrap_or(u64::MAX >> 8)
}

/// The thread that watches.
pub(super) struct Watch(Sender<Word>);

enum Word {
    Begun,
    Done,
}

impl Watch {
    /// Watches a process that may take `memory_max` bytes.
    pub(super) fn start(memory_max: u64) -> Self {
        // What the kernel can refuse it refuses at once; where it may not be told, the thread sees it a little later.
        #[cfg(unix)]
        {
            let data_max = memory_max + u64::try_from(STACK_BYTES).unwrap_or(0);
            let _ = rlimit::Resource::DATA.set(data_max, data_max);
            // There are messages in the memory, which belong into no file.
            let _ = rlimit::Resource::CORE.set(0, 0);
        }
        // Where the system itself has no memory left it should end this process, and not natshook.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        let (sender, receiver) = channel();
        thread::spawn(move || watch(&receiver, memory_max));
        Self(sender)
    }

    /// Runs `work`, and ends the process if that takes too much.
    pub(super) fn over<T>(&self, work: impl FnOnce() -> T) -> T {
        let _ = self.0.send(Word::Begun);
        let done = work();
        let _ = self.0.send(Word::Done);
        done
    }
}

fn watch(words: &Receiver<Word>, memory_max: u64) {
    while words.recv().is_ok() {
        let began = (cpu_seconds(), Instant::now());
        while let Err(RecvTimeoutError::Timeout) = words.recv_timeout(TICK) {
            if resident_bytes().is_some_and(|bytes| bytes > memory_max) {
                process::exit(EXIT_TOO_MUCH);
            }
            let too_long = match (began.0, cpu_seconds()) {
                (Some(before), Some(now)) => now - before >= CPU_MAX.as_secs_f64(),
                _ => began.1.elapsed() >= WALL_MAX,
            };
            if too_long {
                process::exit(EXIT_TOO_LONG);
            }
        }
    }
}
