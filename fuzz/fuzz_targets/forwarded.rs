//! Any bytes as what proxies wrote of a client: no panic, nobody is believed who is not, and what a believed proxy adds
//! behind a stranger's words is found whatever these are.
#![no_main]

use h1::forwarded::{address, forwarded, has_whole_quotes, x_forwarded_for};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn is_proxy(address: IpAddr, _: u32) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
}

fuzz_target!(|bytes: &[u8]| {
    let lines = || bytes.split(|b| *b == b'\n').rev();
    let nobody = |_: IpAddr, _: u32| false;
    assert_eq!(x_forwarded_for(PEER, lines(), nobody), PEER);
    let found = forwarded(PEER, lines(), nobody);
    assert_eq!((found.client, found.proto, found.host), (PEER, None, None));
    let client = x_forwarded_for(PEER, lines(), is_proxy);
    assert_eq!(client, client.to_canonical());
    if let Some(address) = address(bytes) {
        assert_eq!(x_forwarded_for(PEER, [bytes].into_iter(), |_, hops| hops < 1), address);
    }
    forwarded(PEER, lines(), is_proxy);

    let list = [bytes, b", 192.0.2.7"].concat();
    assert_eq!(x_forwarded_for(PEER, [&list[..]].into_iter(), is_proxy), CLIENT);
    let list = [bytes, b", for=192.0.2.7;proto=https"].concat();
    let found = forwarded(PEER, [&list[..]].into_iter(), is_proxy);
    assert_eq!((found.client, found.proto), (CLIENT, Some(&b"https"[..])));
    if has_whole_quotes(bytes) {
        assert!(has_whole_quotes(&list));
    }
});
