//! The key that session tokens are sealed with: made once and kept as hexadecimal digits in `<state>/edge/session-key`,
//! so that sessions outlive the process, and are the same for all that share the folder. What it seals is `edge`'s.

use aws_lc_rs::rand;

use crate::leaf::hex;
use crate::state::{damaged, read, replace};
use crate::{Error, StateFolder};

const BYTES: usize = 32;

/// Shows itself to nobody: it has no `Debug`.
pub struct SessionKey([u8; BYTES]);

impl SessionKey {
    /// Deleting the file makes a new key at the next start, and ends all sessions.
    pub fn open(state: &StateFolder) -> Result<Self, Error> {
        let path = state.subfolder("edge")?.join("session-key");
        let _lock = state.lock()?;
        if let Some(text) = read(&path)? {
            let key = parse(text.trim_end());
            return key
                .map(SessionKey)
                .ok_or_else(|| damaged(&path, "it is not 64 hexadecimal digits"));
        }
        let mut key = [0; BYTES];
        rand::fill(&mut key).expect("a system without randomness made no local CA either");
        replace(&path, (hex(&key) + "\n").as_bytes(), 0o600)?;
        Ok(SessionKey(key))
    }

    pub fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

fn parse(text: &str) -> Option<[u8; BYTES]> {
    let digits: &[u8; 2 * BYTES] = text.as_bytes().try_into().ok()?;
    let mut key = [0; BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn is_made_once_and_for_its_owner_alone() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let state = StateFolder::open(&folder.path().join("state"))?;
        let first = SessionKey::open(&state)?;
        assert_eq!(first.bytes(), SessionKey::open(&state)?.bytes());
        assert_ne!(first.bytes(), &[0; BYTES]);
        let path = state.path().join("edge/session-key");
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        for text in ["", "00", &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            std::fs::write(&path, text)?;
            let error = SessionKey::open(&state).err().ok_or("a damaged key was taken")?;
            assert!(error.to_string().contains("session-key"), "{error}");
        }
        std::fs::remove_file(&path)?;
        assert_ne!(first.bytes(), SessionKey::open(&state)?.bytes());
        Ok(())
    }
}
