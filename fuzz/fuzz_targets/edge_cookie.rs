//! Any bytes as a Cookie field: no session comes of them, and a real one is found behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| edge::fuzzed::cookie(bytes));
