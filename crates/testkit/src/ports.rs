//! Port offsets for instances that run beside each other: each takes one slot, which a lock file keeps
//! from other test processes until it is dropped.

use std::fs::{File, OpenOptions, create_dir_all};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the range that Linux gives to clients (32768 and up), as far as listener ports are small.
const FIRST: u16 = 10_000;
const STRIDE: u16 = 500;
const SLOTS: u16 = 40;

/// An offset that nobody else uses while this lives.
#[derive(Debug)]
pub struct Slot {
    pub offset: u16,
    _lock: File,
}

impl Slot {
    /// A slot in which these ports, moved by the offset, are free for TCP and UDP.
    pub fn take(ports: &[u16]) -> Result<Self, String> {
        let folder = std::env::temp_dir().join("cutwater-test-ports");
        create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // Processes begin at different slots, so that they seldom probe the same one.
        let begin = (std::process::id() % u32::from(SLOTS)) as u16;
        for slot in (0..SLOTS).map(|slot| (begin + slot) % SLOTS) {
            let path = folder.join(slot.to_string());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let lock = lock.map_err(|error| format!("{}: {error}", path.display()))?;
            let offset = FIRST + slot * STRIDE;
            if lock.try_lock().is_ok() && ports.iter().all(|port| is_free(*port, offset)) {
                return Ok(Self { offset, _lock: lock });
            }
        }
        Err(format!("no offset from {FIRST} on leaves the ports {ports:?} free"))
    }
}

fn is_free(port: u16, offset: u16) -> bool {
    port.checked_add(offset).is_some_and(|port| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_differ_and_leave_used_ports_alone() {
        let first = Slot::take(&[53, 80]).unwrap();
        let second = Slot::take(&[53, 80]).unwrap();
        assert_ne!(first.offset, second.offset);
        let freed = second.offset;
        drop(second);
        let _busy = UdpSocket::bind((Ipv4Addr::LOCALHOST, freed + 53)).unwrap();
        let third = Slot::take(&[53]).unwrap();
        assert_ne!(third.offset, freed);
        assert!(Slot::take(&[65_535]).is_err());
    }
}
