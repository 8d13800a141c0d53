//! The access log: one JSON object a line, its fields listed in docs/access-log.md.
//!
//! ```text
//! worker ── Sink::record: write the line into the sink's buffer ┐
//!                        every 10 ms: take the buffer of each sink └> writer thread ──> file or standard output
//! ```
//!
//! A worker never waits for the output: when its buffer is full the record is dropped and counted. What the two threads
//! share of a sink is one buffer behind a lock, which the writer holds for as long as it takes to exchange it for an empty
//! one. So a line costs the request its text, and no allocation, no task and, while others come, no wake-up.
//!
//! Not here: what is in a line (`line`).

use crate::line::Lines;
use crate::log_file::LogFile;
use edge::{AccessRecord, Recorder};
use model::limits;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Records, each counted once: when it has left the program, or when it is known that it will not.
#[derive(Debug, Default)]
pub struct Counts {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
}

/// The writer and the sinks that feed it.
pub struct AccessLog {
    /// New sinks. The writer ends when there can be none any more, and those that were are gone.
    sinks: Sender<Pending>,
    /// After `sinks`: it is dropped then, too.
    writer: Waker,
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
        let (sinks, arrivals) = channel();
        let counts = Arc::new(Counts::default());
        let (ends, ended) = sync_channel::<()>(0);
        let writer = Writer {
            arrivals,
            sinks: Vec::new(),
            spare: Text::default(),
            output,
            counts: Arc::clone(&counts),
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            // Dropped with the thread, also when it panics.
            let _ends = ends;
            writer.run();
        })?;
        let writer = Waker(thread.thread().clone());
        Ok(AccessLog { sinks, writer, counts, file: None, ended })
    }

    /// What can be opened anew.
    pub fn file(&self) -> Option<LogFile> {
        self.file.clone()
    }

    /// One a worker.
    pub fn sink(&self) -> Sink {
        let pending = Pending::default();
        // With the writer gone after a panic, what is recorded fills the buffer and is dropped.
        let _ = self.sinks.send(Arc::clone(&pending));
        Sink {
            pending,
            lines: Lines::default(),
            writer: self.writer.0.clone(),
            counts: Arc::clone(&self.counts),
        }
    }

    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Writes what is pending; every sink must be gone before. False when that took longer than `limit`: whoever reads
    /// the output may have stopped, and the writer is left behind with what it holds.
    pub fn finish(self, limit: Duration) -> bool {
        let AccessLog { sinks, writer, ended, .. } = self;
        drop(sinks);
        drop(writer);
        ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
    }
}

/// Wakes the writer when the log is given up.
struct Waker(Thread);

impl Drop for Waker {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// What a sink has that the writer has not taken yet.
type Pending = Arc<Mutex<Text>>;

/// Whole lines.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    records: u64,
}

/// Nothing panics while it is held, and a line that is cut short would harm nothing else.
fn lock(pending: &Mutex<Text>) -> MutexGuard<'_, Text> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long lines are collected. Others follow the first, most of the time: a thread that is woken for each of them costs
/// more than the requests that they are about.
const GATHER: Duration = Duration::from_millis(10);
/// A buffer that a burst made larger is given back.
const KEPT_BYTES: usize = 1 << 20;

struct Writer<W> {
    arrivals: Receiver<Pending>,
    sinks: Vec<Pending>,
    /// Empty; in exchange for what a sink has.
    spare: Text,
    output: W,
    counts: Arc<Counts>,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        loop {
            let is_ending = self.welcome();
            let found = self.write_pending();
            if is_ending && self.sinks.is_empty() {
                return;
            }
            if !found && !is_ending {
                thread::park();
            }
            thread::sleep(GATHER);
        }
    }

    /// Takes in new sinks; true when no more can come.
    fn welcome(&mut self) -> bool {
        loop {
            match self.arrivals.try_recv() {
                Ok(sink) => self.sinks.push(sink),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// True when there was something. Sinks whose worker has ended are let go.
    fn write_pending(&mut self) -> bool {
        let mut found = false;
        let mut sinks = std::mem::take(&mut self.sinks);
        sinks.retain(|sink| {
            // Asked first: what it left behind is taken now.
            let is_gone = Arc::strong_count(sink) == 1;
            std::mem::swap(&mut *lock(sink), &mut self.spare);
            found |= self.spare.records > 0;
            self.write_spare();
            !is_gone
        });
        self.sinks = sinks;
        found
    }

    /// Its records are written together or, on an error, dropped together: some of their bytes may have arrived, and
    /// which nobody can say.
    fn write_spare(&mut self) {
        let Text { bytes, records } = &mut self.spare;
        if *records > 0 {
            let written = self.output.write_all(bytes).and_then(|()| self.output.flush());
            let count = match written {
                Ok(()) => &self.counts.written,
                Err(_) => &self.counts.dropped,
            };
            count.fetch_add(*records, Ordering::Relaxed);
        }
        *records = 0;
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
    }
}

/// A worker's end.
pub struct Sink {
    pending: Pending,
    lines: Lines,
    writer: Thread,
    counts: Arc<Counts>,
}

impl Recorder for Sink {
    fn record(&mut self, record: &AccessRecord<'_>) {
        let mut pending = lock(&self.pending);
        if pending.bytes.len() >= limits::ACCESS_LOG_BYTES {
            drop(pending);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.lines.append(record, &mut pending.bytes);
        pending.records += 1;
        let is_first = pending.records == 1;
        drop(pending);
        if is_first {
            // A system call only where the writer found nothing the last time.
            self.writer.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::tests::{record, rule};

    const PATIENCE: Duration = Duration::from_secs(20);

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
        let mut line = Vec::new();
        Lines::default().append(&record(&rule, b"/"), &mut line);
        // One full buffer may be in the writer's hands already.
        let sent = 2 * limits::ACCESS_LOG_BYTES / line.len() + 2_000;
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

    #[test]
    fn lines_of_a_sink_stay_in_order_and_come_while_it_lives() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let log = AccessLog::start(writer).expect("the thread starts");
        let (mut sinks, rule) = ([log.sink(), log.sink()], rule());
        let mut lines = io::BufRead::lines(io::BufReader::new(&mut reader));
        // The writer has gone to sleep in between, most of the time.
        for round in 0..3 {
            for (number, sink) in sinks.iter_mut().enumerate() {
                for count in 0..20 {
                    sink.record(&record(&rule, format!("/{number}/{round}/{count}").as_bytes()));
                }
            }
            let seen: Vec<String> = lines
                .by_ref()
                .take(40)
                .map(|line| {
                    let line: serde_json::Value =
                        serde_json::from_str(&line.expect("a line")).expect("it is JSON");
                    line["path"].as_str().expect("it has a path").to_owned()
                })
                .collect();
            for number in 0..2 {
                let own: Vec<&String> =
                    seen.iter().filter(|path| path.starts_with(&format!("/{number}/"))).collect();
                let expected: Vec<String> =
                    (0..20).map(|count| format!("/{number}/{round}/{count}")).collect();
                assert_eq!(own, expected.iter().collect::<Vec<_>>());
            }
        }
        drop(sinks);
        assert!(log.finish(PATIENCE), "the writer ends");
    }

    #[test]
    fn the_writer_ends_with_the_log_and_its_sinks_in_any_order() {
        let log = AccessLog::start(io::sink()).expect("the thread starts");
        let sink = log.sink();
        let AccessLog { sinks, writer, ended, .. } = log;
        drop((sinks, writer));
        assert_eq!(ended.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        drop(sink);
        assert_eq!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }
}
