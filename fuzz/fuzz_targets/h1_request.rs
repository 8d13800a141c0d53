//! Any bytes as a request head: no panic, the same outcome however they are split, and an accepted
//! head that is written again is understood the same way.
#![no_main]

use h1::{HeaderList, Limits, RequestHead, encode, parse_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut fields = HeaderList::new();
    let whole = parse_request(bytes, &mut fields, &Limits::DEFAULT);
    let mut kept = HeaderList::new();
    let mut split = Ok(None);
    for end in 0..=bytes.len() {
        split = parse_request(&bytes[..end], &mut kept, &Limits::DEFAULT);
        if split != Ok(None) {
            break;
        }
    }
    assert_eq!(whole, split);
    if let Ok(Some(head)) = whole {
        assert!(*fields == *kept && head.len <= bytes.len());
        again(bytes, &head, &fields);
    }
});

fn again(bytes: &[u8], head: &RequestHead, fields: &HeaderList) {
    let mut out = Vec::new();
    encode::request_line(&mut out, head.method_span.of(bytes), head.target.of(bytes));
    fields.iter().for_each(|h| encode::header(&mut out, h.name(bytes), h.value(bytes)));
    encode::end(&mut out);
    let mut list = HeaderList::new();
    if head.version == h1::Version::Http10 {
        return; // Written as HTTP/1.1, it may lack a Host and may upgrade.
    }
    // Written again it may be a few bytes longer, by the space behind each colon.
    let roomy = Limits { head_bytes: 2 * Limits::HEAD_BYTES, ..Limits::DEFAULT };
    let second = parse_request(&out, &mut list, &roomy)
        .expect("what was accepted is accepted again")
        .expect("the head is whole");
    assert_eq!(second.len, out.len());
    assert_eq!(
        (second.method, second.framing, second.keep_alive, second.form, second.expect_continue),
        (head.method, head.framing, head.keep_alive, head.form, head.expect_continue),
    );
    let host = |h: &RequestHead, buf| h.host.map(|s| s.of(buf).to_vec());
    assert_eq!(host(&second, &out), host(head, bytes));
    let pairs = |list: &HeaderList, buf: &[u8]| {
        list.iter().map(|h| (h.name(buf).to_vec(), h.value(buf).to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&list, &out), pairs(fields, bytes));
}
