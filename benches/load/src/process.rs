//! What the kernel knows of a process: CPU time used, the memory it holds, and the most that it ever held.

use std::fs;

use anyhow::Context;

/// USER_HZ: the unit of the times in /proc/PID/stat, 100 on every Linux that natshook runs on.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of the whole process so far, in microseconds.
pub(crate) fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The second field is the program's name, which may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(") ").context("unreadable /proc/PID/stat")?;
    let mut times = rest.split(' ').skip(11).map(str::parse::<u64>);
    let user = times.next().context("no utime")??;
    let system = times.next().context("no stime")??;
    Ok((user + system) * 1_000_000 / TICKS_PER_SECOND)
}

/// The peak of the resident set, in bytes.
pub(crate) fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    status(pid, "VmHWM:")
}

/// The resident set, in bytes.
pub(crate) fn memory(pid: u32) -> anyhow::Result<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("unreadable memory")?;
    Ok(kib * 1024)
}

/// The load average over the last minute: tells how quiet the machine was.
pub(crate) fn load_average() -> String {
    let all = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or("?").to_owned()
}
