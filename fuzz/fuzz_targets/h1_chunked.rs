//! Any bytes as a chunked body: no panic, the same data, trailers, end and fault however they are
//! split. The first byte says in what steps they are given.
#![no_main]

use h1::{ChunkDecoder, Event, Limits, Reason};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    trailer_bytes: 100,
    headers: 4,
    chunk_extension_bytes: 20,
    body_extension_bytes: 50,
    ..Limits::DEFAULT
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, bytes.len());
    assert_eq!(whole, decode(bytes, usize::from(step)));
    assert_eq!(whole, decode(bytes, 1));
});

#[derive(Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    used: usize,
    done: bool,
}

fn decode(bytes: &[u8], step: usize) -> Result<Body, Reason> {
    let mut decoder = ChunkDecoder::new();
    let mut body = Body { data: Vec::new(), trailers: Vec::new(), used: 0, done: false };
    let mut end = 0;
    while !body.done && end < bytes.len() {
        end = (end + step.max(1)).min(bytes.len());
        loop {
            let input = &bytes[body.used..end];
            let step = decoder.decode(input, &LIMITS)?;
            body.used += step.consumed;
            match step.event {
                Event::Data(range) => body.data.extend_from_slice(&input[range]),
                Event::More => break,
                Event::End => {
                    body.done = true;
                    break;
                }
            }
        }
    }
    if let Some(trailers) = decoder.trailers() {
        for field in trailers.fields().iter() {
            body.trailers.extend_from_slice(field.name(trailers.bytes()));
            body.trailers.extend_from_slice(field.value(trailers.bytes()));
        }
    }
    Ok(body)
}
