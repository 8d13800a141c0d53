//! Any bytes as a path and as an authority: the normal form is a fixed point below the root, and a
//! second reading of an accepted authority gives the same.
#![no_main]

use h1::{host, target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    let once = target::normalize(bytes, &mut out);
    assert!(once.path == b"*" || once.path.starts_with(b"/"));
    assert!(!once.path.split(|&b| b == b'/').any(|s| s == b"." || s == b".."));
    assert!(!once.path.windows(3).any(|w| w.eq_ignore_ascii_case(b"%2e")));
    let mut again = Vec::new();
    assert_eq!(target::normalize(once.path, &mut again).path, once.path);
    if let Some(authority) = host::parse(bytes) {
        let port = authority.port.map_or(String::new(), |p| format!(":{p}"));
        let written = [authority.host, port.as_bytes()].concat();
        assert_eq!(host::parse(&written), Some(authority));
    }
    if let Ok(url) = target::absolute(bytes) {
        assert!(bytes.ends_with(url.path_and_query));
    }
});
