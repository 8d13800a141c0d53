//! h2spec (an HTTP/2 test client of others' making) against the real binary: in the clear and over TLS. `h2spec DIR
//! [--json FILE]`; DIR holds the program `h2spec`.

use regex::Regex;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use testkit::free_port;
use testkit::instance::{Instance, Plan};
use testkit::suite::{self, Cases};

const LIMIT: Duration = Duration::from_secs(300);
/// h2spec asks for the host that it connects to.
const HOST: &str = "localhost";
/// Seconds that h2spec waits for an answer.
const PATIENCE: &str = "3";

/// Cases that are not held, with the reason; a case of this list that holds is a failure too.
const KNOWN: &[(&str, &str)] = &[(
    "80 http2/3.5 Sends invalid connection preface",
    "where HTTP/1.1 is served too, what is no preface is a request that is none, and answered with 400",
)];

fn main() -> ExitCode {
    suite::main(play)
}

fn play(programs: &Path) -> Result<Cases, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let manifests = MANIFESTS.replace("PORT", &free_port()?.to_string()).replace("HOST", HOST);
    std::fs::write(folder.path().join("all.yaml"), manifests).map_err(|error| error.to_string())?;
    let mut plan = Plan::new(folder.path());
    plan.ports = vec![80, 443];
    plan.flags = vec!["--echo".to_owned()];
    let instance = Instance::start(&plan)?;
    let mut cases = Cases::new("http2");
    for (entry, flags) in [(80, &[][..]), (443, &["-t", "-k"])] {
        let report = folder.path().join(format!("{entry}.xml"));
        let port = instance.bound(entry).port().to_string();
        let mut command = Command::new(programs.join("h2spec"));
        command.args(["-h", HOST, "-p", &port, "-o", PATIENCE, "-j"]).arg(&report);
        let (_, printed) = suite::run(command.args(flags), LIMIT)?;
        let report = std::fs::read_to_string(&report)
            .map_err(|error| format!("h2spec left no report ({error}): {printed}"))?;
        read(entry, &report, &mut cases)?;
    }
    instance.stop()?;
    Ok(cases)
}

/// `<testcase package="http2/5.1" classname="..." time="..."><failure>...`, as h2spec writes JUnit's form.
fn read(entry: u16, report: &str, cases: &mut Cases) -> Result<(), String> {
    let case = Regex::new(
        r#"(?s)<testcase package="([^"]*)" classname="([^"]*)"[^>]*?(/>|>(.*?)</testcase>)"#,
    )
    .map_err(|error| error.to_string())?;
    for found in case.captures_iter(report) {
        let name = format!("{} {}", &found[1], unescaped(&found[2]));
        let said = found.get(4).map_or("", |said| said.as_str().trim());
        let shown = format!("{entry} {name}");
        let known = KNOWN.iter().find(|(known, _)| shown == *known);
        let is_good = !said.contains("<failure") && !said.contains("<error");
        match (is_good, known) {
            _ if said.contains("<skipped") => cases.skip(&shown, "h2spec skipped it"),
            (false, Some((_, reason))) => cases.skip(&shown, reason),
            (true, Some(_)) => {
                cases.count(&shown, Err("holds, though it is listed as not held".to_owned()));
            }
            (true, None) => cases.count(&shown, Ok(())),
            (false, None) => cases.count(&shown, Err(unescaped(said))),
        }
    }
    Ok(())
}

fn unescaped(text: &str) -> String {
    [("&#xA;", "\n"), ("&#34;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

const MANIFESTS: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: shop}
spec:
  gatewayClassName: cutwater
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, hostname: HOST, tls: {certificateRefs: [{name: local}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: main}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: PORT}]
endpoints: [{addresses: [127.0.0.1]}]
";
