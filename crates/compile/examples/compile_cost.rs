//! What compiling costs: `cargo run --release -p compile --example compile_cost [ROUTES]`.
//!
//! One Gateway, 100 namespaces, one rule and one host a route, one Service with one endpoint a namespace.

use compile::{Drafts, compile, compile_with};
use manifest::{FileRead, Inputs, assemble, read_file};
use model::Text;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACES: usize = 100;
const ROUNDS: usize = 20;

fn main() {
    let routes = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let shared = file("shared.yaml", shared());
    let before: Vec<_> =
        (0..routes).map(|n| file(&format!("{n:06}.yaml"), route(n, "/"))).collect();
    let inputs = inputs(&shared, &before);
    let mut after = before.clone();
    after[routes / 2] = file(&format!("{:06}.yaml", routes / 2), route(routes / 2, "/changed"));
    let changed = self::inputs(&shared, &after);

    let mut drafts = Drafts::default();
    let first = compile_with(&inputs, None, &mut drafts);
    println!(
        "{routes} routes: {} attachments, {} diagnostics",
        first.snapshot.edge.listeners.iter().map(|l| l.attachments.len()).sum::<usize>(),
        first.diagnostics.len()
    );
    report("compile from nothing", || compile(&inputs, None));
    report("compile, nothing changed", || {
        compile_with(&inputs, Some(&first.snapshot), &mut drafts)
    });
    // To and fro, so that every round has one route to draft.
    let mut turns = [&changed, &inputs].into_iter().cycle();
    report("compile, one route changed", || {
        let turn = turns.next().unwrap_or(&changed);
        compile_with(turn, Some(&first.snapshot), &mut drafts)
    });
    let with_policy: Vec<Inputs> = ["60s", "61s"]
        .map(|period| {
            let mut files = before.clone();
            files.push(file("zz-policy.yaml", policy(period)));
            self::inputs(&shared, &files)
        })
        .into();
    let mut turns = with_policy.iter().cycle();
    report("compile, one policy of one Service changed", || {
        let turn = turns.next().unwrap_or(&inputs);
        compile_with(turn, Some(&first.snapshot), &mut drafts)
    });
    let second = compile(&changed, Some(&first.snapshot));
    report("difference of the two", || compile::difference(&first.snapshot, &second.snapshot));
    println!("{}", compile::difference(&first.snapshot, &second.snapshot));
    let start = Instant::now();
    black_box(compile::facts(&inputs));
    println!("facts: {:.1} ms", milliseconds(start.elapsed()));
}

fn report<T>(what: &str, mut run: impl FnMut() -> T) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let result = black_box(run());
            let taken = start.elapsed();
            drop(result);
            taken
        })
        .collect();
    times.sort();
    println!(
        "{what}: median {:.1} ms, least {:.1} ms",
        milliseconds(times[ROUNDS / 2]),
        milliseconds(times[0])
    );
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

type File = (Text, Text, Arc<FileRead>);

fn file(name: &str, text: String) -> File {
    let (name, text): (Text, Text) = (name.into(), text.into());
    let read = Arc::new(read_file(&name, &text));
    (name, text, read)
}

fn inputs(shared: &File, routes: &[File]) -> Inputs {
    let files: Vec<File> = std::iter::once(shared).chain(routes).cloned().collect();
    let reading = assemble(&files);
    assert!(!reading.holds_back(), "{:?}", reading.diagnostics);
    reading.inputs
}

fn shared() -> String {
    let mut text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: infra}\nspec:\n  gatewayClassName: cutwater\n  listeners:\n  - name: http\n    port: 80\n    protocol: HTTP\n    allowedRoutes:\n      namespaces:\n        from: Selector\n        selector:\n          matchLabels: {edge: 'yes'}\n"
        .to_owned();
    for n in 0..NAMESPACES {
        write!(
            text,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team-{n}, labels: {{edge: 'yes', team: t{n}}}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: team-{n}}}\nspec: {{ports: [{{port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: team-{n}, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{port: 9000}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n"
        )
        .expect("a string takes text");
    }
    text
}

fn route(n: usize, path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{n}, namespace: team-{}}}\nspec:\n  parentRefs: [{{name: main, namespace: infra}}]\n  hostnames: [host-{n}.example.test]\n  rules:\n  - matches:\n    - path: {{value: '{path}'}}\n    backendRefs: [{{name: web, port: 80}}]\n",
        n % NAMESPACES
    )
}

fn policy(slow_start: &str) -> String {
    format!(
        "apiVersion: cutwater.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: web, namespace: team-7}}\nspec:\n  targetRefs: [{{kind: Service, name: web}}]\n  loadBalancing: {{slowStart: {slow_start}}}\n"
    )
}
