//! What the codec costs on its hot paths, in nanoseconds a call: `cargo run --release -p h1 --example
//! cost`. The best of several rounds; for comparing two states of the code on one machine.

use std::hint::black_box;
use std::time::Instant;

use h1::{
    ChunkDecoder, Event, HeaderList, Limits, Method, encode, parse_request, parse_response, target,
};

const SMALL: &[u8] = b"GET /api/v1/items HTTP/1.1\r\nHost: shop.example.test\r\n\r\n";

const BROWSER: &[u8] = b"GET /static/app.3f9c2b.js?v=12 HTTP/1.1\r\nHost: shop.example.test\r\n\
Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/126.0.0.0 Safari/537.36\r\nAccept: */*\r\nReferer: https://shop.example.test/cart\r\n\
Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\
Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark; consent=necessary\r\n\
Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Content-Type: application/json\r\nContent-Length: 1024\r\nETag: \"33a64df5\"\r\n\r\n";

fn main() {
    let mut fields = HeaderList::with_capacity(32);
    for (name, bytes) in [("request, 1 field", SMALL), ("request, browser", BROWSER)] {
        time(name, || {
            let head = parse_request(black_box(bytes), &mut fields, &Limits::DEFAULT);
            assert!(matches!(black_box(head), Ok(Some(_))));
        });
    }
    time("response", || {
        let head = parse_response(black_box(RESPONSE), &mut fields, Method::Get, &Limits::DEFAULT);
        assert!(matches!(black_box(head), Ok(Some(_))));
    });
    let _ = parse_request(BROWSER, &mut fields, &Limits::DEFAULT);
    let mut out = Vec::with_capacity(4096);
    time("head written again, browser", || {
        out.clear();
        encode::request_line(&mut out, b"GET", b"/static/app.3f9c2b.js?v=12");
        for header in fields.iter().filter(|h| !fields.is_hop_by_hop(BROWSER, **h)) {
            encode::header(&mut out, header.name(BROWSER), header.value(BROWSER));
        }
        encode::end(&mut out);
        black_box(&out);
    });
    for (name, path) in
        [("path, normal", "/static/app.3f9c2b.js?v=12"), ("path, escaped", "/a/%2e%2e/b%41/c")]
    {
        time(name, || {
            black_box(target::normalize(black_box(path.as_bytes()), &mut out));
        });
    }
    let mut body = Vec::new();
    (0..16).for_each(|_| encode::chunk(&mut body, &[b'x'; 1000]));
    body.extend_from_slice(encode::LAST_CHUNK);
    time("16 chunks decoded", || {
        let (mut decoder, mut at) = (ChunkDecoder::new(), 0);
        while let Ok(step) = decoder.decode(black_box(&body[at..]), &Limits::DEFAULT) {
            at += step.consumed;
            if step.event == Event::End {
                break;
            }
        }
        assert_eq!(at, body.len());
    });
}

fn time(name: &str, mut call: impl FnMut()) {
    const CALLS: u32 = 200_000;
    let round = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    let best = (0..7).map(|_| round(&mut call)).fold(f64::INFINITY, f64::min);
    println!("{name:<30} {best:>8.1} ns");
}
