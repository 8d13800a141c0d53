//! Any bytes ahead of a connection: no panic, the same outcome however they come, never a byte behind the header, and
//! addresses only of what is written.
#![no_main]

use h1::proxy_header::{ProxyHeader, VERSION1_BYTES, VERSION2_BYTES, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    // The first word that is no `More` is the last.
    let first = (0..=bytes.len()).map(|end| parse(&bytes[..end])).find(|f| *f != ProxyHeader::More);
    assert_eq!(first.unwrap_or(ProxyHeader::More), whole);
    // Nobody has to hold more than this to know.
    if bytes.len() >= VERSION1_BYTES {
        assert_ne!(parse(&bytes[..VERSION1_BYTES]), ProxyHeader::More);
    }
    if let ProxyHeader::Whole { len, ends } = whole {
        assert!(len >= 15 && len <= VERSION2_BYTES);
        if let Some(ends) = ends {
            assert_eq!(ends.client.ip(), ends.client.ip().to_canonical());
            let line = format!("PROXY TCP{} ", if ends.client.is_ipv4() { 4 } else { 6 });
            if bytes.starts_with(line.as_bytes()) {
                assert!(bytes[..len].ends_with(b"\r\n") && len <= VERSION1_BYTES);
            }
        }
        // What follows changes nothing.
        let end = len.min(bytes.len());
        assert_eq!(parse(&bytes[..end]), whole);
    }
});
