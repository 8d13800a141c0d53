//! A request of HTTP/2 as one of HTTP/1.1: refused, or exactly one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| edge::fuzzed::http2_to_http1(bytes));
