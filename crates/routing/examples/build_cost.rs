//! Time and memory of match tables for 10,000 routes: `cargo run --release -p routing --example build_cost`.

use model::edge::*;
use model::id::{ListenerId, RuleId};
use model::{HostPattern, Kind, Node, ObjectId};
use routing::{Request, Router, Scratch};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUTES: usize = 10_000;
const ROUNDS: u32 = 20;

fn main() {
    let shapes: [(&str, MakeShape); 4] = [
        ("a host each", |n| Shape { host: format!("svc-{n}.example.test"), path: prefix("/api") }),
        ("one host, a path each", |n| Shape {
            host: "example.test".to_owned(),
            path: prefix(&format!("/team-{}/svc-{n}", n % 100)),
        }),
        ("one path each of 8 elements", |n| Shape {
            host: "example.test".to_owned(),
            path: prefix(&format!("/a/b/c/d/e/f/g/svc-{n}")),
        }),
        ("a host and a regular expression each", |n| Shape {
            host: format!("svc-{n}.example.test"),
            path: PathMatch::Regex(format!("/svc-{n}/[a-z]+/[0-9]+(/.*)?").into()),
        }),
    ];
    for (title, shape) in shapes {
        measure(title, shape);
    }
}

/// The host and the path of a route by its number.
type MakeShape = fn(usize) -> Shape;

struct Shape {
    host: String,
    path: PathMatch,
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

fn measure(title: &str, shape: MakeShape) {
    let plan = plan(shape, "GET");
    let changed = changed(&plan, shape);
    let resident = resident_kib();
    let router = Router::build(&plan, None);
    let grown = resident_kib().saturating_sub(resident);
    let rounds = if title.contains("regular") { 1 } else { ROUNDS };
    println!("{ROUTES} routes of one listener, {title}:");
    let fresh = best_of(rounds, || drop(black_box(Router::build(&plan, None))));
    println!("  build, best of {rounds}: {fresh:?} (with dropping it)");
    let rebuild = best_of(rounds, || drop(black_box(Router::build(&changed, Some(&router)))));
    println!("  rebuild after one changed route: {rebuild:?}");
    let reuse = best_of(rounds, || drop(black_box(Router::build(&plan, Some(&router)))));
    println!("  rebuild of an equal listener: {reuse:?}");
    let bytes: usize = router.listeners().map(|table| table.memory_bytes()).sum();
    println!("  tables: {} KiB by count, {grown} KiB more resident", bytes / 1024);
    println!("  a lookup: {:?}", lookup(&router, shape));
}

fn plan(shape: MakeShape, method: &str) -> EdgePlan {
    let attachments = (0..ROUTES).map(|n| attachment(n, shape(n), method)).collect();
    EdgePlan { listeners: vec![Node::new(listener(attachments))], layer4: Vec::new() }
}

fn changed(plan: &EdgePlan, shape: MakeShape) -> EdgePlan {
    let mut attachments = plan.listeners[0].attachments.clone();
    attachments[ROUTES / 2] = attachment(ROUTES / 2, shape(ROUTES / 2), "POST");
    EdgePlan { listeners: vec![Node::new(listener(attachments))], layer4: Vec::new() }
}

fn listener(attachments: Vec<Attachment>) -> Listener {
    let object = ObjectId::new(Kind("Gateway"), "bench", "edge");
    Listener {
        id: ListenerId { object, section: "http".into() },
        port: 80,
        protocol: Protocol::Http,
        host: HostPattern::Any,
        certificates: Vec::new(),
        policy: None,
        unmatched: None,
        attachments,
    }
}

/// One rule with two matches: a path alone, and the same path with a method and a header.
fn attachment(n: usize, shape: Shape, method: &str) -> Attachment {
    let host = HostPattern::parse(&shape.host).expect("the example's hosts are well formed");
    let id = ObjectId::new(Kind::HTTP_ROUTE, "bench", format!("route-{n}"));
    let header = Condition::Header { name: "x-v".into(), value: ValueMatch::Exact("1".into()) };
    let conditions = vec![Condition::Method(method.into()), header];
    let rule = Rule::plain(
        RuleId { object: id.clone(), index: 0, name: None },
        vec![
            Match { path: shape.path.clone(), conditions: Vec::new(), rank: Rank([1, 1, 0, 0, 0]) },
            Match { path: shape.path, conditions, rank: Rank([1, 1, 1, 1, 0]) },
        ],
        Action::Forward(Vec::new()),
    );
    let route = Node::new(Route { id, front_end: FrontEnd::GatewayApi, rules: vec![rule] });
    Attachment { host: host.clone(), original: host, route }
}

fn best_of(rounds: u32, mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..rounds).map(round).min().unwrap_or_default()
}

/// The mean over all routes, in an order that a cache does not foresee.
fn lookup(router: &Router, shape: MakeShape) -> Duration {
    let asked: Vec<(String, String)> = (0..ROUTES)
        .map(|n| shape((n * 7_919) % ROUTES))
        .map(|shape| match shape.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => (shape.host, format!("{path}/x")),
            PathMatch::Regex(path) => (shape.host, path.replace("/[a-z]+/[0-9]+(/.*)?", "/ab/12")),
        })
        .collect();
    let headers = vec![("x-v", "2")];
    let mut scratch = Scratch::default();
    let mut round = || {
        let start = Instant::now();
        for (host, path) in &asked {
            let (method, path) = (&b"GET"[..], path.as_bytes());
            let request = Request { method, path, query: None, headers: &headers };
            let port = router.port(80, Protocol::Http).expect("the plan's port");
            let table = port.listener(host).expect("the plan's listener");
            assert!(black_box(table.take(host, &request, &mut scratch)).is_some());
        }
        start.elapsed()
    };
    round();
    round() / ROUTES as u32
}

/// Resident memory of this process; 0 where the system does not say.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
