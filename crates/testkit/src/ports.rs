//! Port offsets for instances that run beside each other: each takes one slot, which a lock file keeps
//! from other test processes until it is dropped.

use std::fs::{File, OpenOptions, create_dir_all};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range that Linux gives to clients (32768 and up), as far as listener ports are small.
const FIRST: u16 = 10_000;
/// No two slots share a port for listeners on 53, 80, 443, 8080 and 8443.
const STRIDE: u16 = 503;
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

/// A port for one server, from a range that is neither a slot's nor given to clients: what the system
/// gives for port 0 may be taken by an outgoing connection before the server binds it.
pub fn free_port() -> Result<u16, String> {
    const FIRST: u32 = 5_000;
    const COUNT: u32 = 4_900;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let next = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + next).map_err(|error| error.to_string())?;
        if is_free(port, 0) {
            return Ok(port);
        }
    }
    Err(format!("no port from {FIRST} on is free"))
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
    fn free_ports_differ() {
        let ports: Vec<u16> = (0..20).map(|_| free_port().unwrap()).collect();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}");
        assert!(ports.iter().all(|port| (5_000..9_900).contains(port)), "{ports:?}");
    }

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
