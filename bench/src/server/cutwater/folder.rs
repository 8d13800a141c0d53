//! The folders of manifests that Cutwater serves in the bench.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::http::HOST;
use crate::server::Site;

/// Routes of the large folder: an application a file, each with its Service and endpoints.
pub const APPLICATIONS: usize = 1_000;
pub const ROUTES_PER_APPLICATION: usize = 10;

/// One hostname over HTTP and HTTPS.
pub fn write_bench(folder: &Path, site: &Site) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("gateway.yaml"), gateway(site))?;
    write_edit(folder, site, 0)
}

/// The route of the bench's host, with an edition number in a header of its answers.
pub fn write_edit(folder: &Path, site: &Site, edition: usize) -> io::Result<()> {
    let text = service("bench", site.origin) + &route("bench", HOST, "bench", edition);
    fs::write(folder.join("bench.yaml"), text)
}

/// 10,000 routes, each with a host of its own.
pub fn write_large(folder: &Path, site: &Site) -> io::Result<()> {
    let applications = folder.join("applications");
    fs::create_dir_all(&applications)?;
    fs::write(folder.join("gateway.yaml"), gateway(site))?;
    (0..APPLICATIONS).try_for_each(|number| write_application(folder, site, number, 0))
}

/// As many routes as in the large folder, all of them to the one service of the bench's host: what differs from the
/// bench's folder is their number alone.
pub fn write_many_routes(folder: &Path, site: &Site) -> io::Result<()> {
    write_bench(folder, site)?;
    for number in 0..APPLICATIONS {
        let routes = (0..ROUTES_PER_APPLICATION).map(|index| {
            let name = format!("many-{number:04}-{index}");
            route(&name, &application_host(number, index), "bench", 0)
        });
        fs::write(folder.join(format!("many-{number:04}.yaml")), routes.collect::<String>())?;
    }
    Ok(())
}

/// One application of the large folder; `edition` marks its first route.
pub fn write_application(
    folder: &Path,
    site: &Site,
    number: usize,
    edition: usize,
) -> io::Result<()> {
    let name = format!("app-{number:04}");
    let mut text = service(&name, site.origin);
    for index in 0..ROUTES_PER_APPLICATION {
        let edition = if index == 0 { edition } else { 0 };
        let host = application_host(number, index);
        text += &route(&format!("{name}-{index}"), &host, &name, edition);
    }
    fs::write(application_file(folder, &name), text)
}

/// The host of a route of an application.
pub fn application_host(number: usize, index: usize) -> String {
    format!("r{index}.app-{number:04}.example.test")
}

fn application_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("applications").join(format!("{name}.yaml"))
}

fn gateway(site: &Site) -> String {
    let certificate = indented(&site.certificate.chain_pem);
    let key = indented(&site.certificate.key_pem);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata:
  name: cutwater
spec:
  controllerName: cutwater.dev/gateway
---
apiVersion: v1
kind: Secret
metadata:
  name: bench
  namespace: default
type: kubernetes.io/tls
stringData:
  tls.crt: |
{certificate}
  tls.key: |
{key}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: bench
  namespace: default
spec:
  gatewayClassName: cutwater
  listeners:
    - name: http
      port: 80
      protocol: HTTP
    - name: https
      port: 443
      protocol: HTTPS
      tls:
        mode: Terminate
        certificateRefs:
          - name: bench
"
    )
}

fn service(name: &str, origin: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
spec:
  ports:
    - name: http
      port: 80
      targetPort: {port}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: default
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
  - name: http
    port: {port}
    protocol: TCP
endpoints:
  - addresses: [\"{address}\"]
    conditions:
      ready: true
",
        port = origin.port(),
        address = origin.ip(),
    )
}

fn route(name: &str, host: &str, service: &str, edition: usize) -> String {
    let filters = if edition == 0 {
        String::new()
    } else {
        format!(
            "
      filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier:
            set:
              - name: x-edition
                value: \"{edition}\""
        )
    };
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
  namespace: default
spec:
  parentRefs:
    - name: bench
  hostnames:
    - {host}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: /
      backendRefs:
        - name: {service}
          port: 80{filters}
"
    )
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
