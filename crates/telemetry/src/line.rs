//! A record of the access log as a line of JSON; its fields are listed in docs/access-log.md.
//!
//! Written once a request, so nothing here allocates or goes through the formatting of the standard library, but for
//! addresses of IPv6. Not here: how lines leave the program (`access`).

use edge::AccessRecord;
use model::ObjectId;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes lines, and keeps the part of the time that most of them share.
#[derive(Default)]
pub struct Lines {
    /// Since 1970: the second that `date` holds; 0 and no text at first.
    second: u64,
    date: Vec<u8>,
}

/// `,"key":`; every field but the first follows another.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

impl Lines {
    /// Appends the record.
    pub fn append(&mut self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(record.started, out);
        out.push(b'"');
        // A connection that is led on as bytes has no request, and so no status.
        let is_request = !record.request_id.is_empty();
        if is_request {
            word(out, key!("requestId"), record.request_id);
        }
        client(out, record);
        word(out, key!("protocol"), record.protocol);
        if is_request {
            word(out, key!("scheme"), record.scheme);
        }
        number(out, key!("port"), u64::from(record.port));
        let request = [
            (key!("method"), record.method),
            (key!("host"), record.host.as_bytes()),
            (key!("path"), record.path),
        ];
        for (key, value) in request.into_iter().filter(|(_, value)| !value.is_empty()) {
            text(out, key, value);
        }
        if is_request {
            number(out, key!("status"), u64::from(record.status));
        }
        outcome(out, record);
        number(out, key!("bytesIn"), record.bytes_in);
        number(out, key!("bytesOut"), record.bytes_out);
        handshake(out, record);
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339, UTC with milliseconds.
    fn time(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.date.is_empty() {
            self.second = since.as_secs();
            self.date = date(self.second).into_bytes();
        }
        out.extend_from_slice(&self.date);
        let millis = since.subsec_millis();
        let digit = |number: u32| b'0' + (number % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(millis / 100),
            digit(millis / 10),
            digit(millis),
            b'Z',
        ]);
    }
}

/// `2026-11-18T11:06:40`
fn date(seconds: u64) -> String {
    let (year, month, day) = edge::civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Who asked, and who passed it on.
fn client(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    match record.told {
        None => address(out, key!("client"), record.client),
        Some(told) => {
            quoted(out, key!("client"), |out| ip(out, told));
            address(out, key!("peer"), record.client);
        }
    }
    if let Some(proxy) = record.proxy {
        address(out, key!("proxy"), proxy);
    }
}

/// What took the request, and how long that was.
fn outcome(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    if let Some(rule) = record.rule {
        quoted(out, key!("route"), |out| object(out, &rule.object));
        number(out, key!("rule"), u64::from(rule.index));
    }
    if let Some(endpoint) = record.endpoint {
        address(out, key!("endpoint"), endpoint);
    }
    if record.attempts > 1 {
        number(out, key!("attempts"), u64::from(record.attempts));
    }
    if let Some(refusal) = record.refusal {
        word(out, key!("refusal"), refusal);
    }
    number(out, key!("totalUs"), micros(record.total));
    if let Some(connect) = record.connect {
        number(out, key!("connectUs"), micros(connect));
    }
    if let Some(first_byte) = record.first_byte {
        number(out, key!("firstByteUs"), micros(first_byte));
    }
}

fn handshake(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    let Some(tls) = record.tls else { return };
    word(out, key!("tlsVersion"), tls.version);
    word(out, key!("tlsCipher"), tls.cipher);
    if let Some(name) = &tls.server_name {
        text(out, key!("tlsServerName"), name.as_bytes());
    }
    if let Some(client) = tls.client() {
        text(out, key!("tlsClientSubject"), client.subject.as_bytes());
        text(out, key!("tlsClientFingerprint"), client.fingerprint.as_bytes());
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    digits(out, value);
}

fn digits(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// One of our own, that needs no escape.
fn word(out: &mut Vec<u8>, key: &[u8], word: &str) {
    debug_assert!(word.bytes().all(is_plain), "{word} would end its line");
    quoted(out, key, |out| out.extend_from_slice(word.as_bytes()));
}

fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    quoted(out, key, |out| escaped(out, value));
}

fn quoted(out: &mut Vec<u8>, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(key);
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// As an id is shown everywhere: `HTTPRoute shop/cart`.
fn object(out: &mut Vec<u8>, id: &ObjectId) {
    escaped(out, id.kind.0.as_bytes());
    out.push(b' ');
    if !id.namespace.is_empty() {
        escaped(out, id.namespace.as_bytes());
        out.push(b'/');
    }
    escaped(out, id.name.as_bytes());
}

fn address(out: &mut Vec<u8>, key: &[u8], address: SocketAddr) {
    quoted(out, key, |out| match address {
        SocketAddr::V4(v4) => {
            ip(out, IpAddr::V4(*v4.ip()));
            out.push(b':');
            digits(out, v4.port());
        }
        SocketAddr::V6(v6) => shown(out, v6),
    });
}

fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let [first, rest @ ..] = v4.octets();
            digits(out, first);
            for octet in rest {
                out.push(b'.');
                digits(out, octet);
            }
        }
        IpAddr::V6(v6) => shown(out, v6),
    }
}

/// Addresses need no escape.
fn shown(out: &mut Vec<u8>, address: impl std::fmt::Display) {
    // Writing into memory does not fail.
    let _ = write!(out, "{address}");
}

/// Bytes that are not ASCII text are escaped as the code point of the same number, so that no byte is lost.
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    // Without a way out at the first that is not plain: the compiler looks at many bytes at once.
    if value.iter().fold(true, |all, byte| all & is_plain(*byte)) {
        return out.extend_from_slice(value);
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ if is_plain(byte) => out.push(byte),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    (0x20..=0x7e).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::Kind;
    use model::id::RuleId;

    pub fn rule() -> RuleId {
        RuleId { object: ObjectId::new(Kind::HTTP_ROUTE, "shop", "cart"), index: 2, name: None }
    }

    pub fn record<'a>(rule: &'a RuleId, path: &'a [u8]) -> AccessRecord<'a> {
        AccessRecord {
            request_id: "0123",
            started: UNIX_EPOCH + Duration::from_millis(1_795_000_000_123),
            client: ([127, 0, 0, 1], 4711).into(),
            told: None,
            proxy: None,
            protocol: "HTTP/1.1",
            scheme: "http",
            port: 80,
            method: b"GET",
            host: "shop.example.test",
            path,
            status: 200,
            rule: Some(rule),
            endpoint: Some(([127, 0, 0, 1], 9001).into()),
            attempts: 1,
            refusal: None,
            total: Duration::from_micros(250),
            connect: None,
            first_byte: Some(Duration::from_micros(200)),
            bytes_in: 0,
            bytes_out: 1024,
            tls: None,
        }
    }

    fn line(record: &AccessRecord<'_>) -> String {
        let mut line = Vec::new();
        Lines::default().append(record, &mut line);
        String::from_utf8(line).expect("the line is ASCII")
    }

    fn parsed(record: &AccessRecord<'_>) -> serde_json::Value {
        serde_json::from_str(&line(record)).expect("the line is JSON")
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_its_bytes() {
        let rule = rule();
        let text = line(&record(&rule, b"/a\"\\\xff\n"));
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("the line is JSON");
        assert_eq!(value["time"], "2026-11-18T11:06:40.123Z");
        assert_eq!(value["path"], "/a\"\\\u{ff}\n");
        assert_eq!(value["route"], "HTTPRoute shop/cart");
        assert_eq!(value["rule"], 2);
        assert_eq!(value["totalUs"], 250);
    }

    #[test]
    fn every_byte_comes_back_as_the_code_point_of_its_number() {
        let rule = rule();
        for byte in 0..=u8::MAX {
            // Alone, and within what is long enough to be looked at many bytes at once.
            let long = [&[b'x'; 40][..], &[byte], &[b'y'; 40]].concat();
            for path in [&[byte][..], &long] {
                let expected: String = path.iter().copied().map(char::from).collect();
                assert_eq!(parsed(&record(&rule, path))["path"], expected.as_str(), "{byte:#x}");
            }
        }
    }

    #[test]
    fn what_is_no_request_has_no_method_host_and_path() {
        let rule = rule();
        let value = parsed(&AccessRecord { method: b"", host: "", ..record(&rule, b"") });
        let absent = ["method", "host", "path"].map(|key| value.get(key).is_none());
        assert_eq!((absent, &value["status"]), ([true; 3], &serde_json::json!(200)));
    }

    #[test]
    fn who_asked_and_who_passed_it_on() {
        let rule = rule();
        let (told, proxy) = (Some([192, 0, 2, 7].into()), Some(([10, 0, 0, 1], 5).into()));
        let value = parsed(&AccessRecord { told, proxy, ..record(&rule, b"/") });
        let found = ["client", "peer", "proxy"].map(|key| value[key].as_str());
        assert_eq!(found, [Some("192.0.2.7"), Some("127.0.0.1:4711"), Some("10.0.0.1:5")]);
    }

    #[test]
    fn ids_and_addresses_are_written_as_they_are_shown() {
        let ids = [("shop", "cart"), ("", "cart")]
            .map(|(namespace, name)| ObjectId::new(Kind::GRPC_ROUTE, namespace, name));
        let addresses = ["255.0.10.1:65535", "0.0.0.0:0", "[2001:db8::1]:443", "[::1%3]:80"];
        for (object, address) in ids.iter().flat_map(|id| addresses.map(|a| (id, a))) {
            let rule = RuleId { object: object.clone(), ..rule() };
            let client: SocketAddr = address.parse().expect("an address");
            let told = Some(client.ip());
            let value = parsed(&AccessRecord { client, told, ..record(&rule, b"/") });
            assert_eq!(value["route"], object.to_string());
            assert_eq!(value["peer"], client.to_string());
            assert_eq!(value["client"], client.ip().to_string());
        }
    }

    #[test]
    fn the_time_is_that_of_each_record() {
        let mut lines = Lines::default();
        let times = [
            (0, "1970-01-01T00:00:00.000Z"),
            (999, "1970-01-01T00:00:00.999Z"),
            (1_795_000_000_007, "2026-11-18T11:06:40.007Z"),
            (1_795_000_000_120, "2026-11-18T11:06:40.120Z"),
            (1_795_000_001_120, "2026-11-18T11:06:41.120Z"),
            // A clock may be set back.
            (1_794_999_999_120, "2026-11-18T11:06:39.120Z"),
        ];
        for (millis, expected) in times {
            let mut text = Vec::new();
            lines.time(UNIX_EPOCH + Duration::from_millis(millis), &mut text);
            assert_eq!(String::from_utf8(text).as_deref(), Ok(expected));
        }
    }
}
