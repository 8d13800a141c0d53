//! The access log: one JSON object a line, its fields listed in docs/access-log.md.
//!
//! ```text
//! worker ── Sink::record: format, try to queue ──> bounded queue ──> writer thread ──> file or standard output
//! ```
//!
//! A worker never waits: when the queue is full the record is dropped and counted.

use crate::log_file::LogFile;
use edge::{AccessRecord, Recorder};
use model::limits;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records, each counted once: when it has left the program, or when it is known that it will not.
#[derive(Debug, Default)]
pub struct Counts {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
}

/// The writer and the sinks that feed it.
pub struct AccessLog {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
    file: Option<LogFile>,
    /// Disconnected once the writer's thread has ended.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Appends to a file.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = LogFile::open(path)?;
        Ok(AccessLog { file: Some(file.clone()), ..AccessLog::start(file)? })
    }

    pub fn to_stdout() -> io::Result<Self> {
        AccessLog::start(io::stdout())
    }

    fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, records) = sync_channel(limits::ACCESS_LOG_QUEUE);
        let counts = Arc::new(Counts::default());
        let writer_counts = Arc::clone(&counts);
        let (ends, ended) = sync_channel::<()>(0);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            // Dropped with the thread, also when it panics.
            let _ends = ends;
            write_all(&records, output, &writer_counts);
        })?;
        Ok(AccessLog { queue, counts, file: None, ended })
    }

    /// What can be opened anew.
    pub fn file(&self) -> Option<LogFile> {
        self.file.clone()
    }

    /// One a worker.
    pub fn sink(&self) -> Sink {
        Sink { queue: self.queue.clone(), counts: Arc::clone(&self.counts) }
    }

    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Writes what is queued; every sink must be gone before. False when that took longer than `limit`: whoever reads
    /// the output may have stopped, and the writer is left behind with what it holds.
    pub fn finish(self, limit: Duration) -> bool {
        drop(self.queue);
        self.ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
    }
}

/// After this time at most a record is handed over.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are handed over at once.
const BATCH_BYTES: usize = 1 << 16;

fn write_all(records: &Receiver<Vec<u8>>, output: impl Write, counts: &Counts) {
    let mut batch = Batch { output, bytes: Vec::with_capacity(BATCH_BYTES), records: 0, counts };
    loop {
        match records.try_recv() {
            Ok(record) => batch.push(&record),
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // Nothing waits: what was collected becomes visible now.
                batch.write();
                match records.recv() {
                    Ok(record) => batch.push(&record),
                    Err(_) => break,
                }
                // Others follow it, most of the time: a thread that is woken for each of them costs more than the
                // requests that they are about.
                std::thread::sleep(GATHER);
            }
        }
    }
    batch.write();
}

/// Whole records on their way out. Its records are written together or, on an error, dropped together: some of their
/// bytes may have arrived, and which nobody can say.
struct Batch<'a, W> {
    output: W,
    bytes: Vec<u8>,
    records: u64,
    counts: &'a Counts,
}

impl<W: Write> Batch<'_, W> {
    fn push(&mut self, record: &[u8]) {
        if self.bytes.len().saturating_add(record.len()) > BATCH_BYTES {
            self.write();
        }
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    fn write(&mut self) {
        if self.records == 0 {
            return;
        }
        let written = self.output.write_all(&self.bytes).and_then(|()| self.output.flush());
        let count = match written {
            Ok(()) => &self.counts.written,
            Err(_) => &self.counts.dropped,
        };
        count.fetch_add(self.records, Ordering::Relaxed);
        self.bytes.clear();
        self.records = 0;
    }
}

/// A worker's end of the queue.
pub struct Sink {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

impl Recorder for Sink {
    fn record(&mut self, record: &AccessRecord<'_>) {
        let mut line = Vec::with_capacity(512);
        format(record, &mut line);
        if self.queue.try_send(line).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Appends the record as a line of JSON.
pub fn format(record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    let mut line = Line { out, is_first: true };
    line.out.push(b'{');
    line.text("time", rfc3339(record.started).as_bytes());
    // A connection that is led on as bytes has no request, and so no status.
    let is_request = !record.request_id.is_empty();
    if is_request {
        line.text("requestId", record.request_id.as_bytes());
    }
    line.client(record);
    line.text("protocol", record.protocol.as_bytes());
    if is_request {
        line.text("scheme", record.scheme.as_bytes());
    }
    line.number("port", u64::from(record.port));
    let request =
        [("method", record.method), ("host", record.host.as_bytes()), ("path", record.path)];
    for (key, value) in request.into_iter().filter(|(_, value)| !value.is_empty()) {
        line.text(key, value);
    }
    if is_request {
        line.number("status", u64::from(record.status));
    }
    if let Some(rule) = record.rule {
        line.text("route", rule.object.to_string().as_bytes());
        line.number("rule", u64::from(rule.index));
    }
    if let Some(endpoint) = record.endpoint {
        line.text("endpoint", endpoint.to_string().as_bytes());
    }
    if record.attempts > 1 {
        line.number("attempts", u64::from(record.attempts));
    }
    if let Some(refusal) = record.refusal {
        line.text("refusal", refusal.as_bytes());
    }
    line.number("totalUs", micros(record.total));
    if let Some(connect) = record.connect {
        line.number("connectUs", micros(connect));
    }
    if let Some(first_byte) = record.first_byte {
        line.number("firstByteUs", micros(first_byte));
    }
    line.number("bytesIn", record.bytes_in);
    line.number("bytesOut", record.bytes_out);
    if let Some(tls) = record.tls {
        line.text("tlsVersion", tls.version.as_bytes());
        line.text("tlsCipher", tls.cipher.as_bytes());
        if let Some(name) = &tls.server_name {
            line.text("tlsServerName", name.as_bytes());
        }
        if let Some(client) = tls.client() {
            line.text("tlsClientSubject", client.subject.as_bytes());
            line.text("tlsClientFingerprint", client.fingerprint.as_bytes());
        }
    }
    line.out.extend_from_slice(b"}\n");
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &str) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Who asked, and who passed it on.
    fn client(&mut self, record: &AccessRecord<'_>) {
        let peer = record.client.to_string();
        match record.told {
            None => self.text("client", peer.as_bytes()),
            Some(client) => {
                self.text("client", client.to_string().as_bytes());
                self.text("peer", peer.as_bytes());
            }
        }
        if let Some(proxy) = record.proxy {
            self.text("proxy", proxy.to_string().as_bytes());
        }
    }

    /// Bytes that are not ASCII text are escaped as the code point of the same number, so that no byte is lost.
    fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        for &byte in value {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                0x20..=0x7e => self.out.push(byte),
                _ => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&digits);
                }
            }
        }
        self.out.push(b'"');
    }
}

/// UTC with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = edge::civil_date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::RuleId;
    use model::{Kind, ObjectId};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn rule() -> RuleId {
        RuleId { object: ObjectId::new(Kind::HTTP_ROUTE, "shop", "cart"), index: 0, name: None }
    }

    fn record<'a>(rule: &'a RuleId, path: &'a [u8]) -> AccessRecord<'a> {
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

    #[test]
    fn a_record_is_one_line_of_json_whatever_its_bytes() {
        let rule = RuleId {
            object: ObjectId::new(Kind::HTTP_ROUTE, "shop", "cart"),
            index: 2,
            name: None,
        };
        let mut line = Vec::new();
        format(&record(&rule, b"/a\"\\\xff\n"), &mut line);
        let text = String::from_utf8(line).expect("the line is ASCII");
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("the line is JSON");
        assert_eq!(value["time"], "2026-11-18T11:06:40.123Z");
        assert_eq!(value["path"], "/a\"\\\u{ff}\n");
        assert_eq!(value["route"], "HTTPRoute shop/cart");
        assert_eq!(value["rule"], 2);
        assert_eq!(value["totalUs"], 250);
    }

    #[test]
    fn what_is_no_request_has_no_method_host_and_path() {
        let rule = rule();
        let mut line = Vec::new();
        format(&AccessRecord { method: b"", host: "", ..record(&rule, b"") }, &mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("the line is JSON");
        let absent = ["method", "host", "path"].map(|key| value.get(key).is_none());
        assert_eq!((absent, &value["status"]), ([true; 3], &serde_json::json!(200)));
    }

    #[test]
    fn who_asked_and_who_passed_it_on() {
        let rule = rule();
        let mut line = Vec::new();
        let (told, proxy) = (Some([192, 0, 2, 7].into()), Some(([10, 0, 0, 1], 5).into()));
        format(&AccessRecord { told, proxy, ..record(&rule, b"/") }, &mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("the line is JSON");
        let found = ["client", "peer", "proxy"].map(|key| value[key].as_str());
        assert_eq!(found, [Some("192.0.2.7"), Some("127.0.0.1:4711"), Some("10.0.0.1:5")]);
    }

    #[test]
    fn everything_that_was_queued_is_written() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("access.log");
        let log = AccessLog::to_file(&path).expect("the file can be made");
        let rule = rule();
        let mut sink = log.sink();
        for _ in 0..100 {
            sink.record(&record(&rule, b"/"));
        }
        drop(sink);
        assert!(log.finish(PATIENCE), "the writer ends");
        assert_eq!(std::fs::read_to_string(&path).expect("the file is there").lines().count(), 100);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        /// Never accepts a byte until it is told to.
        struct Blocked(std::sync::mpsc::Receiver<()>);
        impl Write for Blocked {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, blocked) = std::sync::mpsc::channel();
        let log = AccessLog::start(Blocked(blocked)).expect("the thread starts");
        let rule = rule();
        let mut sink = log.sink();
        let sent = limits::ACCESS_LOG_QUEUE + 2_000;
        for _ in 0..sent {
            sink.record(&record(&rule, b"/"));
        }
        let counts = log.counts();
        assert!(counts.dropped.load(Ordering::Relaxed) > 0);
        drop((sink, release));
        assert!(log.finish(PATIENCE), "the writer ends");
        let (written, dropped) =
            (counts.written.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed));
        assert_eq!(written + dropped, sent as u64);
    }

    #[test]
    fn what_fails_on_its_way_out_is_counted_as_dropped() {
        /// Takes bytes and fails to hand them on, as a full disk does.
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let log = AccessLog::start(Full).expect("the thread starts");
        let counts = log.counts();
        let (mut sink, rule) = (log.sink(), rule());
        for _ in 0..10 {
            sink.record(&record(&rule, b"/"));
        }
        drop(sink);
        assert!(log.finish(PATIENCE), "the writer ends");
        assert_eq!(counts.written.load(Ordering::Relaxed), 0);
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn a_reader_that_stopped_does_not_hold_up_the_end() {
        let (pipe, writer) = io::pipe().expect("a pipe");
        let log = AccessLog::start(writer).expect("the thread starts");
        let (mut sink, rule) = (log.sink(), rule());
        // More than any pipe holds by default.
        let long = vec![b'a'; 1 << 20];
        sink.record(&record(&rule, &long));
        drop(sink);
        let counts = log.counts();
        assert!(!log.finish(Duration::from_millis(50)));
        assert_eq!(counts.written.load(Ordering::Relaxed), 0);
        // With the reader gone the writer that was left behind ends too.
        drop(pipe);
    }
}
