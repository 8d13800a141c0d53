//! What this machine has too little of: such faults say nothing about the endpoint that was to be reached. And the
//! descriptors: as many as the process may have, and what part of them flows of UDP may take.

use model::limits::WORKER_UDP_FLOWS;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;

/// Descriptors, ports, memory, or room in a datagram. ADDRINUSE is how a bind to any port says that none is left
/// (bind(2)), ADDRNOTAVAIL how a connect does (connect(2)).
const SHORTAGES: [Errno; 7] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::ADDRNOTAVAIL,
    Errno::ADDRINUSE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::MSGSIZE,
];

/// Whether an endpoint was not reached for want of something here.
pub fn is_shortage(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| SHORTAGES.contains(&errno))
}

/// Takes as many descriptors as the system lets the process have (its hard limit).
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Flows of UDP that each of so many workers may have. Any stranger can begin one, and each has a descriptor: three
/// quarters of them are left to what answers.
pub(crate) fn flows(workers: usize) -> usize {
    share(getrlimit(Resource::Nofile).current, workers)
}

fn share(descriptors: Option<u64>, workers: usize) -> usize {
    let descriptors = descriptors.and_then(|all| usize::try_from(all).ok()).unwrap_or(usize::MAX);
    (descriptors / 4 / workers.max(1)).clamp(1, WORKER_UDP_FLOWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        for errno in SHORTAGES {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::TIMEDOUT, Errno::CONNRESET] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        assert!(!is_shortage(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn flows_leave_descriptors_to_others() {
        for (descriptors, workers, expected) in [
            (Some(400), 1, 100),
            (Some(400), 4, 25),
            (Some(1 << 20), 4, WORKER_UDP_FLOWS),
            (None, 2, WORKER_UDP_FLOWS),
            (Some(3), 8, 1),
        ] {
            assert_eq!(share(descriptors, workers), expected, "{descriptors:?} {workers}");
        }
    }
}
