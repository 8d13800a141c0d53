//! Who used which CPU, read from /proc: this process, and everybody; and the description of the machine.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use peers::usage::{self, field};

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

/// CPU time of this process so far.
pub fn own_cpu_time() -> Duration {
    usage::cpu_time(std::process::id())
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
    fn the_machine_is_described() {
        assert!(machine().contains("CPUs, Linux "));
        assert!(MachineTime::now().unwrap().busy > Duration::ZERO);
        assert!(own_cpu_time() > Duration::ZERO);
    }
}
