//! Any bytes as the start of a connection to a TLS listener: no panic, the same outcome however they are split, and a
//! name that is one.
#![no_main]

use hello::peek;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = model::limits::CLIENT_HELLO_BYTES;

fuzz_target!(|bytes: &[u8]| {
    let whole = peek(bytes, LIMIT);
    let mut split = Ok(None);
    for end in 0..=bytes.len() {
        split = peek(&bytes[..end], LIMIT);
        if split != Ok(None) {
            break;
        }
    }
    assert_eq!(whole, split);
    if let Ok(Some(hello)) = whole
        && let Some(name) = hello.server_name
    {
        assert!(!name.is_empty() && name.len() <= 253);
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
});
