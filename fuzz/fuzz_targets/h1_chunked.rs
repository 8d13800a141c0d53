//! Any bytes as a chunked body: no panic, the same data, trailers, end and fault however they are
//! split, and as many data where what may be passed on as it stands is passed over. The first byte says in what steps
//! they are given.
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
    for step in [bytes.len(), usize::from(step), 1] {
        let passed = pass(bytes, step);
        assert_eq!(
            whole.as_ref().map(|body| (body.data.len(), body.used, body.done)),
            passed.as_ref().copied()
        );
    }
});

#[derive(Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    used: usize,
    done: bool,
}

/// Bytes of data, bytes that were used, and whether the end was seen.
fn pass(bytes: &[u8], step: usize) -> Result<(usize, usize, bool), Reason> {
    let mut decoder = ChunkDecoder::new();
    let (mut data, mut used, mut end) = (0, 0, 0);
    while end < bytes.len() {
        end = (end + step.max(1)).min(bytes.len());
        loop {
            let input = &bytes[used..end];
            let passed = decoder.pass(input, &LIMITS)?;
            if passed.bytes > 0 {
                (data, used) = (data + passed.data, used + passed.bytes);
                continue;
            }
            let step = decoder.decode(input, &LIMITS)?;
            used += step.consumed;
            match step.event {
                Event::Data(range) => data += range.len(),
                Event::More => break,
                Event::End => return Ok((data, used, true)),
            }
        }
    }
    Ok((data, used, false))
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
