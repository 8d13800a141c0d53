//! The SOA serial of each zone: a fact that must never fall, whatever the folder of manifests does.
//! Kept as lines of `zone serial digest` in `<state>/dns/serials`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::leaf::hex;
use crate::state::{damaged, read, replace};
use crate::{Error, StateFolder};

/// The serials of all zones of a state folder.
#[derive(Clone, Debug)]
pub struct Serials {
    state: StateFolder,
    path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    serial: u32,
    digest: String,
}

impl Serials {
    pub fn open(state: &StateFolder) -> Result<Self, Error> {
        let path = state.subfolder("dns")?.join("serials");
        let serials = Self { state: state.clone(), path };
        parse(&serials.path)?;
        Ok(serials)
    }

    /// The serial of a zone with this content: the one kept while the content stays, the next one
    /// (RFC 1982) once it differs, and the time in seconds for a zone that was never seen.
    pub fn next(&self, zone: &str, content_digest: &[u8], now: SystemTime) -> Result<u32, Error> {
        if zone.is_empty() || zone.chars().any(|letter| letter.is_whitespace() || letter == '#') {
            return Err(Error::Zone { name: zone.to_owned() });
        }
        let _lock = self.state.lock()?;
        let mut entries = parse(&self.path)?;
        let digest = hex(content_digest);
        let serial = match entries.get(zone) {
            Some(kept) if kept.digest == digest => return Ok(kept.serial),
            Some(kept) => risen(kept.serial),
            None => first(now),
        };
        entries.insert(zone.to_owned(), Entry { serial, digest });
        replace(&self.path, text(&entries).as_bytes(), 0o600)?;
        Ok(serial)
    }
}

/// RFC 1982 section 3.1; zero is passed over, since some secondaries take it for "none".
fn risen(serial: u32) -> u32 {
    serial.wrapping_add(1).max(1)
}

fn first(now: SystemTime) -> u32 {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // Serials live in 32 bits and wrap, RFC 1982 section 2.
    ((seconds & u64::from(u32::MAX)) as u32).max(1)
}

fn parse(path: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let text = read(path)?.unwrap_or_default();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            entry(line).ok_or_else(|| {
                damaged(path, format!("line {} is not `zone serial digest`", number + 1))
            })
        })
        .collect()
}

fn entry(line: &str) -> Option<(String, Entry)> {
    let mut parts = line.split(' ');
    let (zone, serial, digest) = (parts.next()?, parts.next()?, parts.next()?);
    if zone.is_empty() || digest.is_empty() || parts.next().is_some() {
        return None;
    }
    Some((zone.to_owned(), Entry { serial: serial.parse().ok()?, digest: digest.to_owned() }))
}

fn text(entries: &BTreeMap<String, Entry>) -> String {
    let head = "# The SOA serial of each zone, and the digest of the content it stands for.\n";
    let lines = entries.iter().map(|(zone, entry)| {
        let Entry { serial, digest } = entry;
        format!("{zone} {serial} {digest}\n")
    });
    std::iter::once(head.to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_rises_and_wraps_past_zero() {
        for (from, to) in [(1, 2), (u32::MAX - 1, u32::MAX), (u32::MAX, 1)] {
            assert_eq!(risen(from), to);
            // Greater in the sense of RFC 1982 section 3.2.
            assert!((to.wrapping_sub(from) as i32) > 0);
        }
    }

    #[test]
    fn lines_are_read_strictly() {
        assert!(entry("a.test 1 ff").is_some());
        for line in ["", "a.test", "a.test 1", "a.test x ff", "a.test 4294967296 ff", "a 1 f f"] {
            assert!(entry(line).is_none(), "{line}");
        }
    }
}
