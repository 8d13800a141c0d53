//! What processes use, read from /proc: CPU time, memory, descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        self.pids.iter().map(|&pid| cpu_time(pid)).sum()
    }

    /// Resident memory of those that run; `None` when none does.
    pub fn resident_kib(&self) -> Option<u64> {
        self.pids.iter().filter_map(|&pid| resident_kib(pid)).reduce(|sum, kib| sum + kib)
    }

    /// Open descriptors of those that run.
    pub fn descriptors(&self) -> usize {
        let open = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.pids.iter().map(open).sum()
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

/// CPU time of one process so far.
pub fn cpu_time(pid: u32) -> Duration {
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

fn resident_kib(pid: u32) -> Option<u64> {
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

/// The value of a line of /proc that begins with the name.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_counted() {
        let tree = ProcessTree::of(std::process::id());
        let before = tree.cpu_time();
        let end = std::time::Instant::now() + Duration::from_millis(50);
        let mut sum = 0u64;
        while std::time::Instant::now() < end {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(tree.cpu_time() > before + Duration::from_millis(5));
        assert!(tree.resident_kib().is_some_and(|kib| kib > 1024));
        assert!(tree.descriptors() > 2 && !tree.thread_times().is_empty());
    }

    #[test]
    fn children_belong_to_it_and_what_ended_uses_nothing() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let tree = ProcessTree::of(std::process::id());
        assert!(tree.pids.contains(&child.id()));
        let alone = ProcessTree::of(child.id());
        assert!(alone.resident_kib().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((alone.resident_kib(), alone.descriptors()), (None, 0));
    }
}
