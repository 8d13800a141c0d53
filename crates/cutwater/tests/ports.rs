//! Ports that are taken and become free, and what readiness says at the end.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::instance::{Instance, Plan};

const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn eventually(what: &str, instance: &Instance, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: {}", instance.printed());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A Gateway with these ports, and one route to an endpoint.
fn write(folder: &Path, ports: &[u16], endpoint: u16) {
    let listeners: Vec<String> = ports
        .iter()
        .map(|port| format!("  - {{name: p{port}, port: {port}, protocol: HTTP}}\n"))
        .collect();
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  gatewayClassName: any
  listeners:
{}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: a}}
spec:
  parentRefs: [{{name: gw}}]
  hostnames: [a.test]
  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: {endpoint}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
",
        listeners.concat()
    );
    fs::write(folder.join("a.yaml"), text).expect("the file can be written");
}

#[test]
fn a_port_that_becomes_free_is_bound() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    write(folder.path(), &[80], 1);
    let mut plan = Plan::new(folder.path());
    plan.ports.push(8080);
    let instance = Instance::start(&plan).expect("the instance starts");
    let address = instance.bound(8080);
    let holder = TcpListener::bind(address).expect("the port is free");
    write(folder.path(), &[80, 8080], 1);
    eventually("the fault is said", &instance, || instance.printed().contains("is in use"));
    drop(holder);
    let line = "port 8080 is bound now";
    eventually("the port is bound", &instance, || instance.printed().contains(line));
    TcpStream::connect(address).expect("it listens");
    instance.stop().expect("the instance ends well");
}

#[test]
fn readiness_says_that_it_drains() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let origin = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    write(folder.path(), &[80], origin.local_addr().expect("it is bound").port());
    let instance = Instance::start(&Plan::new(folder.path())).expect("the instance starts");
    let mut client = TcpStream::connect(instance.bound(80)).expect("it listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("the request is sent");
    // The request runs for as long as this is held.
    let upstream = origin.accept().expect("the request comes");
    let process = instance.process_id().to_string();
    let told = Command::new("kill").args(["-TERM", &process]).status().expect("kill runs");
    assert!(told.success());
    eventually("readiness says it", &instance, || {
        instance
            .page("/readyz")
            .is_ok_and(|(status, body)| status == 503 && body.starts_with("draining"))
    });
    drop(upstream);
}
