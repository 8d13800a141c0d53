//! Counts the system calls of a plain request with `strace`, on the example `bare` in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const ROUNDS: u64 = 1_000;
/// Connections with a request in flight each.
const AT_ONCE: u64 = 50;
/// What is not the requests': ten sweeps a second, memory that grows.
const SLACK: u64 = ROUNDS / 4;

const TRANSFERS: [&str; 4] = ["recvfrom", "sendto", "writev", "sendmsg"];

/// One at a time: four transfers, and a wait for the request and for the answer.
#[test]
fn at_most_six_for_a_plain_request_on_its_own() {
    let Some(calls) = calls_of(ROUNDS, says("fine"), |port, rounds| {
        let mut client = Peer::connect(port);
        (0..rounds).for_each(|_| assert_eq!(client.get("/", "a").1, "fine"));
    }) else {
        return;
    };
    calls.assert_transfers(4 * ROUNDS);
    assert!(calls.all <= 6 * ROUNDS + SLACK, "{}", calls.table);
}

/// Many at a time, as on a busy server: a wait serves many, so that hardly more than the transfers is left.
#[test]
fn at_most_four_for_a_plain_request_among_many() {
    let Some(calls) = calls_of(ROUNDS / AT_ONCE, says("fine"), |port, rounds| {
        let mut clients: Vec<Peer> = (0..AT_ONCE).map(|_| Peer::connect(port)).collect();
        for _ in 0..rounds {
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            for client in &mut clients {
                assert_eq!(client.response().1, "fine");
            }
        }
    }) else {
        return;
    };
    // Where the machine lets only a few requests come together, a wait serves only a few, and connections to the origin
    // are made again: that is no cost of a request.
    calls.assert_transfers(4 * ROUNDS);
    let without_waits = calls.all - calls.waits;
    assert!(without_waits <= 4 * ROUNDS + SLACK, "{}", calls.table);
    assert!(calls.waits <= 2 * ROUNDS, "{}", calls.table);
}

/// A body in chunks that comes together and is larger than the first read takes: one more than a plain one.
#[test]
fn at_most_five_transfers_for_chunks_that_come_together() {
    const CHUNKS: usize = 8;
    let body = format!("800\r\n{}\r\n", "x".repeat(0x800)).repeat(CHUNKS) + "0\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    let serve = move |peer: &mut Peer| {
        while !peer.head().is_empty() {
            peer.send(&answer);
        }
    };
    let Some(calls) = calls_of(ROUNDS, serve, |port, rounds| {
        let mut client = Peer::connect(port);
        for _ in 0..rounds {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.head();
            let body = client.until("\r\n0\r\n\r\n");
            assert_eq!(body.matches('x').count(), CHUNKS * 0x800);
        }
    }) else {
        return;
    };
    calls.assert_transfers(5 * ROUNDS);
}

/// What a server did for a number of requests.
struct Calls {
    transfers: u64,
    /// With those of the first round, whose number depends on when things come.
    transfers_in_all: u64,
    waits: u64,
    /// Whatever they are called.
    all: u64,
    table: String,
}

impl Calls {
    fn assert_transfers(&self, expected: u64) {
        let table = &self.table;
        assert!(
            self.transfers_in_all >= expected,
            "the table is not what it was thought to be:\n{table}"
        );
        assert!(self.transfers <= expected + SLACK, "{table}");
    }
}

/// The system calls of a server with an origin that runs `serve`, while `client` makes so many rounds: beside those of
/// its first round, its connections, its start and its end. None where they cannot be counted.
fn calls_of(
    rounds: u64,
    serve: impl Fn(&mut Peer) + Send + Sync + 'static,
    client: impl Fn(u16, u64),
) -> Option<Calls> {
    let bare = example("bare");
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() || !bare.exists() {
        return skipped(&format!("it needs strace and the example at {}", bare.display()));
    }
    let origin = Origin::start(serve);
    let traced = |rounds| traced(&bare, &origin, |port| client(port, rounds));
    let (Some(one), Some(table)) = (traced(1), traced(1 + rounds)) else {
        return skipped("strace may not trace here");
    };
    let of = |name| counted(&table, name).saturating_sub(counted(&one, name));
    let transfers = TRANSFERS.map(of).iter().sum();
    let transfers_in_all = TRANSFERS.map(|name| counted(&table, name)).iter().sum();
    // No backend is told where clients connected to.
    assert_eq!(counted(&table, "getsockname"), 0, "{table}");
    Some(Calls { transfers, transfers_in_all, waits: of("epoll_wait"), all: of("total"), table })
}

/// What is not counted is not guarded.
fn skipped(why: &str) -> Option<Calls> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// Of a row of the table.
fn counted(table: &str, name: &str) -> u64 {
    let row = table.lines().find(|row| row.split_whitespace().next() == Some(name));
    row.and_then(|row| row.split_whitespace().nth(1)).map_or(0, |calls| calls.parse().unwrap())
}

/// The table of a server's system calls from start to end.
fn traced(bare: &Path, origin: &Origin, client: impl FnOnce(u16)) -> Option<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let port = free_port();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("cutwater-edge-calls-{}-{number}", std::process::id());
    let counts = std::env::temp_dir().join(name);
    let mut server = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&counts)
        .arg(bare)
        .args([port.to_string(), origin.address.to_string(), "1".to_owned()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    if !line.starts_with("serving ") {
        server.wait().unwrap();
        return None;
    }
    client(port);
    drop(server.stdin.take());
    output.read_line(&mut line).unwrap();
    server.wait().unwrap();
    let table = std::fs::read_to_string(&counts).unwrap();
    let _ = std::fs::remove_file(&counts);
    Some(table)
}

/// Examples are built beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}
