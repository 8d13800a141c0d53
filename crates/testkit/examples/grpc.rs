//! The interoperability tests of gRPC, with the client and the server of grpc-go, through the real binary: in the clear
//! and over TLS. `grpc DIR [--json FILE]`; DIR holds the programs `client` and `server`.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use testkit::free_port;
use testkit::instance::{Instance, Plan};
use testkit::suite::{self, Cases, Running};

const HOST: &str = "grpc.example.test";
const START: Duration = Duration::from_secs(20);
const CASE: Duration = Duration::from_secs(60);

/// All that ask for no account of a cloud. What is left out is listed with its reason.
const CASES: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
];

const LEFT_OUT: &[(&str, &str)] = &[
    (
        "compute_engine_creds, service_account_creds, jwt_token_creds, per_rpc_creds, oauth2_auth_token, google_default_credentials, compute_engine_channel_credentials",
        "need an account of a cloud",
    ),
    ("pick_first_unary", "needs a name with several addresses"),
    (
        "orca_per_rpc, orca_oob",
        "test load reports between client and server, not what carries them",
    ),
];

fn main() -> ExitCode {
    suite::main(play)
}

fn play(programs: &Path) -> Result<Cases, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let port = free_port()?;
    std::fs::write(folder.path().join("grpc.yaml"), manifests(port))
        .map_err(|error| error.to_string())?;
    let _server =
        Running::start(Command::new(programs.join("server")).arg(format!("--port={port}")))?;
    await_port(port)?;
    let mut plan = Plan::new(folder.path());
    plan.ports = vec![80, 443];
    let instance = Instance::start(&plan)?;
    let mut cases = Cases::new("grpc");
    let ca = instance.entry().ca;
    for (entry, security) in [
        (80, vec!["--use_tls=false".to_owned()]),
        (
            443,
            vec![
                "--use_tls=true".to_owned(),
                "--use_test_ca=true".to_owned(),
                format!("--ca_file={}", ca.display()),
            ],
        ),
    ] {
        let entry_port = instance.bound(entry).port();
        for case in CASES {
            let mut command = Command::new(programs.join("client"));
            command
                .args(["--server_host=127.0.0.1", &format!("--server_port={entry_port}")])
                .arg(format!("--server_host_override={HOST}"))
                .args(&security)
                .arg(format!("--test_case={case}"));
            let result =
                suite::run(&mut command, CASE).and_then(|(is_good, printed)| match is_good {
                    true => Ok(()),
                    false => Err(printed),
                });
            cases.count(&format!("{entry} {case}"), result);
        }
    }
    for (case, reason) in LEFT_OUT {
        cases.skip(case, reason);
    }
    instance.stop()?;
    Ok(cases)
}

fn await_port(port: u16) -> Result<(), String> {
    let end = Instant::now() + START;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > end {
            return Err(format!("nobody listens on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn manifests(port: u16) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: main, namespace: shop}}
spec:
  gatewayClassName: cutwater
  listeners:
  - {{name: http, port: 80, protocol: HTTP}}
  - {{name: https, port: 443, protocol: HTTPS, hostname: {HOST}, tls: {{certificateRefs: [{{name: local}}]}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: shop}}
spec:
  parentRefs: [{{name: main}}]
  rules:
  - matches: [{{method: {{service: grpc.testing.TestService}}}}, {{method: {{service: grpc.testing.UnimplementedService}}}}]
    backendRefs: [{{name: interop, port: 80}}]
---
apiVersion: v1
kind: Service
metadata: {{name: interop, namespace: shop}}
spec: {{ports: [{{name: grpc, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: interop, namespace: shop, labels: {{kubernetes.io/service-name: interop}}}}
addressType: IPv4
ports: [{{name: grpc, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}
