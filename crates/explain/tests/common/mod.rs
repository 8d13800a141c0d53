//! One folder with everything as it should be, and what probes find there.

#![allow(dead_code)]

use explain::{DnsAnswer, Entry, Evidence, Handshake, PortState, Probed, Question, World, explain};
use manifest::{assemble, read_file};
use model::facts::Locality;
use model::id::ServicePort;
use model::reach::{Unreachable, Unreached};
use model::{HostPattern, Text};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub const NOW: i64 = 1_800_000_000;
pub const DAY: i64 = 86_400;

pub const FOLDER: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  gatewayClassName: any
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - name: https
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: cert}]}
    allowedRoutes: {namespaces: {from: All}}
---
apiVersion: v1
kind: Namespace
metadata: {name: edge, labels: {team: platform}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: gw, namespace: edge}]
  hostnames: [shop.example.test]
  rules:
  - matches: [{path: {value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example.test}}]
  - matches: [{path: {value: /off}}]
    backendRefs: [{name: web, port: 80, weight: 0}]
  - matches: [{path: {value: /web}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shut, namespace: shop}
spec:
  parentRefs: [{name: gw, namespace: edge}]
  hostnames: [shop.example.test]
  rules:
  - matches: [{path: {value: /closed}}]
    backendRefs: [{name: web, port: 80, weight: 1}]
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: closed, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: shut}]
  maintenance: {enabled: true, allow: [10.0.0.0/8]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 9000}]
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]
---
apiVersion: cutwater.dev/v1alpha1
kind: Zone
metadata: {name: zone, namespace: edge}
spec:
  name: example.test
  records: [{name: mail, type: A, values: [192.0.2.25]}]
---
apiVersion: cutwater.dev/v1alpha1
kind: EndpointContract
metadata: {name: shop, namespace: shop}
spec: {hostname: shop.example.test, ownerTeam: storefront}
"#;

/// Everything as it should be.
pub fn healthy() -> Evidence {
    let address: SocketAddr = ([127, 0, 0, 1], 8443).into();
    Evidence {
        dns: Probed::Seen(Ok(DnsAnswer {
            rcode: "NOERROR".into(),
            addresses: vec![address.ip()],
            ttl: 60,
        })),
        ports: Probed::Seen(
            [((false, 80), PortState::Bound(address)), ((false, 443), PortState::Bound(address))]
                .into(),
        ),
        tls: Probed::Seen(Ok(Handshake {
            version: "TLS 1.3".into(),
            names: vec![HostPattern::parse("shop.example.test").expect("a name")],
            issuer: "test".into(),
            not_before: NOW - DAY,
            not_after: NOW + 60 * DAY,
            chain: Ok(()),
        })),
        endpoints: Probed::Seen(endpoints(&[(1, true), (2, true)])),
        names: Probed::Seen(BTreeMap::new()),
        out: BTreeMap::new(),
        failing: BTreeMap::new(),
    }
}

pub type Tried = BTreeMap<(ServicePort, SocketAddr), Result<(), Unreached>>;

pub fn endpoints(answers: &[(u8, bool)]) -> Tried {
    let refused = || Err(Unreachable::NotConnected.because("refused"));
    let answers =
        answers.iter().map(|(at, is_open)| (*at, if *is_open { Ok(()) } else { refused() }));
    tried(answers)
}

/// The third is of the Service that stands in.
pub fn tried(answers: impl Iterator<Item = (u8, Result<(), Unreached>)>) -> Tried {
    let port = |name: &str| ServicePort { namespace: "shop".into(), name: name.into(), port: 80 };
    let service = |last| port(if last == 3 { "standby" } else { "web" });
    answers
        .map(|(last, answer)| ((service(last), ([127, 0, 0, last], 9000).into()), answer))
        .collect()
}

/// One letter a link: ok, Broken, consequence, skipped, unknown.
pub fn states(url: &str, evidence: &Evidence) -> (String, explain::Explanation) {
    states_of(FOLDER, url, evidence)
}

/// What `ask` says of a folder that is served at a place in zone `a`.
pub fn in_world<T>(folder: &str, ask: impl FnOnce(&World) -> T) -> T {
    let (name, text): (Text, Text) = ("a.yaml".into(), folder.into());
    let read = Arc::new(read_file(&name, &text));
    let reading = assemble(&[(name, text, read)]);
    let compiled = compile::compile(&reading.inputs, None);
    let facts = compile::facts(&reading.inputs);
    let router = routing::Router::build(&compiled.snapshot.edge, None);
    let here = Locality { zone: Some("a".into()), node: None };
    let entry = Entry { advertised: vec![[127, 0, 0, 1].into()], port_offset: 8000, here };
    let world = World {
        compiled: &compiled,
        inputs: &reading.inputs,
        mistakes: &reading.diagnostics,
        facts: &facts,
        router: &router,
        entry: &entry,
    };
    ask(&world)
}

pub fn states_of(folder: &str, url: &str, evidence: &Evidence) -> (String, explain::Explanation) {
    let (url, from) = url.split_once(" from ").map_or((url, None), |(url, from)| (url, Some(from)));
    let from = from.map(|from| from.parse().expect("an address"));
    let question = Question::parse(url, "GET").expect("a URL").from(from);
    let explanation = in_world(folder, |world| explain(world, &question, evidence, NOW));
    let letters = explanation.findings.iter().map(|finding| match finding.state {
        explain::State::Ok => 'o',
        explain::State::Broken => 'B',
        explain::State::Consequence => 'c',
        explain::State::Skipped => 's',
        explain::State::Unknown => 'u',
    });
    (letters.collect(), explanation)
}

#[track_caller]
pub fn check(url: &str, change: impl FnOnce(&mut Evidence), expected: &str) {
    let mut evidence = healthy();
    change(&mut evidence);
    let (found, explanation) = states(url, &evidence);
    assert_eq!(found, expected, "{url}\n{:#}", explain::to_json(&explanation));
}

pub const WEB: &str = "https://shop.example.test/web";
