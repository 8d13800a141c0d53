//! Link 9, and what link 6 says of it: endpoints that are out, that cannot be used, that only fail, and what stands in.

mod common;

use common::*;
use explain::{Evidence, Failing, Nowhere, PortState, Probed, TakenOut};
use model::reach::Unreachable;
use model::{Kind, ObjectId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[test]
fn endpoints_that_are_taken_out_are_link_9_with_the_reason() {
    let why = "ejected 3 s ago, 27 s left: it failed";
    let out = |last: &[u8]| out(last, why, Some("web"));
    check(WEB, |evidence| evidence.out = out(&[1, 2]), "ooooooooB");
    let (letters, explanation) = states(WEB, &Evidence { out: out(&[2]), ..healthy() });
    assert_eq!(letters, "ooooooooo");
    let detail = &explanation.findings[8].detail;
    assert!(detail.ends_with(&format!("taken out: 127.0.0.2:9000 ({why})")), "{detail}");
    // Another Service has the endpoint too.
    let (_, explanation) =
        states(WEB, &Evidence { out: self::out(&[2], why, Some("other")), ..healthy() });
    let detail = &explanation.findings[8].detail;
    assert!(detail.contains(&format!("({why}; by what Service shop/other found")), "{detail}");
}

fn out(last: &[u8], why: &str, service: Option<&str>) -> BTreeMap<SocketAddr, TakenOut> {
    let service = service.map(|name| ObjectId::new(Kind::SERVICE, "shop", name));
    let out = TakenOut { why: why.to_owned(), service };
    last.iter().map(|last| (([127, 0, 0, *last], 9000).into(), out.clone())).collect()
}

const STANDBY: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: standby, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: standby-1, namespace: shop, labels: {kubernetes.io/service-name: standby}}
addressType: IPv4
ports: [{port: 9000}]
endpoints: [{addresses: [127.0.0.3]}]
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  loadBalancing: {panicPercent: 60}
  fallback: {backendRefs: [{name: standby, port: 80}], response: {status: 503}}
"#;

#[test]
fn what_stands_in_and_what_is_near_is_said_at_link_6() {
    let out = |last: &[u8]| out(last, "it failed", None);
    let near = FOLDER
        .replace(
            "{ports: [{port: 80}]}",
            "{ports: [{port: 80}], trafficDistribution: PreferSameZone}",
        )
        .replace("[127.0.0.1]}", "[127.0.0.1], zone: a}");
    let unknown =
        near.replace("trafficDistribution: PreferSameZone", "trafficDistribution: PreferSameNode");
    let standby = format!("{FOLDER}{STANDBY}");
    for (folder, ejected, letters, said) in [
        (
            &near,
            &[][..],
            "ooooooooo",
            "1 of 1 endpoints of shop/web:80 near a are in use and take 100 %",
        ),
        (
            &near,
            &[1],
            "ooooooooo",
            "0 of 1 endpoints of shop/web:80 near a are in use and take 0 %",
        ),
        (&unknown, &[], "ooooooooo", "take 100 %"),
        (&standby, &[], "ooooooooo", "listening on"),
        (
            &standby,
            &[2],
            "ooooooooo",
            "shop/web:80 has 1 of 2 endpoints in use, less than its panic threshold of 60 %: shop/standby:80 takes its requests",
        ),
        (
            &standby,
            &[1, 2],
            "ooooooooo",
            "shop/web:80 has no endpoint in use: shop/standby:80 takes",
        ),
        (
            &standby,
            &[2, 3],
            "ooooooooo",
            "and nothing else has more, so all of its endpoints are used",
        ),
        (&standby, &[1, 2, 3], "ooooooooo", "the declared answer 503 is given"),
    ] {
        let mut evidence = Evidence { out: out(ejected), ..healthy() };
        evidence.endpoints = Probed::Seen(endpoints(&[(1, true), (2, true), (3, true)]));
        let (found, explanation) = states_of(folder, WEB, &evidence);
        let detail = &explanation.findings[5].detail;
        assert!(detail.contains(said), "{ejected:?}: {detail}");
        assert_eq!(found, letters, "{ejected:?}: {:#}", explain::to_json(&explanation));
    }
}

/// As the edge goes on where a connection fails.
#[test]
fn what_stands_in_for_a_backend_that_cannot_be_reached_is_link_9() {
    let standby = format!("{FOLDER}{STANDBY}");
    let without_answer = standby.replace(", response: {status: 503}", "");
    let not_ready = standby
        .replace("[127.0.0.1]}", "[127.0.0.1], conditions: {ready: false}}")
        .replace("[127.0.0.2]}", "[127.0.0.2], conditions: {ready: false}}");
    let dead = "no ready endpoint of shop/web:80 takes a connection";
    for (folder, reachable, letter, parts) in [
        (&standby, [true, true, true], "o", &["2 of 2 endpoints ready and reachable"][..]),
        (
            &standby,
            [false, false, true],
            "o",
            &[
                "1 of 1 endpoints ready and reachable",
                dead,
                "shop/standby:80 stands in for shop/web:80",
            ],
        ),
        (&standby, [false, false, false], "o", &[dead, "the declared answer 503 is given"]),
        (&without_answer, [false, false, true], "o", &[dead, "stands in"]),
        (&without_answer, [false, false, false], "B", &[dead]),
        (&not_ready, [true, true, true], "o", &["1 of 1 endpoints ready and reachable"]),
        (&not_ready, [true, true, false], "o", &["shop/standby:80 takes a", "answer 503 is given"]),
    ] {
        let [one, two, three] = reachable;
        let seen = Probed::Seen(endpoints(&[(1, one), (2, two), (3, three)]));
        let evidence = Evidence { endpoints: seen, ..healthy() };
        let (found, explanation) = states_of(folder, WEB, &evidence);
        assert_eq!(&found[8..], letter, "{:#}", explain::to_json(&explanation));
        let detail = &explanation.findings[8].detail;
        assert!(parts.iter().all(|part| detail.contains(part)), "{reachable:?}: {detail}");
    }
}

const OVER_TLS: &str = r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: web-tls, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  validation: {hostname: web.internal, wellKnownCACertificates: System}
"#;

#[test]
fn a_backend_that_cannot_be_used_is_link_9_with_the_object_to_mend() {
    let folder = format!("{FOLDER}{OVER_TLS}");
    let policy = "BackendTLSPolicy shop/web-tls";
    let slice = "EndpointSlice shop/web-1";
    let over_tls =
        "no ready endpoint of shop/web:80 can be talked to over TLS (127.0.0.1:9000: so)";
    let waits = "no ready endpoint of shop/web:80 waits for a request (127.0.0.1:9000: so)";
    use Unreachable::*;
    for (cause, detail, object, help) in [
        (
            TlsName,
            over_tls,
            policy,
            "correct `hostname` of BackendTLSPolicy shop/web-tls, which is web.internal",
        ),
        (TlsAuthority, over_tls, policy, "`caCertificateRefs`"),
        (TlsPolicy, over_tls, policy, "`cutwater check`"),
        (TlsTime, over_tls, slice, "renew"),
        (TlsClient, over_tls, "Gateway edge/gw", "`spec.tls.backend.clientCertificateRef`"),
        (TlsRefused, over_tls, slice, "`spec.tls.backend.clientCertificateRef`"),
        (TlsVersion, over_tls, slice, "TLS 1.2 or 1.3"),
        (TlsSilent, over_tls, slice, "does the pod speak TLS there, and is it not stuck?"),
        (Tls, over_tls, slice, "-connect 127.0.0.1:9000 -servername web.internal"),
        (Closes, waits, slice, "PROXY protocol"),
        (Protocol, waits, "Service shop/web", "`appProtocol`"),
    ] {
        let all = [1, 2].map(|last| (last, Err(cause.because("so"))));
        let evidence = Evidence { endpoints: Probed::Seen(tried(all.into_iter())), ..healthy() };
        let (found, explanation) = states_of(&folder, WEB, &evidence);
        assert_eq!(found, "ooooooooB", "{:#}", explain::to_json(&explanation));
        let finding = &explanation.findings[8];
        assert_eq!(finding.detail, detail);
        assert!(finding.help.contains(help), "{cause:?}: {}", finding.help);
        assert_eq!(finding.object.as_ref().map(ToString::to_string).as_deref(), Some(object));
        assert!(finding.place.is_some(), "{cause:?}");
        let some = [(1, Ok(())), (2, Err(cause.because("so")))];
        let evidence = Evidence { endpoints: Probed::Seen(tried(some.into_iter())), ..healthy() };
        let (found, explanation) = states_of(&folder, WEB, &evidence);
        assert_eq!(found, "ooooooooo");
        let detail = &explanation.findings[8].detail;
        assert!(detail.ends_with("1 of them cannot be used (127.0.0.2:9000: so)"), "{detail}");
    }
    // Without a policy the Service's own words count.
    let announced =
        FOLDER.replace("{ports: [{port: 80}]}", "{ports: [{port: 80, appProtocol: https}]}");
    for (cause, help) in [
        (TlsName, "without one it has to have web.shop.svc"),
        (TlsAuthority, "without one the system's authorities are trusted"),
    ] {
        let all = [1, 2].map(|last| (last, Err(cause.because("so"))));
        let evidence = Evidence { endpoints: Probed::Seen(tried(all.into_iter())), ..healthy() };
        let (_, explanation) = states_of(&announced, WEB, &evidence);
        let finding = &explanation.findings[8];
        assert!(finding.help.starts_with("write a BackendTLSPolicy"), "{}", finding.help);
        assert!(finding.help.ends_with(help), "{}", finding.help);
        assert_eq!(
            finding.object.as_ref().map(ToString::to_string).as_deref(),
            Some("Service shop/web")
        );
    }
}

#[test]
fn endpoints_that_do_nothing_but_fail_are_link_9() {
    for (failing, expected) in [
        (&[(1, 3, 60), (2, 9, 0)][..], "ooooooooB"),
        (&[(1, 2, 0), (2, 9, 0)], "ooooooooo"),
        (&[(1, 9, 61), (2, 9, 0)], "ooooooooo"),
        (&[(1, 9, 0)], "ooooooooo"),
    ] {
        let of = |(last, in_row, ago_s): &(u8, u32, u64)| {
            let what = "it sent what is no response".to_owned();
            (([127, 0, 0, *last], 9000).into(), Failing { in_row: *in_row, ago_s: *ago_s, what })
        };
        let evidence = Evidence { failing: failing.iter().map(of).collect(), ..healthy() };
        let (found, explanation) = states(WEB, &evidence);
        assert_eq!(found, expected, "{failing:?}");
        let detail = &explanation.findings[8].detail;
        let said = "(127.0.0.1:9000: 3 in a row, the last 60 s ago: it sent what is no response)";
        assert_eq!(detail.ends_with(said), expected.ends_with('B'), "{detail}");
        let some = detail.contains("(9 in a row, the last 0 s ago: it sent what is no response)");
        assert!(expected.ends_with('B') || some, "{detail}");
    }
}

#[test]
fn what_fails_and_is_kept_in_is_told_with_the_share_that_may_be_out() {
    let failing = |in_row| {
        let what = "it sent what is no response".to_owned();
        BTreeMap::from([(([127, 0, 0, 2], 9000).into(), Failing { in_row, ago_s: 0, what })])
    };
    for (last, in_row, is_said) in
        [(&[1u8][..], 2_407, true), (&[1], 5, true), (&[1], 4, false), (&[], 2_407, false)]
    {
        let out = out(last, "it failed", None);
        let evidence = Evidence { out, failing: failing(in_row), ..healthy() };
        let (_, explanation) = states(WEB, &evidence);
        let detail = &explanation.findings[8].detail;
        let said = format!("{in_row} in a row, the last 0 s ago: it sent what is no response");
        assert!(detail.contains(&said), "{detail}");
        let kept = detail.ends_with("; kept in because at most 50 % may be out)");
        assert_eq!(kept, is_said, "{detail}");
    }
}

#[test]
fn a_name_that_leads_nowhere_is_link_9_and_says_why() {
    let allowed = r#"
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: gw, namespace: edge}
spec:
  targetRefs: [{kind: Gateway, name: gw}]
  externalName: {allow: ["*.example.com"]}
"#;
    let named = "{type: ExternalName, externalName: api.example.com, ports: [{port: 80}]}";
    let folder = FOLDER
        .replace("{ports: [{port: 80}]}", named)
        .replace("service-name: web", "service-name: nobody");
    let folder = format!("{folder}{allowed}");
    let found = |why| Probed::Seen([("api.example.com".into(), why)].into());
    let inside = Nowhere::Forbidden([127, 0, 0, 1].into(), "a loopback address".to_owned());
    let why = "no endpoint for shop/web:80: api.example.com has no address";
    for (names, letter, detail, help) in [
        (
            Probed::Skipped,
            "s",
            "the endpoints of shop/web:80 are the addresses of api.example.com; not asked",
            "",
        ),
        (
            found(inside),
            "B",
            "leads to 127.0.0.1, which is a loopback address",
            "the records of api.example.com; addresses inside",
        ),
        (Probed::Seen(BTreeMap::new()), "B", why, "`externalName`"),
        (found(Nowhere::NoAddress), "B", why, "`externalName`"),
        (found(Nowhere::Unanswered), "B", "no nameserver has answered", "--resolver"),
        (found(Nowhere::Unanswered), "B", "no nameserver has answered", "/etc/resolv.conf"),
        (found(Nowhere::NotAsked), "B", "is not asked for yet", "in a moment"),
    ] {
        let evidence = Evidence { names, ..healthy() };
        let (found, explanation) = states_of(&folder, WEB, &evidence);
        assert_eq!(&found[8..], letter, "{:#}", explain::to_json(&explanation));
        let finding = &explanation.findings[8];
        assert!(finding.detail.contains(detail), "{}", finding.detail);
        assert!(finding.help.contains(help), "{}", finding.help);
        let object = finding.object.as_ref().map(ToString::to_string);
        assert_eq!(object.as_deref(), Some("Service shop/web"));
    }
}

/// The edge sends nothing to its own listeners: it would come back.
#[test]
fn an_endpoint_that_is_a_listener_of_the_edge_is_link_9() {
    let refused = "comes back, so it is refused (`loop`)";
    for (bound, letters, said) in [
        ("127.0.0.1:8080", "ooooooooo", "2 of 2 endpoints ready and reachable"),
        (
            "127.0.0.1:9000",
            "ooooooooo",
            "refused (`loop`): 127.0.0.1:9000 (a listener of this edge)",
        ),
        ("0.0.0.0:9000", "ooooooooB", refused),
        ("[::]:9000", "ooooooooB", refused),
    ] {
        let mut evidence = healthy();
        let Probed::Seen(ports) = &mut evidence.ports else { panic!("they are known") };
        ports.insert((false, 80), PortState::Bound(bound.parse().expect("an address")));
        let (found, explanation) = states(WEB, &evidence);
        assert_eq!(found, letters, "{bound}: {:#}", explain::to_json(&explanation));
        let finding = &explanation.findings[8];
        assert!(finding.detail.contains(said), "{bound}: {}", finding.detail);
        let object = finding.object.as_ref().map(|object| object.kind);
        assert_eq!(object, Some(Kind::ENDPOINT_SLICE), "{bound}");
    }
}
