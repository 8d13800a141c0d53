//! A process that is not our child: one that an instance started in its own place. Held by a descriptor, so that its
//! number is never mistaken for that of a later process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Process {
    pub id: u32,
    descriptor: OwnedFd,
}

impl Process {
    pub fn open(id: u32) -> Result<Self, String> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{id} is no process"))?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| format!("process {id}: {error}"))?;
        Ok(Process { id, descriptor })
    }

    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        pidfd_send_signal(&self.descriptor, signal)
            .map_err(|error| format!("could not signal: {error}"))
    }

    pub fn ends_within(&self, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(ready) => return ready > 0,
                // A signal came: look again.
                Err(_) if Instant::now() < end => {}
                Err(_) => return false,
            }
        }
    }
}
