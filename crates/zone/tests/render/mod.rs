//! A DNS message as text. Panics where the message is not well formed: our own answers always are.

use std::net::{Ipv4Addr, Ipv6Addr};

const RCODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

pub fn render(bytes: &[u8]) -> String {
    let mut message = Message { bytes, at: 12 };
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    assert_eq!(word(2) & 0x8040, 0x8000, "QR is set, Z is clear");
    for _ in 0..word(4) {
        message.name();
        message.at += 4;
    }
    let mut rcode = word(2) & 0xf;
    let mut lines = String::new();
    for (section, count) in [("answer", word(6)), ("authority", word(8)), ("additional", word(10))]
    {
        for _ in 0..count {
            lines.push_str(&format!("\n{section} {}", message.record(&mut rcode)));
        }
    }
    assert_eq!(message.at, bytes.len(), "nothing stands after the last record");
    let mut text = if rcode == 16 { "BADVERS" } else { RCODES[usize::from(rcode)] }.to_owned();
    for (bit, flag) in [
        (0x400, " AA"),
        (0x200, " TC"),
        (0x100, " RD"),
        (0x80, " RA"),
        (0x20, " AD"),
        (0x10, " CD"),
    ] {
        text.push_str(if word(2) & bit != 0 { flag } else { "" });
    }
    text + &lines
}

struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Message<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().expect("N bytes")
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn name(&mut self) -> String {
        let (mut labels, mut at, mut end) = (Vec::new(), self.at, None);
        loop {
            let length = usize::from(self.bytes[at]);
            if length >= 0xc0 {
                end.get_or_insert(at + 2);
                let target = (length & 0x3f) << 8 | usize::from(self.bytes[at + 1]);
                assert!(target < at, "pointers lead backwards");
                at = target;
                continue;
            }
            assert!(length < 64);
            at += 1 + length;
            if length == 0 {
                self.at = end.unwrap_or(at);
                return labels.join(".");
            }
            let label = String::from_utf8(self.bytes[at - length..at].to_vec());
            labels.push(label.expect("labels of the fixture are text"));
        }
    }

    fn text(&mut self, length: usize) -> String {
        self.at += length;
        String::from_utf8(self.bytes[self.at - length..self.at].to_vec()).expect("text")
    }

    fn record(&mut self, rcode: &mut u16) -> String {
        let (owner, kind, class, ttl) = (self.name(), self.u16(), self.u16(), self.u32());
        let length = usize::from(self.u16());
        let end = self.at + length;
        if kind == 41 {
            assert!(owner.is_empty() && length == 0);
            *rcode |= u16::try_from(ttl >> 24).expect("a byte") << 4;
            let dnssec_ok = if ttl & 0x8000 != 0 { " DO" } else { "" };
            assert_eq!(ttl & 0x7fff, 0, "unknown flags are clear");
            return format!("OPT {class} v{}{dnssec_ok}", ttl >> 16 & 0xff);
        }
        assert_eq!(class, 1);
        let data = self.data(kind, end);
        assert_eq!(self.at, end, "the data is as long as it says");
        format!("{owner} {ttl} {data}")
    }

    fn data(&mut self, kind: u16, end: usize) -> String {
        match kind {
            1 => format!("A {}", Ipv4Addr::from(self.take::<4>())),
            28 => format!("AAAA {}", Ipv6Addr::from(self.take::<16>())),
            2 => format!("NS {}", self.name()),
            5 => format!("CNAME {}", self.name()),
            6 => {
                let names = format!("SOA {} {}", self.name(), self.name());
                (0..5).fold(names, |text, _| format!("{text} {}", self.u32()))
            }
            15 => format!("MX {} {}", self.u16(), self.name()),
            16 => self.strings(end),
            33 => format!("SRV {} {} {} {}", self.u16(), self.u16(), self.u16(), self.name()),
            257 => {
                let [flags, length] = self.take();
                let tag = self.text(usize::from(length));
                format!("CAA {flags} {tag} {}", self.text(end - self.at))
            }
            other => panic!("type {other} is not in the fixture"),
        }
    }

    fn strings(&mut self, end: usize) -> String {
        let mut text = "TXT".to_owned();
        while self.at < end {
            let [length] = self.take();
            text.push_str(&format!(" {:?}", self.text(usize::from(length))));
        }
        text
    }
}
