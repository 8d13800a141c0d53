//! What holds for every folder: made from the fixtures by splitting, shuffling, mixing and damaging their documents.

mod support;

use compile::{Change, Compiled, Drafts, compile, compile_with};
use manifest::{FileRead, assemble, read_file};
use model::edge::{Listener, Rule, Target};
use model::traffic::BackendPolicy;
use model::{Diagnostic, Node, Snapshot, Text};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use support::{Files, files, names, read};

static FIXTURES: LazyLock<Vec<Files>> =
    LazyLock::new(|| names().iter().map(|name| files(name)).collect());

fn documents(files: &Files) -> Vec<String> {
    files.iter().flat_map(|(_, text)| text.split("\n---\n").map(str::to_owned)).collect()
}

fn compiled(files: &Files, previous: Option<&Snapshot>) -> Compiled {
    compile(&read(files).inputs, previous)
}

fn in_files(documents: impl IntoIterator<Item = String>) -> Files {
    documents.into_iter().enumerate().map(|(i, text)| (format!("{i:04}.yaml"), text)).collect()
}

/// Without places, which tell files apart.
fn said(compiled: &Compiled) -> Vec<(String, String)> {
    let key =
        |d: &Diagnostic| (format!("{} {:?} {}", d.code, d.object, d.field), d.message.clone());
    let mut said: Vec<_> = compiled.diagnostics.iter().map(key).collect();
    said.sort();
    said
}

/// Every node of a snapshot, by identity.
fn identities(snapshot: &Snapshot) -> Vec<usize> {
    let mut found = vec![
        snapshot.edge.address(),
        snapshot.dns.address(),
        snapshot.certificates.address(),
        snapshot.governance.address(),
    ];
    for listener in &snapshot.edge.listeners {
        found.push(listener.address());
        found.extend(listener.attachments.iter().map(|a| a.route.address()));
    }
    found.extend(policies(snapshot).map(|policy| policy.address()));
    found.extend(snapshot.dns.zones.iter().map(|zone| zone.address()));
    found.extend(snapshot.certificates.certificates.iter().map(|c| c.address()));
    found.extend(snapshot.governance.contracts.iter().map(|c| c.address()));
    found
}

fn policies(snapshot: &Snapshot) -> impl Iterator<Item = &Node<BackendPolicy>> {
    let attachments = snapshot.edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let backends = attachments.flat_map(|a| &a.route.rules).flat_map(Rule::backends);
    backends.flat_map(|backend| {
        let tiers = backend.fallback.iter().flat_map(|fallback| &fallback.tiers);
        tiers.filter_map(|tier| tier.policy.as_ref()).chain(&backend.policy)
    })
}

#[test]
fn what_stands_in_keeps_its_policy_while_the_route_changes() {
    let before = files("edge-policy-fallback");
    let edit = |(name, text): &(String, String)| {
        (name.clone(), text.replacen("value: /web", "value: /new", 1))
    };
    let after: Files = before.iter().map(edit).collect();
    let before = compiled(&before, None).snapshot;
    let after = compiled(&after, Some(&before)).snapshot;
    let addresses =
        |snapshot: &Snapshot| policies(snapshot).map(Node::address).collect::<Vec<usize>>();
    assert!(!before.edge.is(&after.edge));
    assert_eq!(addresses(&before).len(), 3, "with that of a tier");
    assert_eq!(addresses(&before), addresses(&after));
}

#[test]
fn equal_policies_of_backends_are_one_node_and_the_default_is_none() {
    let mut seen = 0;
    for files in FIXTURES.iter() {
        let compiled = compiled(files, None);
        let mut by_digest = BTreeMap::new();
        for policy in policies(&compiled.snapshot) {
            assert_ne!(**policy, BackendPolicy::default());
            let address = *by_digest.entry(policy.digest()).or_insert(policy.address());
            assert_eq!(address, policy.address());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} policies");
}

#[test]
fn the_previous_snapshot_decides_nothing_and_lends_its_nodes() {
    for (index, files) in FIXTURES.iter().enumerate() {
        let alone = compiled(files, None);
        let again = compiled(files, Some(&alone.snapshot));
        assert_eq!(alone, again);
        assert_eq!(identities(&alone.snapshot), identities(&again.snapshot));
        let other = compiled(&FIXTURES[(index + 1) % FIXTURES.len()], None);
        assert_eq!(compiled(files, Some(&other.snapshot)), alone);
        assert!(compile::difference(&alone.snapshot, &again.snapshot).is_empty());
    }
}

#[test]
fn comments_and_moved_lines_change_no_digest() {
    for files in FIXTURES.iter() {
        let moved: Files = files
            .iter()
            .map(|(name, text)| {
                let text = text.replace("\nkind:", "\n# a remark\nkind:");
                (format!("moved-{name}"), format!("# moved\n\n\n{text}"))
            })
            .collect();
        let (before, after) = (compiled(files, None), compiled(&moved, None));
        assert_eq!(before.snapshot, after.snapshot);
        assert_eq!(before.statuses, after.statuses);
        let kept = compiled(&moved, Some(&before.snapshot));
        assert_eq!(identities(&before.snapshot), identities(&kept.snapshot));
    }
}

#[test]
fn what_changes_at_a_listener_below_http_is_told() {
    for (from, to, expected) in [
        (
            "peers: {allow: [192.0.2.0/24]}",
            "peers: {allow: [192.0.2.0/25]}",
            "3 listeners changed: ",
        ),
        (
            "{from: [10.0.0.0/8]}",
            "{from: [10.0.0.0/9]}",
            "listener Gateway db/main listener tcp changed",
        ),
    ] {
        let before = files("layer4-policies");
        let edit = |(name, text): &(String, String)| (name.clone(), text.replacen(from, to, 1));
        let after: Files = before.iter().map(edit).collect();
        let (before, after) = (compiled(&before, None), compiled(&after, None));
        let told = compile::difference(&before.snapshot, &after.snapshot).to_string();
        assert!(told.contains(expected), "{told}");
    }
}

/// Drafts of routes know what they depend on beside their own object.
#[test]
fn a_change_beside_the_routes_reaches_kept_drafts() {
    for (fixture, from, to) in [
        ("edge-policy-levels", "algorithm: RoundRobin", "algorithm: Random"),
        ("edge-policy-levels", "name: main, sectionName: alt", "name: main, sectionName: http"),
        ("edge-policy-levels", "{path: /route}", "{path: /changed}"),
        ("edge-policy-levels", "{attempts: 5}", "{attempts: 6}"),
        ("backend-tls", "hostname: system.test", "hostname: changed.test"),
        (
            "backend-tls",
            "kind: ConfigMap\nmetadata: {name: ca,",
            "kind: ConfigMap\nmetadata: {name: ac,",
        ),
        ("backend-tls", "kind: Secret\nmetadata: {name: ca,", "kind: Secret\nmetadata: {name: ac,"),
        ("service-protocols", "appProtocol: kubernetes.io/h2c", "appProtocol: kubernetes.io/ws"),
        ("service-protocols", "trafficDistribution: PreferClose\n", ""),
        ("edge-policy-fallback", "{connections: 40}", "{connections: 41}"),
        ("edge-policy-fallback", "{name: standby, port: 80}]}", "{name: sorry, port: 8080}]}"),
        ("edge-policy-fallback", "We will be back", "Later"),
        (
            "edge-policy-fallback",
            "targetRefs: [{kind: Gateway, name: main}]",
            "targetRefs: [{kind: HTTPRoute, name: none}]",
        ),
        ("mirrors", "kind: Service, name: granted", "kind: Service, name: secret"),
    ] {
        let texts = |files: &[(String, String)], edit: &dyn Fn(&str) -> String| -> Vec<String> {
            files.iter().flat_map(|(_, text)| text.split("\n---\n").map(edit)).collect()
        };
        let (files, mut drafts) = (files(fixture), Drafts::default());
        let before = texts(&files, &str::to_owned);
        let mut folder: Vec<ReadText> = before.iter().enumerate().map(read_one).collect();
        let first = compile_with(&assemble(&folder).inputs, None, &mut drafts);
        let mut edits = 0;
        for (at, text) in texts(&files, &|text| text.replacen(from, to, 1)).iter().enumerate() {
            if *text != before[at] {
                folder[at] = read_one((at, text));
                edits += 1;
            }
        }
        assert_eq!(edits, 1, "{from} stands in one document of {fixture}");
        let inputs = assemble(&folder).inputs;
        let second = compile_with(&inputs, Some(&first.snapshot), &mut drafts);
        assert_ne!(first.snapshot, second.snapshot, "{from} of {fixture}");
        assert_eq!(second, compile(&inputs, None), "{from} of {fixture}");
    }
}

#[test]
fn a_changed_route_leaves_other_nodes_alone() {
    let files = files("one-bad-object");
    let before = compiled(&files, None);
    let changed: Files = files
        .iter()
        .map(|(name, text)| {
            (name.clone(), text.replacen("hostnames: [a.test]", "hostnames: [z.test]", 1))
        })
        .collect();
    let after = compiled(&changed, Some(&before.snapshot));
    assert_ne!(before.snapshot.digest, after.snapshot.digest);
    assert!(!before.snapshot.edge.is(&after.snapshot.edge));
    assert!(before.snapshot.dns.is(&after.snapshot.dns));
    assert!(before.snapshot.certificates.is(&after.snapshot.certificates));
    let route = |snapshot: &Snapshot, name: &str| {
        snapshot.edge.listeners[0]
            .attachments
            .iter()
            .find(|a| &*a.route.id.name == name)
            .map(|a| a.route.clone())
            .expect("the route is attached")
    };
    assert!(route(&before.snapshot, "bad").is(&route(&after.snapshot, "bad")));
    let difference = compile::difference(&before.snapshot, &after.snapshot).to_string();
    assert_eq!(difference, "host z.test added; host a.test removed");
}

#[test]
fn every_diagnostic_has_a_listed_code_and_an_object() {
    for found in FIXTURES.iter().flat_map(|files| compiled(files, None).diagnostics) {
        let code = compile::codes::ALL.iter().find(|code| code.slug == found.code);
        assert_eq!(code.map(|code| code.severity), Some(found.severity), "{}", found.code);
        assert!(found.object.is_some() && found.place.is_some(), "{found:?}");
    }
}

#[test]
fn codes_are_distinct() {
    let mut slugs: Vec<&str> = compile::codes::ALL.iter().map(|code| code.slug).collect();
    slugs.sort_unstable();
    let count = slugs.len();
    slugs.dedup();
    assert_eq!(slugs.len(), count);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_files_decides_nothing(
        fixture in any::<prop::sample::Index>(),
        keys in prop::collection::vec(any::<u32>(), 32),
    ) {
        let files = fixture.get(&FIXTURES);
        let straight = documents(files);
        let mut order: Vec<usize> = (0..straight.len()).collect();
        order.sort_by_key(|index| keys[index % keys.len()]);
        let shuffled = in_files(order.into_iter().map(|index| straight[index].clone()));
        let (a, b) = (compiled(&in_files(straight), None), compiled(&shuffled, None));
        prop_assert_eq!(&a.snapshot, &b.snapshot);
        prop_assert_eq!(&a.statuses, &b.statuses);
        prop_assert_eq!(said(&a), said(&b));
    }

    /// A folder that is edited file by file, as a folder on disk is: what was read of the other files is kept.
    #[test]
    fn kept_drafts_decide_nothing(
        fixture in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 1..24),
    ) {
        let straight = documents(fixture.get(&FIXTURES));
        let mut folder: Vec<ReadText> = straight.iter().enumerate().map(read_one).collect();
        let mut drafts = Drafts::default();
        let mut previous = compile_with(&assemble(&folder).inputs, None, &mut drafts);
        for (at, edit) in edits {
            let at = at.index(straight.len());
            let text = match edit {
                Edit::Remove => String::new(),
                Edit::Restore => straight[at].clone(),
                Edit::Damage(line, how) => damaged(&straight[at], &line, how),
                Edit::Borrow(from, document) => {
                    document.get(&documents(from.get(&FIXTURES))).clone()
                }
            };
            folder[at] = read_one((at, &text));
            let inputs = assemble(&folder).inputs;
            let next = compile_with(&inputs, Some(&previous.snapshot), &mut drafts);
            prop_assert_eq!(&next, &compile(&inputs, None));
            let difference = compile::difference(&previous.snapshot, &next.snapshot);
            let change = plain_change(&hosts(&previous.snapshot), &hosts(&next.snapshot));
            prop_assert_eq!(&difference.hosts, &change);
            let change = plain_change(&ports(&previous.snapshot), &ports(&next.snapshot));
            prop_assert_eq!(&difference.backends, &change);
            let served = |s: &Snapshot| [s.edge.digest(), s.dns.digest(), s.certificates.digest()];
            prop_assert!(!difference.is_empty() || served(&previous.snapshot) == served(&next.snapshot));
            let kept = identities(&next.snapshot);
            let lent = identities(&compile(&inputs, Some(&previous.snapshot)).snapshot);
            let old = identities(&previous.snapshot);
            let shared = |all: &[usize]| all.iter().filter(|n| old.contains(n)).count();
            prop_assert_eq!(shared(&kept), shared(&lent));
            previous = next;
        }
    }

    /// What leads to a Service by way of a policy: backends, mirrors, what stands in for them, pages, the default backend.
    #[test]
    fn policies_for_tls_of_what_policies_name_reach_kept_drafts(
        edits in prop::collection::vec((0..SERVICES.len(), 0u8..3), 1..12),
    ) {
        let mut folder: Vec<String> = LED.split("\n---\n").map(str::to_owned).collect();
        let first = folder.len();
        folder.resize(first + SERVICES.len(), String::new());
        let mut drafts = Drafts::default();
        let mut read: Vec<ReadText> = folder.iter().enumerate().map(read_one).collect();
        let mut previous = compile_with(&assemble(&read).inputs, None, &mut drafts);
        for (service, how) in edits {
            let (namespace, name) = SERVICES[service];
            let validation = match how {
                0 => "{hostname: good.test, wellKnownCACertificates: System}",
                _ => "{hostname: bad.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: none}]}",
            };
            let policy = format!("apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: {name}}}], validation: {validation}}}");
            let text = if how == 2 { String::new() } else { policy };
            read[first + service] = read_one((first + service, &text));
            let inputs = assemble(&read).inputs;
            let next = compile_with(&inputs, Some(&previous.snapshot), &mut drafts);
            prop_assert_eq!(&next, &compile(&inputs, None));
            previous = next;
        }
    }

    #[test]
    fn damaged_folders_compile(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..6), 0..12),
    ) {
        let mut mixed: Vec<String> = picks
            .iter()
            .map(|(fixture, document)| document.get(&documents(fixture.get(&FIXTURES))).clone())
            .collect();
        for (document, line, how) in damage {
            let index = document.index(mixed.len());
            mixed[index] = damaged(&mixed[index], &line, how);
        }
        let reading = read(&in_files(mixed));
        let first = compile(&reading.inputs, None);
        let facts = compile::facts(&reading.inputs);
        compile::advise(&first.snapshot, &facts, &reading.inputs.origins);
        prop_assert_eq!(&compile(&reading.inputs, Some(&first.snapshot)), &first);
        for found in &first.diagnostics {
            prop_assert!(compile::codes::ALL.iter().any(|code| code.slug == found.code));
        }
    }
}

const SERVICES: [(&str, &str); 6] = [
    ("shop", "web"),
    ("shop", "standby"),
    ("shop", "pages"),
    ("shop", "shadow"),
    ("shop", "rest"),
    ("far", "pages"),
];

const LED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: shop}
spec: {gatewayClassName: cutwater, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: standby, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pages, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: shadow, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: rest, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pages, namespace: far}, spec: {ports: [{port: 80}]}}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: pages, namespace: far}
spec:
  from: [{group: cutwater.dev, kind: EdgePolicy, namespace: shop}]
  to: [{group: '', kind: Service}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec:
  parentRefs: [{name: main}]
  hostnames: [a.test]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: b, namespace: shop}
spec: {parentRefs: [{name: main}], hostnames: [b.test], rules: [{backendRefs: [{name: rest, port: 80}]}]}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: web, namespace: shop}
spec: {targetRefs: [{kind: Service, name: web}], fallback: {backendRefs: [{name: standby, port: 80}, {name: rest, port: 80}]}}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: route, namespace: shop}
spec: {targetRefs: [{kind: HTTPRoute, name: b}], errorPages: [{statuses: [404], service: {name: pages, port: 80}}]}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: gateway, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: main}]
  defaultBackend: {name: rest, port: 80}
  errorPages: [{statuses: [503], service: {name: pages, namespace: far, port: 80}}]
";

/// Hosts with what serves them, written out.
fn hosts(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let mut hosts = BTreeMap::new();
    for listener in &snapshot.edge.listeners {
        let Listener { port, protocol, certificates, policy, unmatched, .. } = &**listener;
        let own = (port, protocol, certificates, policy, unmatched);
        for found in &listener.attachments {
            let parts: &mut String = hosts.entry(found.host.to_string()).or_default();
            parts.push_str(&format!("{own:?} {:?}\n", found.route));
        }
    }
    for listener in snapshot.edge.layer4.iter().filter(|listener| listener.transport.is_tls()) {
        let own = (listener.port, listener.transport, &listener.certificates, &listener.policy);
        for found in &listener.attachments {
            let parts: &mut String = hosts.entry(found.host.to_string()).or_default();
            parts.push_str(&format!("{own:?} {:?}\n", found.route));
        }
    }
    hosts
}

fn ports(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let attachments = snapshot.edge.listeners.iter().flat_map(|l| &l.attachments);
    let mut ports = BTreeMap::new();
    for backend in attachments.flat_map(|a| &a.route.rules).flat_map(Rule::backends) {
        if let Target::Service(port) = &backend.target {
            ports.insert(port.to_string(), String::new());
        }
    }
    let streams = snapshot.edge.layer4.iter().flat_map(|listener| &listener.attachments);
    for port in streams.flat_map(|attachment| attachment.route.ports()) {
        ports.insert(port.to_string(), String::new());
    }
    ports
}

fn plain_change(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Change {
    let differs = |name: &&String| old.get(*name).is_some_and(|before| *before != new[*name]);
    Change {
        added: new.keys().filter(|name| !old.contains_key(*name)).cloned().collect(),
        removed: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        changed: new.keys().filter(differs).cloned().collect(),
    }
}

type ReadText = (Text, Text, Arc<FileRead>);

fn read_one((number, text): (usize, &String)) -> ReadText {
    let (name, text): (Text, Text) = (format!("{number:04}.yaml").into(), text.as_str().into());
    let read = Arc::new(read_file(&name, &text));
    (name, text, read)
}

#[derive(Clone, Debug)]
enum Edit {
    Remove,
    Restore,
    Damage(prop::sample::Index, u8),
    /// A document of another fixture in place of this one.
    Borrow(prop::sample::Index, prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Remove),
        Just(Edit::Restore),
        (any::<prop::sample::Index>(), 0u8..6).prop_map(|(line, how)| Edit::Damage(line, how)),
        any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(from, document)| Edit::Borrow(from, document)),
    ]
}

/// One line removed, doubled, or with another value.
fn damaged(document: &str, line: &prop::sample::Index, how: u8) -> String {
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return String::new();
    }
    let at = line.index(lines.len());
    let value = match how {
        0 => {
            lines.remove(at);
            return lines.join("\n");
        }
        1 => {
            lines.insert(at, lines[at].clone());
            return lines.join("\n");
        }
        2 => "a",
        3 => "443",
        4 => "'*.example.test'",
        _ => "/",
    };
    if let Some((key, _)) = lines[at].clone().split_once(": ") {
        lines[at] = format!("{key}: {value}");
    }
    lines.join("\n")
}
