//! What is printed of a whole snapshot, made from manifests as the program makes it.

use model::{Facts, Snapshot, Text};
use report::serving::{Where, to_text};
use std::net::IpAddr;
use std::sync::Arc;

const PAIR: &str = include_str!("pair.yaml");
const OBJECTS: &str = include_str!("objects.yaml");

struct Made {
    compiled: compile::Compiled,
    facts: Facts,
}

fn made(texts: &[&str]) -> Made {
    let parts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let name: Text = format!("{index}.yaml").into();
            let read = Arc::new(manifest::read_file(&name, text));
            (name, Text::from(*text), read)
        })
        .collect();
    let reading = manifest::assemble(&parts);
    assert_eq!(reading.diagnostics.len(), 0, "{:?}", reading.diagnostics);
    let facts = compile::facts(&reading.inputs);
    Made { compiled: compile::compile(&reading.inputs, None), facts }
}

fn place(bind: &str) -> Where<'static> {
    let bind: IpAddr = bind.parse().expect("an address");
    Where {
        bind,
        port_offset: 8000,
        dns: Some((bind, 8053).into()),
        admin: (bind, 9180).into(),
        ca_file: "/state of it/ca.pem",
    }
}

fn commands(snapshot: &Snapshot, facts: &Facts, place: &Where<'_>) -> String {
    let text = to_text(snapshot, facts, place);
    text.split_once("\ntry\n").map(|(_, lines)| lines.to_owned()).unwrap_or_default()
}

#[test]
fn the_whole_text() {
    let Made { compiled, facts } = made(&[OBJECTS, PAIR]);
    let expected = "  *.wild.test
    http://*.wild.test:8080/
    backends     redirect
    certificate  none
    zone         none
  a.test
    https://a.test:8443/
    backends     shop/web:80 (1 of 2 ready)
    certificate  Secret shop/good, issued by CN=test
    zone         none
  shop.example.test
    http://shop.example.test:8080/  https://shop.example.test:8443/
    backends     shop/web:80 (1 of 2 ready)
    certificate  local CA
    zone         example.test

try
  curl --resolve shop.example.test:8443:127.0.0.1 --cacert '/state of it/ca.pem' https://shop.example.test:8443/
  curl --resolve shop.example.test:8080:127.0.0.1 http://shop.example.test:8080/
  dig @127.0.0.1 -p 8053 shop.example.test
  cutwater explain a.test
";
    assert_eq!(to_text(&compiled.snapshot, &facts, &place("127.0.0.1")), expected);
}

#[test]
fn lines_reach_whatever_was_bound() {
    let Made { compiled, facts } = made(&[OBJECTS, PAIR]);
    let check = |bind: &str, in_curl: &str, in_dig: &str, admin: &str| {
        let lines = commands(&compiled.snapshot, &facts, &place(bind));
        assert!(lines.contains(&format!(":8080:{in_curl} http://")), "{lines}");
        assert!(lines.contains(&format!("dig @{in_dig} -p 8053 ")), "{lines}");
        assert!(lines.ends_with(&format!("cutwater explain a.test{admin}\n")), "{lines}");
    };
    check("0.0.0.0", "127.0.0.1", "127.0.0.1", "");
    check("::", "[::1]", "::1", " --admin [::1]:9180");
    check("2001:db8::7", "[2001:db8::7]", "2001:db8::7", " --admin [2001:db8::7]:9180");
    check("192.0.2.1", "192.0.2.1", "192.0.2.1", " --admin 192.0.2.1:9180");
}

#[test]
fn without_a_local_certificate_a_zone_or_a_route() {
    let gateway_and_pair = OBJECTS.split("\n---\n").filter(|object| {
        ["kind: Gateway\n", "kind: Service\n", "name: signed\n"].iter().any(|p| object.contains(p))
    });
    let signed = gateway_and_pair.collect::<Vec<_>>().join("\n---\n");
    let Made { compiled, facts } = made(&[&signed, PAIR]);
    let expected = "  # no hostname has its certificate from the local CA: this needs an issuer that curl trusts
  curl --resolve a.test:8443:127.0.0.1 https://a.test:8443/
  cutwater explain a.test
";
    assert_eq!(commands(&compiled.snapshot, &facts, &place("127.0.0.1")), expected);
    let nothing = to_text(&Snapshot::default(), &Facts::default(), &place("127.0.0.1"));
    assert_eq!(nothing, "  nothing yet: no route is attached to a listener\n");
}

#[test]
fn the_plan_has_every_section_and_no_key() {
    let Made { compiled, .. } = made(&[OBJECTS, PAIR]);
    let plan = report::plan::to_json(&compiled.snapshot, &compiled.statuses);
    let has = |pointer: &str| {
        let value = plan.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is absent"));
        let is_empty = value
            .as_array()
            .map_or_else(|| value.as_str().is_some_and(str::is_empty), |list| list.is_empty());
        assert!(!is_empty, "{pointer} is empty");
    };
    for pointer in [
        "/digest",
        "/sections/edge",
        "/sections/dns",
        "/sections/certificates",
        "/sections/governance",
        "/edge/listeners",
        "/edge/routes",
        "/dns/zones",
        "/dns/zones/0/sets",
        "/certificates",
        "/governance/contracts",
        "/governance/claims",
        "/governance/teams",
        "/status",
    ] {
        has(pointer);
    }
    assert_eq!(plan["certificates"][0]["secret"], "Secret shop/good");
    let text = plan.to_string();
    let (_, key) = PAIR.split_once("-----BEGIN PRIVATE KEY-----").expect("the pair has a key");
    let lines: Vec<&str> = key.lines().map(str::trim).filter(|line| line.len() > 40).collect();
    assert_eq!(lines.len(), 3, "the key's lines are looked for one by one");
    for line in lines {
        assert!(!text.contains(line), "a line of the key is in the plan");
    }
    assert!(!text.contains("PRIVATE KEY"), "a key is in the plan");
}

const TRAFFIC: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: shop}
spec:
  gatewayClassName: cutwater
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  trafficDistribution: PreferClose
  ports: [{port: 80, appProtocol: kubernetes.io/h2c}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: main}]
  rules:
  - retry: {attempts: 2, codes: [503]}
    sessionPersistence: {sessionName: basket}
    filters:
    - {type: CORS, cors: {allowOrigins: ["https://*.test"]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}, percent: 5}}
    backendRefs: [{name: web, port: 80}]
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  loadBalancing: {algorithm: ConsistentHash, hash: {cookie: basket}}
  healthCheck: {path: /healthz}
  circuitBreaker: {requests: 10}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: clients, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: main}]
  clientAddress: {trustedProxies: [10.0.0.0/9, 10.128.0.0/9], header: Forwarded}
  acceptProxyProtocol: {from: [10.0.0.1, "2001:db8::1"], mode: Optional}
  peers: {allow: [10.0.0.0/8]}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: route, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: web}]
  sources: {deny: [192.0.2.1]}
"#;

#[test]
fn the_plan_shows_what_policies_say() {
    let Made { compiled, .. } = made(&[TRAFFIC]);
    let plan = report::plan::to_json(&compiled.snapshot, &compiled.statuses);
    let rule = &plan["edge"]["routes"][0]["rules"][0];
    for (pointer, expected) in [
        (
            "/sources",
            r#"[{"deny":[{"from":"spec.sources.deny","ranges":1}],"policy":"EdgePolicy shop/route"}]"#,
        ),
        ("/retry", r#"{"attempts":2,"codes":[503]}"#),
        ("/sessionPersistence", r#"{"carrier":"session cookie","name":"basket"}"#),
        ("/cors/allowOrigins", r#"["https://*.test"]"#),
        ("/mirrors/0/share", "[5,100]"),
        ("/mirrors/0/backend/service", r#""shop/web:80""#),
        ("/action/forward/0/policy/protocol", r#""HTTP/2""#),
        ("/action/forward/0/policy/loadBalancing/hash", r#"{"cookie":"basket"}"#),
        ("/action/forward/0/policy/loadBalancing/nearest", "\"Zone\""),
        ("/action/forward/0/policy/healthCheck/probe/path", r#""/healthz""#),
        ("/action/forward/0/policy/circuitBreaker", r#"{"requests":10}"#),
    ] {
        let shown = rule.pointer(pointer).map(ToString::to_string);
        assert_eq!(shown.as_deref(), Some(expected), "{pointer} of {rule}");
    }
    assert_eq!(rule.pointer("/action/forward/0/policy/outlierEjection"), None);
    let clients = &plan["edge"]["listeners"][0]["clients"];
    for (pointer, expected) in [
        ("/clientAddress", r#"{"header":"forwarded","trustedRanges":1}"#),
        ("/acceptProxyProtocol", r#"{"fromRanges":2,"mode":"Optional"}"#),
        (
            "/peers",
            r#"[{"allow":[{"from":"spec.peers.allow","ranges":1}],"policy":"EdgePolicy shop/clients"}]"#,
        ),
    ] {
        let shown = clients.pointer(pointer).map(ToString::to_string);
        assert_eq!(shown.as_deref(), Some(expected), "{pointer} of {clients}");
    }
}

const TWO_INGRESSES: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: any, namespace: shop}
spec:
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: wide, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: own, namespace: shop}
spec:
  rules:
  - host: all.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: own, port: {number: 80}}}}]}
  - host: one.test
    http: {paths: [{path: /only/it, pathType: Exact, backend: {service: {name: own, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: wide, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: own, namespace: shop}
spec: {ports: [{port: 80}]}
";

#[test]
fn backends_that_no_request_of_the_host_comes_to_are_not_its_backends() {
    let Made { compiled, facts } = made(&[TWO_INGRESSES]);
    let text = to_text(&compiled.snapshot, &facts, &place("127.0.0.1"));
    let backends: Vec<&str> = text.lines().filter(|line| line.contains("backends")).collect();
    let (wide, own) = ("shop/wide:80 (0 of 0 ready)", "shop/own:80 (0 of 0 ready)");
    let expected = [
        format!("    backends     {wide}"),
        format!("    backends     {own}"),
        format!("    backends     {own}, {wide}"),
    ];
    assert_eq!(backends, expected, "{text}");
}

#[test]
fn a_path_that_is_routed_is_asked_for() {
    let (_, own) = TWO_INGRESSES.split_once("---\n").expect("two objects");
    let one = own.split("  - host: all.test\n").collect::<Vec<_>>().join("");
    let without_all: String = one
        .lines()
        .filter(|line| !line.contains("path: /,"))
        .map(|line| format!("{line}\n"))
        .collect();
    let Made { compiled, facts } = made(&[&without_all]);
    let expected = "  curl --resolve one.test:8080:127.0.0.1 http://one.test:8080/only/it
  cutwater explain http://one.test/only/it
";
    assert_eq!(commands(&compiled.snapshot, &facts, &place("127.0.0.1")), expected);
}

const STREAMS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: db}
spec:
  gatewayClassName: cutwater
  listeners:
  - {name: tls, port: 443, protocol: TLS, hostname: "*.db.test", tls: {mode: Passthrough}}
  - {name: tcp, port: 5432, protocol: TCP}
  - {name: udp, port: 53, protocol: UDP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: vault, namespace: db}
spec:
  parentRefs: [{name: main}]
  hostnames: [vault.db.test]
  rules: [{backendRefs: [{name: both, port: 53}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: postgres, namespace: db}
spec:
  parentRefs: [{name: main}]
  rules: [{backendRefs: [{name: absent, port: 5432}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: dns, namespace: db}
spec:
  parentRefs: [{name: main}]
  rules: [{backendRefs: [{name: both, port: 53}]}]
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: db}
spec: {ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: both-1, namespace: db, labels: {kubernetes.io/service-name: both}}
addressType: IPv4
ports: [{name: u, port: 1053, protocol: UDP}]
endpoints: [{addresses: [127.0.0.1]}]
"#;

#[test]
fn what_is_led_on_as_bytes_is_shown() {
    let Made { compiled, facts, .. } = made(&[STREAMS]);
    let expected = "  port 8053 (UDP)
    route        UDPRoute db/dns
    backends     db/both:53 (1 of 1 ready)
  vault.db.test port 8443 (TLS, passed through)
    route        TLSRoute db/vault
    backends     db/both:53 (0 of 0 ready)
  port 13432 (TCP)
    route        TCPRoute db/postgres
    backends     none
";
    assert_eq!(to_text(&compiled.snapshot, &facts, &place("127.0.0.1")), expected);
    let plan = report::plan::to_json(&compiled.snapshot, &compiled.statuses);
    let listeners = &plan["edge"]["layer4"];
    assert_eq!(listeners[1]["mode"], "Passthrough");
    assert_eq!(listeners[1]["routes"][0]["host"], "vault.db.test");
    assert_eq!(listeners[2]["routes"][0]["backends"][0]["invalid"], "backend-not-found");
}
