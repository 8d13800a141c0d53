//! Who used which CPU, read from /proc: the server under test, this process, everybody else; and
//! the description of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The CPU of the load generator with its origin, and the one of the server under test.
#[derive(Clone, Copy)]
pub struct Cpus {
    pub generator: usize,
    pub server: usize,
}

impl Cpus {
    /// The first and the last CPU that this process may use.
    pub fn of_this_machine() -> Result<Cpus> {
        let status = fs::read_to_string("/proc/self/status")?;
        let list = field(&status, "Cpus_allowed_list:").context("no list of allowed CPUs")?;
        let ends: Vec<usize> =
            list.split(['-', ',']).filter_map(|number| number.parse().ok()).collect();
        match (ends.first(), ends.last()) {
            (Some(&generator), Some(&server)) => Ok(Cpus { generator, server }),
            _ => anyhow::bail!("the list of allowed CPUs cannot be read: {list}"),
        }
    }

    pub fn are_two(self) -> bool {
        self.generator != self.server
    }
}

/// A process and its descendants, as they were when it was made.
pub struct ProcessTree {
    pids: Vec<u32>,
}

impl ProcessTree {
    pub fn of(root: u32) -> ProcessTree {
        let parents = parents();
        let mut pids = vec![root];
        let mut next = 0;
        while let Some(&parent) = pids.get(next) {
            pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        ProcessTree { pids }
    }

    /// CPU time of all their threads so far. Work that the kernel does for them in system calls and
    /// in the network interrupts that these raise is part of it.
    pub fn cpu_time(&self) -> Duration {
        self.pids.iter().map(|&pid| process_cpu_time(pid)).sum()
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> Option<f64> {
        let kib: Option<Vec<f64>> = self.pids.iter().map(|&pid| resident_kib(pid)).collect();
        kib.map(|kib| kib.iter().sum::<f64>() / 1024.0)
    }

    /// CPU time of each thread by its name.
    pub fn thread_times(&self) -> BTreeMap<String, Duration> {
        let mut times = BTreeMap::new();
        for task in self.pids.iter().flat_map(|&pid| tasks(pid)) {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            *times.entry(name.trim().to_owned()).or_default() += thread_cpu_time(&task);
        }
        times
    }
}

/// CPU time of this process so far.
pub fn own_cpu_time() -> Duration {
    process_cpu_time(std::process::id())
}

/// Time that all CPUs together worked, and that a hypervisor took from them, so far.
pub struct MachineTime {
    pub busy: Duration,
    pub stolen: Duration,
}

impl MachineTime {
    pub fn now() -> Result<MachineTime> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = field(&stat, "cpu ").context("/proc/stat has no total")?;
        let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal (proc(5)); a tick is 10 ms for readers.
        let of = |indices: &[usize]| {
            let sum = indices.iter().filter_map(|&index| ticks.get(index)).sum::<u64>();
            Duration::from_millis(sum * 10)
        };
        Ok(MachineTime { busy: of(&[0, 1, 2, 5, 6]), stolen: of(&[7]) })
    }
}

/// CPU model, number of CPUs, kernel, date.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {count} CPUs, Linux {}, {}", kernel.trim(), today())
}

/// Load of the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn process_cpu_time(pid: u32) -> Duration {
    tasks(pid).iter().map(|task| thread_cpu_time(task)).sum()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.flatten().map(|task| task.path()).collect()
}

/// Nanoseconds from schedstat where the kernel has it; its first field is the time on a CPU.
fn thread_cpu_time(task: &Path) -> Duration {
    let line = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let time = line.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(time.unwrap_or_default())
}

fn resident_kib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, "VmRSS:")?.trim_end_matches(" kB").parse().ok()
}

/// (pid, parent) of every process.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            Some((pid, field(&status, "PPid:")?.parse().ok()?))
        })
        .collect()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The date, as ISO 8601.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_date(since.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Days since 1970-01-01 as a date of the Gregorian calendar.
fn civil_date(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_year_ends() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(364), (1970, 12, 31));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(11_017), (2000, 3, 1));
        assert_eq!(civil_date(20_778), (2026, 11, 21));
    }

    #[test]
    fn work_of_this_process_is_counted() {
        let tree = ProcessTree::of(std::process::id());
        let before = tree.cpu_time();
        let end = std::time::Instant::now() + Duration::from_millis(50);
        let mut sum = 0u64;
        while std::time::Instant::now() < end {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(tree.cpu_time() > before + Duration::from_millis(5));
        assert!(tree.resident_mib().is_some_and(|mib| mib > 1.0));
        assert!(own_cpu_time() > Duration::ZERO);
    }

    #[test]
    fn the_machine_is_described() {
        assert!(machine().contains("CPUs, Linux "));
        assert!(MachineTime::now().unwrap().busy > Duration::ZERO);
    }
}
