//! The command line's contract: exit codes, formats, streams, signals.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cutwater(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutwater"));
    command.args(arguments).env_remove("NO_COLOR").output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

fn example(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// Held back by one field of the first route.
const HELD: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  parentRefs: [{name: gw}]
  hostnames: [a.example.test]
  colour: red
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: b}
spec:
  parentRefs: [{name: gw}]
  hostnames: [b.example.test]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]
";

#[test]
fn exit_codes() {
    let shop = example("shop");
    let broken = example("broken");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("held.yaml"), HELD).expect("the file can be written");
    let held = folder.path().to_str().expect("the path is UTF-8").to_owned();
    for (arguments, expected) in [
        (vec!["check", &*shop], 0),
        (vec!["check", &*broken], 1),
        (vec!["check", "/no/such/folder"], 2),
        (vec!["check"], 64),
        (vec!["check", &*shop, "--format", "xml"], 64),
        (vec!["nonsense"], 64),
        (vec![], 64),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["explain", "shop.example.test", "--dir", &*shop], 0),
        (vec!["explain", "no.example.test", "--dir", &*shop], 1),
        (vec!["explain", "not a host", "--dir", &*shop], 64),
        (vec!["explain", "shop.example.test", "--dir", "/no/such/folder"], 66),
        (vec!["explain", "shop.example.test", "--admin", "127.0.0.1:1"], 69),
        (vec!["explain", "a.example.test", "--dir", &*held], 7),
        (vec!["explain", "b.example.test", "--dir", &*held], 10),
        (vec!["snapshot", "--dir", &*shop], 0),
        (vec!["snapshot", "--dir", &*held], 1),
        (vec!["snapshot", "--admin", "127.0.0.1:1"], 69),
        (vec!["completions", "bash"], 0),
        (vec!["man"], 0),
    ] {
        let output = cutwater(&arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn check_in_json_has_the_fields_of_the_contract() {
    let output = cutwater(&["check", &example("broken"), "--format", "json"]);
    let list: Value =
        serde_json::from_str(&stdout(&output)).expect("standard output is JSON alone");
    let list = list.as_array().expect("a list");
    let mut kinds: Vec<&str> = list.iter().filter_map(|d| d["code"].as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 25, "only {} kinds of mistakes: {kinds:?}", kinds.len());
    for diagnostic in list {
        let keys: Vec<&str> =
            diagnostic.as_object().expect("an object").keys().map(String::as_str).collect();
        let expected = [
            "code", "column", "field", "file", "help", "line", "message", "object", "owner",
            "severity",
        ];
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{diagnostic:#}");
        assert!(diagnostic["line"].as_u64().is_some_and(|line| line > 0), "{diagnostic:#}");
        assert!(diagnostic["column"].as_u64().is_some_and(|column| column > 0), "{diagnostic:#}");
    }
}

#[test]
fn check_in_sarif_names_files_and_lines() {
    let output = cutwater(&["check", &example("broken"), "--format", "sarif"]);
    let sarif: Value =
        serde_json::from_str(&stdout(&output)).expect("standard output is JSON alone");
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    assert!(
        results
            .iter()
            .all(|r| r["locations"][0]["physicalLocation"]["region"]["startLine"].is_u64())
    );
}

#[test]
fn a_snapshot_never_holds_a_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keys = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/broken/54-certificate-does-not-cover.yaml");
    let text = std::fs::read_to_string(keys).expect("the example can be read");
    assert!(text.contains("PRIVATE KEY") || text.contains("tls.key"), "the example holds a key");
    std::fs::write(folder.path().join("a.yaml"), text).expect("the file can be written");
    let output = cutwater(&["snapshot", "--dir", folder.path().to_str().expect("UTF-8")]);
    let plan: Value =
        serde_json::from_str(&stdout(&output)).expect("standard output is JSON alone");
    assert!(
        !plan["certificates"].as_array().expect("a list").is_empty(),
        "the plan has the certificate"
    );
    assert!(!stdout(&output).contains("PRIVATE"), "a key is in the snapshot");
}

#[test]
fn colour_is_for_terminals() {
    let output = cutwater(&["check", &example("broken")]);
    assert!(!stdout(&output).contains('\x1b') && !stderr(&output).contains('\x1b'));
}

const ROUTED: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: http, port: 80, protocol: HTTP}]
  tls: {backend: {clientCertificateRef: {name: client}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  parentRefs: [{name: gw}]
  hostnames: [a.example.test]
  rules: [{timeouts: TIMEOUTS, backendRefs: [{name: web, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: SERVICE
---
apiVersion: v1
kind: Secret
metadata: {name: client}
type: TYPE
stringData: {tls.crt: nothing, tls.key: nothing}
";

/// What reading has refused is not reported again as what follows from it.
#[test]
fn each_mistake_is_said_once() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("a.yaml");
    let (limits, ports, opaque) = ("{request: 2s}", "{ports: [{port: 80}]}", "Opaque");
    let address = "{type: ExternalName, externalName: 192.0.2.1, ports: [{port: 80}]}";
    let longer = "{request: 2s, backendRequest: 5s}";
    for (timeouts, service, kind, expected) in [
        (limits, ports, opaque, "bad-client-certificate-ref"),
        (limits, ports, "kubernetes.io/tls", "bad-pem"),
        (limits, address, "kubernetes.io/tls", "bad-hostname bad-pem"),
        (longer, ports, "kubernetes.io/tls", "contradiction bad-pem"),
    ] {
        let text = ROUTED.replace("TIMEOUTS", timeouts).replace("SERVICE", service);
        std::fs::write(&file, text.replace("TYPE", kind)).expect("the file can be written");
        let path = folder.path().to_str().expect("UTF-8");
        let output = cutwater(&["check", path, "--format", "json"]);
        let found: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let all = found.as_array().expect("a list").iter();
        let codes = all.filter_map(|d| d["code"].as_str());
        // Nobody has written endpoints.
        let codes: Vec<&str> = codes.filter(|code| *code != "service-without-endpoints").collect();
        assert_eq!(codes.join(" "), expected, "{found:#}");
    }
}
