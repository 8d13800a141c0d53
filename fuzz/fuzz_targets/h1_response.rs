//! Any bytes as a response head, to each kind of request: no panic, and the same outcome however they
//! are split.
#![no_main]

use h1::{HeaderList, Limits, Method, parse_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for method in [Method::Get, Method::Head, Method::Connect] {
        let mut fields = HeaderList::new();
        let whole = parse_response(bytes, &mut fields, method, &Limits::DEFAULT);
        let mut kept = HeaderList::new();
        let mut split = Ok(None);
        for end in 0..=bytes.len() {
            split = parse_response(&bytes[..end], &mut kept, method, &Limits::DEFAULT);
            if split != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, split);
        if let Ok(Some(head)) = whole {
            assert!(*fields == *kept && head.len <= bytes.len());
            assert!(fields.iter().all(|h| h1::is_token(h.name(bytes))));
            assert!(fields.iter().all(|h| h1::is_field_value(h.value(bytes))));
        }
    }
});
