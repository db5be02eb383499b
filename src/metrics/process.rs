//! What the kernel tells of this process. Linux only; elsewhere, and where /proc is hidden, nothing is known.

use std::fs;

/// The unit in which /proc counts CPU time: the kernel shows programs 100 ticks a second on every architecture
/// that natshook runs on, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time used so far, in seconds.
pub(crate) fn cpu_seconds() -> Option<f64> {
    read_cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The memory that is resident, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    read_resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// proc_pid_stat(5): the second field is the program's name in parentheses and may hold anything; time in user and in
/// kernel mode are the 14th and 15th.
fn read_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / TICKS_PER_SECOND)
}

/// proc_pid_status(5).
fn read_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_whatever_the_program_is_called() {
        let stat = "42 (a ) b 1 2) S 1 42 42 0 -1 4194560 1 2 3 4 150 75 0 0 20 0 5 0 100 1 2";
        assert_eq!(read_cpu_seconds(stat), Some(2.25));
        assert_eq!(read_cpu_seconds("42 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            read_resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(read_resident_bytes("Name:\tx\n"), None);
    }
}
