//! The nine links as a table: one folder, one piece of evidence changed at a time.

mod common;

use common::*;
use explain::{DnsAnswer, Evidence, Handshake, PortState, Probed, Question, wanted};
use model::id::ServicePort;
use model::reach::Unreachable;

fn handshake(evidence: &mut Evidence) -> &mut Handshake {
    match &mut evidence.tls {
        Probed::Seen(Ok(handshake)) => handshake,
        other => panic!("the evidence has a handshake: {other:?}"),
    }
}

#[test]
fn whole_and_without_probes() {
    check(WEB, |_| {}, "ooooooooo");
    check(WEB, |evidence| *evidence = Evidence::default(), "osssosoos");
    check("http://shop.example.test/web", |_| {}, "ooosooooo");
    check("https://shop.example.test:8443/web", |_| {}, "ooooooooo");
}

#[test]
fn one_fault_at_a_time() {
    check("https://shop.exampel.test/web", |_| {}, "Bcscsocss");
    check(WEB, |e| e.dns = Probed::Seen(Err("timed out".into())), "oBcoooooo");
    check(WEB, |e| e.dns = Probed::Unknown("no socket".into()), "ouuoooooo");
    let elsewhere =
        DnsAnswer { rcode: "NOERROR".into(), addresses: vec![[192, 0, 2, 1].into()], ttl: 60 };
    check(WEB, |e| e.dns = Probed::Seen(Ok(elsewhere)), "ooBoooooo");
    check(WEB, |e| e.tls = Probed::Seen(Err("reset".into())), "oooBooooo");
    check(WEB, |e| handshake(e).not_after = NOW - DAY, "oooBooooo");
    check(WEB, |e| handshake(e).not_before = NOW + DAY, "oooBooooo");
    check(WEB, |e| handshake(e).names.clear(), "oooBooooo");
    check(WEB, |e| handshake(e).chain = Err("another CA".into()), "ooooooooo");
    check("https://shop.example.test/nothing", |_| {}, "oooosoBss");
    check(WEB, |e| e.endpoints = Probed::Seen(endpoints(&[(1, false), (2, false)])), "ooooooooB");
    check(WEB, |e| e.endpoints = Probed::Seen(endpoints(&[(1, false), (2, true)])), "ooooooooo");
    // Not every endpoint is probed: those that were decide.
    check(WEB, |e| e.endpoints = Probed::Seen(endpoints(&[(1, false)])), "ooooooooB");
    check(WEB, |e| e.endpoints = Probed::Unknown("too many open files".into()), "oooooooou");
}

#[test]
fn causes_and_consequences() {
    let taken = |e: &mut Evidence| {
        e.ports =
            Probed::Seen([((false, 443), PortState::Failed("port 8443 is in use".into()))].into());
        e.tls = Probed::Seen(Err("the other program answers".into()));
    };
    check(WEB, taken, "ooocoBooo");
    // The port of UDP has its number, and nothing else in common.
    let other_taken = |e: &mut Evidence| {
        let Probed::Seen(ports) = &mut e.ports else { panic!("seen") };
        ports.insert((true, 443), PortState::Failed("UDP port 8443 is in use".into()));
    };
    check(WEB, other_taken, "ooooooooo");
    // A weight of zero holds back; it does not spoil a certificate.
    check("https://shop.example.test/off", |e| handshake(e).not_after = NOW - DAY, "oooBoBoss");
    check("https://shop.example.test/moved", |_| {}, "oooooooss");
    check("https://shop.example.test/closed", |_| {}, "ooooBoooo");
    check(
        "http://mail.example.test/",
        |e| {
            let answer = DnsAnswer {
                rcode: "NOERROR".into(),
                addresses: vec![[192, 0, 2, 25].into()],
                ttl: 60,
            };
            e.dns = Probed::Seen(Ok(answer));
        },
        "ooossssss",
    );
}

#[test]
fn the_list_that_keeps_a_client_out_is_named() {
    let folder = format!(
        "{FOLDER}---\n{}",
        r#"
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: closed, namespace: edge}
spec:
  targetRefs: [{kind: Gateway, name: gw}]
  peers: {allowLists: [{configMap: ranges}]}
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: shop, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: shop}]
  sources: {deny: [192.0.2.66]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ranges, namespace: edge}
data: {cdn: 192.0.2.0/24}
"#
    );
    for (from, expected, detail, object) in [
        (
            "",
            "ooooooooo",
            "some addresses are let in, others are not (EdgePolicy edge/closed, EdgePolicy shop/shop); ask with --from ADDRESS",
            "HTTPRoute shop/shop",
        ),
        (
            " from 192.0.2.1",
            "ooooooooo",
            "192.0.2.1 is let in (EdgePolicy edge/closed, EdgePolicy shop/shop)",
            "HTTPRoute shop/shop",
        ),
        (
            " from 192.0.2.66",
            "ooooBoooo",
            "192.0.2.66 is answered 403: it is kept out by spec.sources.deny (EdgePolicy shop/shop)",
            "EdgePolicy shop/shop",
        ),
        (
            " from 2001:db8::1",
            "ooooBoooo",
            "2001:db8::1 may not connect by itself: it is not in ConfigMap edge/ranges `cdn` (EdgePolicy edge/closed)",
            "EdgePolicy edge/closed",
        ),
    ] {
        let (found, explanation) = states_of(&folder, &format!("{WEB}{from}"), &healthy());
        let finding = &explanation.findings[4];
        assert_eq!((found.as_str(), finding.detail.as_str()), (expected, detail), "{from}");
        assert_eq!(finding.object.as_ref().map(ToString::to_string).as_deref(), Some(object));
        assert!(finding.place.is_some(), "{from}");
    }
}

#[test]
fn owners_follow_the_namespace_of_the_object() {
    let (_, explanation) = states(WEB, &healthy());
    let owners: Vec<Option<&str>> =
        explanation.findings.iter().map(|f| f.owner.as_ref().map(|owner| &*owner.team)).collect();
    assert_eq!(owners[0], Some("storefront"), "the contract's");
    assert_eq!(owners[1], Some("platform"), "the zone's");
    assert_eq!(owners[5], Some("platform"), "the Gateway's");
    assert_eq!(owners[6], Some("storefront"), "the route's");
    assert_eq!(owners[8], Some("storefront"), "the endpoints'");
}

#[test]
fn a_shell_is_asked_for_what_decides() {
    let ask = |url: &str| {
        let question = Question::parse(url, "GET").expect("a URL");
        in_world(FOLDER, |world| wanted(world, &question))
    };
    let web = ask(WEB);
    assert_eq!(web.dns.as_deref(), Some("shop.example.test"));
    assert_eq!(web.tls, Some((443, "shop.example.test".to_owned())));
    assert_eq!(web.endpoints.len(), 2);
    let elsewhere = ask("http://shop.other.test/moved");
    assert_eq!((elsewhere.dns, elsewhere.tls), (None, None));
}

/// The folder with edits, judged without probes.
#[track_caller]
fn edited(edits: &[(&str, &str)], url: &str, expected: &str) -> explain::Explanation {
    let mut folder = FOLDER.to_owned();
    for (from, to) in edits {
        assert!(folder.contains(from), "the folder has no {from:?}");
        folder = folder.replace(from, to);
    }
    let (found, explanation) = states_of(&folder, url, &Evidence::default());
    assert_eq!(found, expected, "{url}\n{:#}", explain::to_json(&explanation));
    explanation
}

fn object(explanation: &explain::Explanation, link: usize) -> String {
    let object = explanation.findings[link - 1].object.as_ref();
    object.map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_mistake_of_reading_is_the_broken_link() {
    let rule = "  - matches: [{path: {value: /web}}]\n";
    let unknown_field = "  - matches: [{path: {value: /web}}]\n    colour: red\n";
    let explanation = edited(&[(rule, unknown_field)], WEB, "osssosBos");
    let finding = &explanation.findings[6];
    assert_eq!(object(&explanation, 7), "HTTPRoute shop/shop");
    assert!(finding.detail.contains("colour"), "{}", finding.detail);
    assert_eq!(finding.place.as_ref().map(|place| place.line), Some(31));
    assert_eq!(finding.owner.as_ref().map(|owner| &*owner.team), Some("storefront"));

    let cases = [
        ("ownerTeam: storefront", "ownerTeem: storefront", "EndpointContract shop/shop", 1),
        ("  name: example.test\n", "  name: example.test\n  tll: 5\n", "Zone edge/zone", 2),
        ("  name: example.test\n", "  name: example.test\n  ttl: sixty\n", "Zone edge/zone", 2),
        ("values: [192.0.2.25]", "values: [here]", "Zone edge/zone", 2),
        ("  gatewayClassName: any\n", "  gatewayClassName: any\n  sort: 1\n", "Gateway edge/gw", 7),
        (
            "spec: {ports: [{port: 80}]}",
            "spec: {ports: [{port: 80, prot: 1}]}",
            "Service shop/web",
            8,
        ),
        ("addressType: IPv4", "addressType: IPv4\nready: true", "EndpointSlice shop/web-1", 9),
    ];
    for (from, to, culprit, link) in cases {
        let (_, explanation) = states_of(&FOLDER.replace(from, to), WEB, &Evidence::default());
        let broken = explanation.broken().map(|link| usize::from(link.number()));
        let shown = format!("{:#}", explain::to_json(&explanation));
        assert_eq!(
            (broken, object(&explanation, link)),
            (Some(link), culprit.to_owned()),
            "{shown}"
        );
    }
}

/// The name is one of a record that was not read.
#[test]
fn a_mistake_of_a_record_is_the_zones() {
    let edits = [("values: [192.0.2.25]", "values: [here]")];
    let explanation = edited(&edits, "http://mail.example.test/", "cBsssscss");
    assert_eq!(object(&explanation, 2), "Zone edge/zone");
}

#[test]
fn a_mistake_elsewhere_leaves_no_link_whole_that_it_may_stand_at() {
    let other = "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: other, namespace: shop}\nspec: {hostnames: [other.test], colour: red}\n";
    let (found, explanation) = states_of(&format!("{FOLDER}{other}"), WEB, &Evidence::default());
    assert_eq!(found, "osssosuos", "{:#}", explain::to_json(&explanation));
    assert_eq!(explanation.broken(), None);
    let is_named = |note: &String| note.contains("HTTPRoute shop/other");
    assert!(explanation.notes.iter().any(is_named), "{:?}", explanation.notes);
    let (found, _) = states_of(&format!("{FOLDER}---\na: [\n"), WEB, &Evidence::default());
    assert_eq!(found, "osssosuos", "text that is no YAML");
}

#[test]
fn the_apex_without_an_address_wants_one() {
    let edits = [(
        "records: [{name: mail,",
        "records: [{name: \"@\", type: TXT, values: [x]}, {name: mail,",
    )];
    for edits in [&edits[..], &[]] {
        let explanation = edited(edits, "http://example.test/", "oBsssssss");
        let finding = &explanation.findings[1];
        assert!(finding.detail.ends_with("holds no address record for it"), "{}", finding.detail);
        assert!(finding.help.contains("type A or AAAA"), "{}", finding.help);
        assert!(!finding.help.contains("NS"), "{}", finding.help);
        assert_eq!(object(&explanation, 2), "Zone edge/zone");
    }
}

#[test]
fn the_entry_is_the_listener_that_takes_the_request() {
    let own = "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: aa, namespace: aa}\nspec:\n  gatewayClassName: any\n  listeners: [{name: http, port: 80, protocol: HTTP, hostname: other.test}]\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: aa, labels: {team: others}}\n";
    let url = "http://shop.example.test/web";
    let (found, explanation) = states_of(&format!("{FOLDER}{own}"), url, &healthy());
    assert_eq!(found, "ooosooooo");
    assert_eq!(object(&explanation, 6), "Gateway edge/gw");
    assert_eq!(explanation.findings[5].owner.as_ref().map(|o| &*o.team), Some("platform"));
    assert_eq!(explanation.findings[5].place.as_ref().map(|place| place.line), Some(8));
}

/// The listener's hostname serves, the route names none; nobody promises the host.
const BY_LISTENER: &[(&str, &str)] = &[
    ("  - {name: http, port: 80,", "  - {name: http, hostname: c.example.test, port: 80,"),
    ("  hostnames: [shop.example.test]\n", ""),
    ("hostname: shop.example.test, ownerTeam", "hostname: no.example.test, ownerTeam"),
    (
        "metadata: {name: edge, labels: {team: platform}}",
        "metadata: {name: edge, labels: {team: platform}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shopkeepers}}",
    ),
];

#[test]
fn a_route_without_hostnames_is_who_serves_the_host() {
    let explanation = edited(BY_LISTENER, "http://c.example.test/web", "osssosoos");
    let detail = &explanation.findings[0].detail;
    assert_eq!(object(&explanation, 1), "HTTPRoute shop/shop", "{detail}");
    let explanation = edited(BY_LISTENER, "http://c.example.test/nothing", "osssssBss");
    assert_eq!(object(&explanation, 7), "HTTPRoute shop/shop");
    assert_eq!(explanation.owner.as_ref().map(|owner| &*owner.team), Some("shopkeepers"));
}

#[test]
fn a_listener_in_conflict_is_the_cause() {
    let conflict = ("    port: 443\n", "    port: 80\n    hostname: d.example.test\n");
    let edits: Vec<_> = BY_LISTENER.iter().copied().chain([conflict]).collect();
    let explanation = edited(&edits, "http://c.example.test/web", "ocssssBss");
    let finding = &explanation.findings[6];
    assert_eq!(object(&explanation, 7), "Gateway edge/gw");
    assert!(finding.detail.contains("speaks another protocol on port 80"), "{}", finding.detail);
    assert!(finding.detail.contains("HTTPRoute shop/shop"), "{}", finding.detail);
    assert_eq!(finding.owner.as_ref().map(|owner| &*owner.team), Some("platform"));
}

#[test]
fn each_fault_is_said_once() {
    let unserved = "filters: [{type: ExtensionRef, extensionRef: {group: a.test, kind: B, name: c}}]\n    backendRefs: [{name: web, port: 80}]\n";
    let edits = [("backendRefs: [{name: web, port: 80}]\n", unserved)];
    let judged = edited(&edits, WEB, "osssosBss");
    assert!(judged.notes.iter().all(|note| !note.contains("ExtensionRef")), "{:?}", judged.notes);
    let beside = edited(&edits, "https://shop.example.test/moved", "osssososs");
    let said: Vec<_> = beside
        .notes
        .iter()
        .filter(|n| {
            n.contains("spec.rules[2]") || n.contains("rule 2") || n.contains("ExtensionRef")
        })
        .collect();
    assert_eq!(said.len(), 1, "{:?}", beside.notes);
}

const STREAMS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  gatewayClassName: any
  listeners:
  - {name: pass, port: 443, protocol: TLS, hostname: "*.db.test", tls: {mode: Passthrough}}
  - {name: tcp, port: 5432, protocol: TCP}
  - {name: udp, port: 53, protocol: UDP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: vault, namespace: edge}
spec:
  parentRefs: [{name: gw}]
  hostnames: [vault.db.test]
  rules: [{backendRefs: [{name: vault, port: 8200}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: lost, namespace: edge}
spec:
  parentRefs: [{name: gw}]
  hostnames: [lost.other.test]
  rules: [{backendRefs: [{name: vault, port: 8200}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: postgres, namespace: edge}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: vault, port: 8200}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: dns, namespace: edge}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: dns, port: 53}]}]
---
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: edge}
spec: {ports: [{port: 8200}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: edge}
spec: {ports: [{port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: vault-1, namespace: edge, labels: {kubernetes.io/service-name: vault}}
addressType: IPv4
ports: [{port: 9000}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: edge, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{port: 1053, protocol: UDP}]
endpoints: [{addresses: [127.0.0.1]}]
"#;

/// Bytes may be led to a listener of HTTP on another port, whose requests go to none.
#[test]
fn bytes_that_would_come_back_as_bytes_are_link_9() {
    let bound = |port| PortState::Bound(([127, 0, 0, 1], port).into());
    let port = ServicePort { namespace: "edge".into(), name: "vault".into(), port: 8200 };
    let vault: Tried = [((port, ([127, 0, 0, 1], 9000).into()), Ok(()))].into();
    for (of_tls, of_http, pod) in [(8443, 9000, 'o'), (9000, 8080, 'B')] {
        let evidence = Evidence {
            ports: Probed::Seen(
                [((false, 443), bound(of_tls)), ((false, 80), bound(of_http))].into(),
            ),
            endpoints: Probed::Seen(vault.clone()),
            dns: Probed::Skipped,
            tls: Probed::Skipped,
            ..healthy()
        };
        let (found, explanation) = states_of(STREAMS, "vault.db.test", &evidence);
        assert_eq!(found.chars().nth(8), Some(pod), "{:#}", explain::to_json(&explanation));
    }
}

/// A TLSRoute is followed as an HTTPRoute is; a port of TCP or UDP by its number.
#[test]
fn what_is_led_on_as_bytes_is_followed() {
    let bound = PortState::Bound(([127, 0, 0, 1], 8443).into());
    let vault = |answer| -> Probed<Tried> {
        let port = ServicePort { namespace: "edge".into(), name: "vault".into(), port: 8200 };
        Probed::Seen([((port, ([127, 0, 0, 1], 9000).into()), answer)].into())
    };
    let evidence = Evidence {
        ports: Probed::Seen([((false, 443), bound.clone()), ((false, 5432), bound)].into()),
        endpoints: vault(Ok(())),
        dns: Probed::Skipped,
        tls: Probed::Skipped,
        ..healthy()
    };
    for (url, gateway, tls, pod) in [
        (
            "vault.db.test",
            "TLSRoute edge/vault rule 0: TLS is passed through",
            "the backend's",
            "1 of 1",
        ),
        (
            "db.test:13432",
            "TCPRoute edge/postgres rule 0: connections",
            "nothing is known",
            "1 of 1",
        ),
        ("ns.test:8053", "UDPRoute edge/dns rule 0: datagrams", "nothing is known", "1 of 1"),
    ] {
        let (found, explanation) = states_of(STREAMS, url, &evidence);
        let detail = |link: usize| explanation.findings[link - 1].detail.as_str();
        assert!(!found.contains('B'), "{url}: {found} {:?}", explanation.findings);
        assert!(detail(7).contains(gateway), "{url}: {}", detail(7));
        assert!(detail(4).contains(tls), "{url}: {}", detail(4));
        assert!(detail(9).contains(pod), "{url}: {}", detail(9));
    }
    let (_, lost) = states_of(STREAMS, "lost.other.test", &evidence);
    let gateway = &lost.findings[6];
    assert_eq!(lost.broken(), Some(model::Link::Gateway), "{:?}", lost.findings);
    assert!(gateway.detail.contains("no listener takes lost.other.test"), "{}", gateway.detail);
    let refused = Err(Unreachable::NotConnected.because("refused"));
    let refused = Evidence { endpoints: vault(refused), ..evidence };
    let (_, refused) = states_of(STREAMS, "https://vault.db.test", &refused);
    assert_eq!(refused.broken(), Some(model::Link::Pod));
}

/// The Gateway holds no certificate where TLS is passed through.
#[test]
fn a_certificate_of_tls_that_is_passed_through_is_the_backends() {
    let strange = healthy().tls;
    for (tls, detail, help) in [
        (
            strange,
            "the certificate is for shop.example.test, not for vault.db.test",
            "mend it there",
        ),
        (Probed::Seen(Err("reset".to_owned())), "did not shake hands: reset", "the backend's own"),
    ] {
        let evidence = Evidence { tls, ..Evidence::default() };
        let (found, explanation) = states_of(STREAMS, "https://vault.db.test", &evidence);
        let finding = &explanation.findings[3];
        assert!(found[3..].starts_with('B'), "{found}");
        assert!(finding.detail.ends_with(detail), "{}", finding.detail);
        assert!(finding.help.contains(help), "{}", finding.help);
        assert_eq!(object(&explanation, 4), "Service edge/vault");
        assert!(finding.place.is_some());
    }
}
