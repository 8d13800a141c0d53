//! The access log while its file is renamed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::Signal;
use testkit::instance::{Instance, Plan};

const PATIENCE: Duration = Duration::from_secs(10);
const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: http, port: 80, protocol: HTTP}]
";

#[track_caller]
fn eventually(what: &str, instance: &Instance, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: {}", instance.printed());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn request(instance: &Instance, path: &str) {
    let mut client = TcpStream::connect(instance.bound(80)).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

fn has(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|log| log.contains(text))
}

/// What is in both files together.
fn lines(paths: [&PathBuf; 2]) -> usize {
    paths.map(|path| fs::read_to_string(path).map_or(0, |log| log.lines().count())).iter().sum()
}

#[test]
fn a_renamed_log_is_opened_anew_and_no_line_is_lost_or_written_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join("gw.yaml"), GATEWAY).expect("the file can be written");
    let instance = Instance::start(&Plan::new(folder.path())).expect("the instance starts");
    let log = instance.access_log_path();
    let rotated = log.with_extension("log.1");
    request(&instance, "/one");
    eventually("the first is written", &instance, || has(&log, "/one"));
    fs::rename(&log, &rotated).expect("it is there");
    instance.signal(Signal::USR1).expect("it runs");
    eventually("the path is opened anew", &instance, || log.exists());
    request(&instance, "/two");
    eventually("the second is in the new file", &instance, || has(&log, "/two"));
    assert!(has(&rotated, "/one") && !has(&rotated, "/two"));

    // What cannot be opened is said, and nothing is lost.
    let second = log.with_extension("log.2");
    fs::rename(&log, &second).expect("it is there");
    fs::create_dir(&log).expect("the name is free");
    instance.signal(Signal::USR1).expect("it runs");
    let said = "access.log cannot be opened anew";
    eventually("it is said", &instance, || instance.printed().contains(said));
    request(&instance, "/three");
    eventually("the third is in the old file", &instance, || has(&second, "/three"));
    assert_eq!(lines([&rotated, &second]), 3);
    instance.stop().expect("the instance ends well");
}
