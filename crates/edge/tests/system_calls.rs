//! Counts the system calls of a plain request with `strace`, on the example `bare` in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const ROUNDS: u64 = 1_000;

#[test]
fn at_most_six_for_a_plain_request() {
    let bare = example("bare");
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() || !bare.exists() {
        eprintln!("skipped: it needs strace and the example at {}", bare.display());
        return;
    }
    let origin = Origin::start(says("fine"));
    let port = free_port();
    let counts = std::env::temp_dir().join(format!("cutwater-edge-calls-{}", std::process::id()));
    let mut server = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&counts)
        .arg(&bare)
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
        eprintln!("skipped: strace may not trace here");
        return;
    }
    let mut client = Peer::connect(port);
    (0..ROUNDS).for_each(|_| assert_eq!(client.get("/", "a").1, "fine"));
    drop((client, server.stdin.take()));
    output.read_line(&mut line).unwrap();
    server.wait().unwrap();
    let table = std::fs::read_to_string(&counts).unwrap();
    let _ = std::fs::remove_file(&counts);
    let of = |name: &str| -> u64 {
        let row = table.lines().find(|row| row.split_whitespace().next() == Some(name));
        row.and_then(|row| row.split_whitespace().nth(1)).map_or(0, |calls| calls.parse().unwrap())
    };
    let transfers = of("recvfrom") + of("sendto") + of("writev") + of("sendmsg");
    // Beside the requests: start, end, and ten sweeps a second.
    let slack = ROUNDS / 4;
    assert!(transfers >= 4 * ROUNDS, "the table is not what it was thought to be:\n{table}");
    assert!(transfers <= 4 * ROUNDS + slack, "{table}");
    let total =
        transfers + of("epoll_wait") + of("epoll_ctl") + of("futex") + of("write") + of("read");
    assert!(total <= 6 * ROUNDS + slack, "{table}");
    // No backend is told where clients connected to.
    assert_eq!(of("getsockname"), 0, "{table}");
}

/// Examples are built beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}
