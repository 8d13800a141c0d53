//! What each client is asked to do, and how its answer is judged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::Instance;
use testkit::instance::Plan;
use testkit::suite;

use crate::origin::{CHUNKED_BYTES, LARGE_BYTES, Origin};

pub struct Case {
    pub name: &'static str,
    pub run: fn(&Site) -> Outcome,
}

pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

pub const CASES: &[Case] = &[
    Case { name: "curl HTTP/1.1", run: |site| curl(site, &["--http1.1"], "http", "1.1") },
    Case { name: "curl HTTP/1.0", run: |site| curl(site, &["--http1.0"], "http", "1.1") },
    Case { name: "curl h2c, prior knowledge", run: curl_prior_knowledge },
    Case { name: "curl HTTP/2 over TLS", run: |site| curl(site, &["--http2"], "https", "2") },
    Case {
        name: "curl HTTP/1.1 over TLS 1.2",
        run: |site| curl(site, &["--http1.1", "--tls-max", "1.2"], "https", "1.1"),
    },
    Case { name: "h2load HTTP/2 over TLS", run: h2load },
    Case { name: "h2load h2c", run: h2load_plain },
    Case { name: "wrk", run: wrk },
    Case { name: "Python http.client", run: |site| program(site, "python3", &["client.py"]) },
    Case { name: "Python httpx HTTP/2", run: httpx },
    Case { name: "Node fetch and http2", run: |site| program(site, "node", &["client.mjs"]) },
    Case { name: "Go net/http", run: |site| program(site, "go", &["run", "client.go"]) },
    Case { name: "Chromium, plain", run: |site| chromium(site, "http") },
    Case { name: "Chromium, HTTP/2 over TLS", run: |site| chromium(site, "https") },
    Case { name: "testssl.sh", run: testssl },
];

pub const HOST: &str = "clients.test";
const PLAIN: u16 = 80;
const TLS: u16 = 443;

/// A running Cutwater with its origin.
pub struct Site {
    instance: Instance,
    origin: Origin,
    programs: PathBuf,
    scratch: TempDir,
}

impl Site {
    pub fn start(programs: &Path) -> Result<Site, String> {
        let origin = Origin::start().map_err(|error| error.to_string())?;
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let manifests = scratch.path().join("manifests");
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&manifests)?;
            fs::write(manifests.join("site.yaml"), manifest(origin.address.port()))
        };
        write().map_err(|error| error.to_string())?;
        let instance = Instance::start(&Plan::new(manifests))?;
        Ok(Site { instance, origin, programs: programs.to_owned(), scratch })
    }

    pub fn stop(self) -> Result<(), String> {
        self.instance.stop().map(|_| ())
    }

    fn port(&self, scheme: &str) -> u16 {
        self.instance.bound(if scheme == "https" { TLS } else { PLAIN }).port()
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{HOST}:{}{path}", self.port(scheme))
    }

    fn ca(&self) -> PathBuf {
        self.instance.entry().ca
    }
}

fn manifest(origin: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{ name: cutwater }}
spec: {{ controllerName: cutwater.dev/gateway }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: site, namespace: default }}
spec:
  gatewayClassName: cutwater
  listeners:
    - {{ name: http, port: {PLAIN}, protocol: HTTP, hostname: {HOST} }}
    - name: https
      port: {TLS}
      protocol: HTTPS
      hostname: {HOST}
      tls: {{ mode: Terminate, certificateRefs: [{{ name: issued-by-the-local-ca }}] }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: site, namespace: default }}
spec:
  parentRefs: [{{ name: site }}]
  hostnames: [{HOST}]
  rules: [{{ backendRefs: [{{ name: site, port: 80 }}] }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: site, namespace: default }}
spec:
  ports: [{{ name: http, port: 80 }}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: site
  namespace: default
  labels: {{ kubernetes.io/service-name: site }}
addressType: IPv4
ports: [{{ name: http, port: {origin}, protocol: TCP }}]
endpoints: [{{ addresses: [127.0.0.1], conditions: {{ ready: true }} }}]
"
    )
}

/// More than any of them needs, but for testssl.sh.
const LIMIT: Duration = Duration::from_secs(60);
const TESTSSL_LIMIT: Duration = Duration::from_secs(300);

/// A client that is here ends well and in time, and what it printed holds.
fn judge(command: &mut Command, holds: impl FnOnce(&str) -> bool) -> Outcome {
    match run(command, LIMIT) {
        Ok((true, text)) if holds(&text) => Outcome::Passed,
        Ok((is_well, text)) => Outcome::Failed(format!("ended well: {is_well}: {text}")),
        Err(outcome) => outcome,
    }
}

/// Whether it ended well, and what it printed.
fn run(command: &mut Command, limit: Duration) -> Result<(bool, String), Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    if !is_here(&program) {
        return Err(Outcome::Skipped(format!("{program} is not installed")));
    }
    suite::run(command, limit).map_err(Outcome::Failed)
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// One request of curl: its path, its flags, and the status and size of the answer.
const CURL: &[(&str, &[&str], u16, usize)] = &[
    ("/data.json", &[], 200, 14),
    ("/large", &[], 200, LARGE_BYTES),
    ("/chunked", &[], 200, CHUNKED_BYTES),
    ("/echo", &["--data-binary", "@upload"], 200, LARGE_BYTES),
    ("/empty", &[], 204, 0),
    ("/large", &["--head"], 200, 0),
    ("/missing", &[], 404, 5),
];

/// All requests on one connection.
fn curl(site: &Site, flags: &[&str], scheme: &str, version: &str) -> Outcome {
    curl_some(site, flags, scheme, version, CURL)
}

/// A connection for each request: curl 7.88 cannot use one with prior knowledge again, whoever serves it.
fn curl_prior_knowledge(site: &Site) -> Outcome {
    let each =
        CURL.chunks(1).map(|one| curl_some(site, &["--http2-prior-knowledge"], "http", "2", one));
    each.fold(Outcome::Passed, |all, one| if let Outcome::Passed = all { one } else { all })
}

fn curl_some(
    site: &Site,
    flags: &[&str],
    scheme: &str,
    version: &str,
    requests: &[(&str, &[&str], u16, usize)],
) -> Outcome {
    let folder = site.scratch.path();
    if let Err(error) = fs::write(folder.join("upload"), vec![b'u'; LARGE_BYTES]) {
        return Outcome::Failed(error.to_string());
    }
    let mut command = Command::new("curl");
    command.current_dir(folder);
    for (number, (path, more, ..)) in requests.iter().enumerate() {
        if number > 0 {
            command.arg("--next");
        }
        command.args(["--silent", "--show-error", "--max-time", "20", "--write-out"]);
        command.arg("%{http_code} %{http_version} %{size_download}\\n");
        command.arg("--resolve").arg(format!("{HOST}:{}:127.0.0.1", site.port(scheme)));
        command.arg("--cacert").arg(site.ca());
        command.args(flags).args(["--output", "/dev/null"]).args(*more).arg(site.url(scheme, path));
    }
    let expected: String = requests
        .iter()
        .map(|(_, more, code, size)| {
            // The bytes of a head are counted where only it is asked for.
            let size = if more.is_empty() || more[0] != "--head" {
                size.to_string()
            } else {
                "*".to_owned()
            };
            format!("{code} {version} {size}\n")
        })
        .collect();
    judge(&mut command, |text| is_like(text, &expected))
}

/// Word by word; `*` stands for any.
fn is_like(text: &str, expected: &str) -> bool {
    let (words, expected) = (text.split_whitespace(), expected.split_whitespace());
    words.clone().count() == expected.clone().count()
        && words.zip(expected).all(|(word, expected)| expected == "*" || word == expected)
}

fn h2load(site: &Site) -> Outcome {
    load(site, "https")
}

fn h2load_plain(site: &Site) -> Outcome {
    load(site, "http")
}

fn load(site: &Site, scheme: &str) -> Outcome {
    let mut command = Command::new("h2load");
    command.args(["-n", "2000", "-c", "10", "-m", "20"]);
    command.arg(format!("--connect-to=127.0.0.1:{}", site.port(scheme)));
    command.args([site.url(scheme, "/data.json"), site.url(scheme, "/chunked")]);
    let expected = "2000 succeeded, 0 failed, 0 errored, 0 timeout";
    judge(&mut command, |text| text.contains(expected) && text.contains("status codes: 2000 2xx"))
}

fn wrk(site: &Site) -> Outcome {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c10", "-d1s", "-H", &format!("Host: {HOST}")]);
    command.arg(format!("http://127.0.0.1:{}/data.json", site.port("http")));
    judge(&mut command, |text| {
        text.contains("requests in") && !text.contains("Non-2xx") && !text.contains("Socket errors")
    })
}

/// A program of the folder: it gets the ports and the CA, judges what it sees, and prints `all is well` at its end.
fn program(site: &Site, interpreter: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(interpreter);
    command.args(arguments).current_dir(&site.programs);
    command.args([site.port("http").to_string(), site.port("https").to_string()]).arg(site.ca());
    // Node takes a further authority from here only; Go is to look for no module.
    command.env("NODE_EXTRA_CA_CERTS", site.ca()).env("GO111MODULE", "off");
    // What it warns of may come behind.
    judge(&mut command, |text| text.lines().any(|line| line == "all is well"))
}

fn httpx(site: &Site) -> Outcome {
    match run(Command::new("python3").args(["-c", "import httpx, h2"]), LIMIT) {
        Ok((true, _)) => program(site, "python3", &["client_httpx.py"]),
        _ => Outcome::Skipped("Python has no modules httpx and h2".to_owned()),
    }
}

/// The page with its style, its script, and what that fetches.
fn chromium(site: &Site, scheme: &str) -> Outcome {
    let before = site.origin.asked("/style.css");
    let profile = site.scratch.path().join(format!("chromium-{scheme}"));
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox"]);
    command.args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom"]);
    command.args(["--virtual-time-budget=10000", "--disable-background-networking"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--host-resolver-rules=MAP {HOST} 127.0.0.1"));
    // Its list of authorities is a database of its own; the other clients verify the chain.
    command.arg("--ignore-certificate-errors").arg(site.url(scheme, "/"));
    judge(&mut command, |text| {
        text.contains("answer 42, POST 5000") && site.origin.asked("/style.css") > before
    })
}

/// Findings of testssl.sh above LOW that are about the local CA's own certificate: a CA that browsers do not know, and
/// that names neither a revocation list nor a responder.
const ABOUT_THE_LOCAL_CA: &[&str] = &["cert_chain_of_trust", "cert_revocation", "overall_grade"];

fn testssl(site: &Site) -> Outcome {
    let report = site.scratch.path().join("testssl.json");
    let mut command = Command::new("testssl");
    command.args(["--quiet", "--warnings", "off"]);
    command.args(["--color", "0", "--ip", "127.0.0.1", "--nodns", "none", "--sneaky", "--fast"]);
    command.args(["--protocols", "--std", "--fs", "--server-defaults", "--headers"]);
    command.args(["--vulnerable", "--jsonfile"]).arg(&report);
    command.arg(format!("{HOST}:{}", site.port("https")));
    let said = match run(&mut command, TESTSSL_LIMIT) {
        Ok((_, said)) => said,
        Err(outcome) => return outcome,
    };
    let text = fs::read_to_string(&report).unwrap_or_default();
    let findings: Vec<serde_json::Value> = match serde_json::from_str(&text) {
        Ok(findings) => findings,
        Err(error) => return Outcome::Failed(format!("no report ({error}): {said}")),
    };
    let is_bad = |finding: &&serde_json::Value| {
        let severity = finding["severity"].as_str().unwrap_or_default();
        let id = finding["id"].as_str().unwrap_or_default();
        matches!(severity, "MEDIUM" | "HIGH" | "CRITICAL" | "FATAL")
            && !ABOUT_THE_LOCAL_CA.contains(&id)
    };
    let bad: Vec<String> = findings
        .iter()
        .filter(is_bad)
        .map(|finding| format!("{} {}: {}", finding["severity"], finding["id"], finding["finding"]))
        .collect();
    // Said at the end of a whole run.
    let is_whole = findings.iter().any(|finding| finding["id"] == "scanTime");
    match bad.is_empty() && is_whole && findings.len() > 30 {
        true => Outcome::Passed,
        false => Outcome::Failed(format!(
            "{} findings, run to its end: {is_whole}, bad:\n{}",
            findings.len(),
            bad.join("\n")
        )),
    }
}
