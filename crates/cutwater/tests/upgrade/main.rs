//! Upgrades of the real binary, under load and with faults.

mod load;

use load::{Load, Targets};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::instance::{Instance, Plan};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Beyond the drain of a process with a slow download.
const PATIENCE: Duration = Duration::from_secs(40);
const OUTSIDE: &str = "outside.example.test";
const ECHO: &str = "echo.example.test";

/// Of the folder.
const PORTS: [u16; 3] = [53, 80, 81];

const FOLDER: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: cutwater}
spec: {controllerName: cutwater.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: shop}
spec:
  gatewayClassName: cutwater
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: second, protocol: HTTP, port: 81}
---
apiVersion: cutwater.dev/v1alpha1
kind: Zone
metadata: {name: example-test, namespace: shop}
spec:
  name: example.test
";

const SERVICE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: shop}
spec:
  parentRefs: [{name: public}]
  hostnames: [NAME.example.test]
  rules:
  - backendRefs: [{name: NAME, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: NAME
  namespace: shop
  labels: {kubernetes.io/service-name: NAME}
addressType: IPv4
ports: [{port: PORT}]
endpoints: [{addresses: [127.0.0.1]}]
";

/// An instance whose program can be replaced, and the origin outside of it.
struct Stage {
    runtime: Runtime,
    root: TempDir,
    instance: Instance,
}

impl Stage {
    fn start(workers: &str) -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let root = tempfile::tempdir().expect("a folder");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback");
        let outside = listener.local_addr().expect("bound").port();
        let options = origin::Options { name: "outside".to_owned() };
        runtime.spawn(origin::serve(listener, options, std::future::pending()));
        let service = |name: &str, port: u16| {
            SERVICE.replace("NAME", name).replace("PORT", &port.to_string())
        };
        let echo = testkit::free_port().expect("a port");
        let folder = FOLDER.to_owned() + &service("outside", outside) + &service("echo", echo);
        fs::create_dir(root.path().join("folder")).expect("a folder");
        fs::write(root.path().join("folder/all.yaml"), folder).expect("written");
        symlink(real(), root.path().join("cutwater")).expect("a link");
        let mut plan = Plan::new(root.path().join("folder"));
        plan.ports = PORTS.to_vec();
        plan.flags = ["--echo", "--workers", workers].map(str::to_owned).to_vec();
        plan.binary = Some(root.path().join("cutwater"));
        let instance = Instance::start(&plan).unwrap_or_else(|error| panic!("{error}"));
        Stage { runtime, root, instance }
    }

    fn targets(&self) -> Targets {
        let bound = |port| self.instance.bound(port);
        Targets { http: bound(80), dns: bound(53), hosts: [OUTSIDE, ECHO] }
    }

    /// What the path that the instance was started from leads to from now on.
    fn replace_program(&self, script: &str) {
        let (new, path) = (self.root.path().join("new"), self.root.path().join("cutwater"));
        write_program(&new, script);
        fs::rename(new, path).expect("renamed");
    }

    fn restore_program(&self) {
        let (new, path) = (self.root.path().join("new"), self.root.path().join("cutwater"));
        symlink(real(), &new).expect("a link");
        fs::rename(new, path).expect("renamed");
    }

    /// Runs the load while something is done, and demands that nothing of it failed.
    fn under_load(&mut self, work: impl FnOnce(&mut Instance, &mut Load)) {
        let targets = self.targets();
        let guard = self.runtime.enter();
        let mut load = Load::start(targets);
        std::thread::sleep(Duration::from_millis(300));
        work(&mut self.instance, &mut load);
        load.await_more(100, PATIENCE);
        drop(guard);
        let tally = self.runtime.block_on(load.stop());
        let failures = tally.failures.lock().expect("no panic");
        let printed = self.instance.printed();
        assert!(
            failures.is_empty(),
            "{} failures: {:#?}\n{printed}",
            failures.len(),
            &failures[..failures.len().min(20)]
        );
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        println!(
            "{} requests on {} connections, {} queries, {} downloads, {} GOAWAYs: none failed",
            count(&tally.requests),
            count(&tally.connections),
            count(&tally.queries),
            count(&tally.downloads),
            count(&tally.goaways),
        );
    }
}

/// By a process of its own: while another test starts one, that has a copy of every descriptor of ours, and a file that
/// is open for writing cannot be run.
fn write_program(path: &Path, script: &str) {
    let text = path.with_extension("text");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("ours");
    let copied = std::process::Command::new("cp").arg("-p").args([&text, path]).status();
    assert!(copied.expect("cp runs").success());
}

fn real() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_cutwater")).to_owned()
}

#[test]
fn no_request_is_lost_by_three_upgrades() {
    const UPGRADES: usize = 3;
    let mut stage = Stage::start("2");
    let mut processes = vec![stage.instance.process_id()];
    stage.under_load(|instance, load| {
        for number in 0..UPGRADES {
            load.download([OUTSIDE, ECHO][number % 2]);
            std::thread::sleep(Duration::from_millis(400));
            instance.upgrade().unwrap_or_else(|error| panic!("{error}\n{}", instance.printed()));
            processes.push(instance.process_id());
        }
    });
    processes.sort_unstable();
    processes.dedup();
    assert_eq!(processes.len(), UPGRADES + 1, "every process is another one");
    stage.instance.await_replaced(PATIENCE).expect("the replaced processes end well");
    let log = stage.instance.access_log();
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("whole lines");
        assert_eq!(record["status"], 200, "{line}");
    }
    stage.instance.stop().expect("the last one ends well");
}

#[test]
fn fewer_and_more_workers_take_every_socket() {
    // Gives the new process another number of workers than the arguments say.
    let with = |workers: u8| {
        format!(
            "for word; do shift; [ \"$last\" = --workers ] && word={workers}; \
             set -- \"$@\" \"$word\"; last=$word; done\nexec {} \"$@\"",
            real().display()
        )
    };
    for (before, after) in [("3", 1), ("1", 3)] {
        let mut stage = Stage::start(before);
        stage.replace_program(&with(after));
        stage.under_load(|instance, _| {
            instance.upgrade().unwrap_or_else(|error| panic!("{error}\n{}", instance.printed()));
        });
        let printed = stage.instance.printed();
        assert!(printed.contains(&format!("{after} of {after} workers")), "{printed}");
        stage.instance.await_replaced(PATIENCE).expect("the first process ends well");
        stage.instance.stop().expect("the second one ends well");
    }
}

#[test]
fn a_new_process_that_cannot_serve_changes_nothing() {
    let mut stage = Stage::start("2");
    let first = stage.instance.process_id();
    let bad = stage.root.path().join("folder/bad.yaml");
    let fails = |stage: &mut Stage, expected: &str| {
        stage.under_load(|instance, _| {
            let error = instance.upgrade().expect_err("it cannot serve");
            assert!(error.contains("exit code 1") && error.contains(expected), "{error}");
            assert_eq!(instance.page("/readyz").expect("an answer").0, 200);
        });
        assert_eq!(stage.instance.process_id(), first);
    };
    stage.replace_program("exit 1");
    fails(&mut stage, "the new process ended before it served: exit status: 1");
    stage.replace_program("exec 0<&-; sleep 0.2; kill -9 $$");
    fails(&mut stage, "signal: 9");
    fs::remove_file(stage.root.path().join("cutwater")).expect("it is there");
    fails(&mut stage, "does not start: No such file or directory");
    symlink(real(), stage.root.path().join("cutwater")).expect("a link");
    fs::write(&bad, "kind: [").expect("written");
    fails(&mut stage, "the new process cannot serve: the folder is held back");
    // Mended, it succeeds.
    fs::remove_file(bad).expect("it is there");
    stage.restore_program();
    stage.under_load(|instance, _| instance.upgrade().expect("it serves"));
    assert_ne!(stage.instance.process_id(), first);
    stage.instance.await_replaced(PATIENCE).expect("the first process ends well");
    stage.instance.stop().expect("the second one ends well");
}

#[test]
fn a_signal_upgrades_and_a_second_instance_is_refused() {
    let stage = &mut Stage::start("1");
    let state = stage.instance.state();
    let second = stage
        .instance
        .run(&[
            "up",
            &stage.root.path().join("folder").display().to_string(),
            "--admin",
            "127.0.0.1:0",
            "--state",
            &state.display().to_string(),
        ])
        .expect("it ends");
    assert_eq!(second.code, 1, "{second:?}");
    let first = stage.instance.process_id();
    let expected = format!("in use by another instance (process {first})");
    assert!(second.stderr.contains(&expected), "{second:?}");
    stage.instance.signal(testkit::Signal::USR2).expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    let signed = || {
        let text = fs::read_to_string(state.join("instance")).unwrap_or_default();
        text.trim().parse::<u32>().ok()
    };
    while signed() == Some(first) {
        assert!(Instant::now() < deadline, "{}", stage.instance.printed());
        std::thread::sleep(Duration::from_millis(10));
    }
    stage.instance.follow(signed().expect("a process")).expect("it runs");
    stage.instance.await_replaced(PATIENCE).expect("the first process ends well");
    assert_eq!(stage.instance.page("/readyz").expect("an answer").0, 200);
    assert!(
        stage
            .instance
            .printed()
            .contains(&format!("upgraded: process {} serves", stage.instance.process_id()))
    );
}

#[test]
fn a_websocket_goes_on_through_an_upgrade() {
    let mut stage = Stage::start("1");
    let mut socket = TcpStream::connect(stage.targets().http).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {ECHO}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stage.instance.upgrade().unwrap_or_else(|error| panic!("{error}"));
    // The message "hi", masked with zeros, comes back without a mask (RFC 6455 section 5.2).
    let mut greet = || {
        socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("sent");
        let mut echoed = [0; 4];
        socket.read_exact(&mut echoed).expect("the tunnel is there");
        assert_eq!(&echoed, b"\x81\x02hi");
    };
    greet();
    // The first process is still there, and keeps nothing that the second one has: where that ends, all of it is free.
    stage.instance.signal(testkit::Signal::TERM).expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    while !is_all_free(&stage.instance) {
        assert!(Instant::now() < deadline, "{}", stage.instance.printed());
        greet();
    }
    drop(socket);
    stage.instance.await_replaced(PATIENCE).expect("the first process ends well");
}

/// Ports and the claim on the state folder.
fn is_all_free(instance: &Instance) -> bool {
    let claim = fs::File::open(instance.state().join("instance")).expect("it is there");
    let addresses = PORTS.map(|port| instance.bound(port)).into_iter().chain([instance.admin()]);
    let mut listeners = addresses.map(std::net::TcpListener::bind);
    listeners.all(|listener| listener.is_ok()) && claim.try_lock().is_ok()
}

#[test]
fn a_new_process_that_hangs_holds_nothing_up() {
    let mut stage = Stage::start("1");
    stage.replace_program("echo hangs; exec sleep 100");
    let admin = stage.instance.admin().to_string();
    let asked = std::process::Command::new(real())
        .args(["upgrade", "--admin", &admin])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut asked = asked.expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    while !stage.instance.printed().contains("hangs") {
        assert!(Instant::now() < deadline, "{}", stage.instance.printed());
        std::thread::sleep(Duration::from_millis(5));
    }
    stage.under_load(|instance, _| {
        let error = instance.upgrade().expect_err("one at a time");
        assert!(error.contains("an upgrade runs already"), "{error}");
    });
    // It is told to end in the middle of it, and ends.
    stage.instance.stop().expect("it ends well");
    assert!(!asked.wait().expect("it ends").success());
}

#[test]
fn the_service_manager_learns_which_process_serves() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let told = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut plan = Plan::new(root.path().join("folder"));
    fs::create_dir(&plan.folder).expect("a folder");
    fs::write(plan.folder.join("all.yaml"), FOLDER).expect("written");
    let program = root.path().join("cutwater");
    write_program(
        &program,
        &format!("NOTIFY_SOCKET={} exec {} \"$@\"", path.display(), real().display()),
    );
    plan.ports = PORTS.to_vec();
    plan.binary = Some(program);
    let mut instance = Instance::start(&plan).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(told(), "READY=1");
    instance.upgrade().unwrap_or_else(|error| panic!("{error}\n{}", instance.printed()));
    // Each from its own process, so in either order.
    let mut both = [told(), told()];
    both.sort();
    assert_eq!(both, [format!("MAINPID={}", instance.process_id()), "READY=1".to_owned()]);
    instance.await_replaced(PATIENCE).expect("the first process ends well");
    instance.stop().expect("the second one ends well");
    assert_eq!(told(), "STOPPING=1");
}
