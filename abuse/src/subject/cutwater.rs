//! Cutwater as the server under abuse: a folder of manifests, and the real binary on it.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use testkit::Instance;
use testkit::instance::Plan;

use super::{Backend, Certificate, MOVED, Ports, Site};

pub fn start(folder: &Path, site: &Site) -> Result<(Instance, Ports)> {
    let manifests = folder.join("manifests");
    fs::create_dir_all(&manifests)?;
    fs::write(manifests.join("gateway.yaml"), GATEWAY)?;
    write_certificate(folder, &site.certificate)?;
    for backend in &site.backends {
        write_backend(folder, backend, 0)?;
    }
    let instance = Instance::start(&Plan::new(manifests)).map_err(|error| anyhow!(error))?;
    let ports =
        Ports { http: instance.bound(80), h2c: instance.bound(80), https: instance.bound(443) };
    Ok((instance, ports))
}

/// The certificate of the HTTPS listener; replaced whole, as a tool that renews would.
pub fn write_certificate(folder: &Path, certificate: &Certificate) -> Result<()> {
    let (chain, key) = (indented(&certificate.chain_pem), indented(&certificate.key_pem));
    let text = format!(
        "apiVersion: v1
kind: Secret
metadata: {{ name: site, namespace: default }}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{chain}
  tls.key: |
{key}
"
    );
    replace(folder, "certificate.yaml", &text)
}

/// A backend with its route; answers carry the edition where it is not 0.
pub fn write_backend(folder: &Path, backend: &Backend, edition: usize) -> Result<()> {
    let name = backend.label();
    let text = services(backend, name) + &route(backend, name, edition);
    replace(folder, &format!("{name}.yaml"), &text)
}

/// A reader sees the old file or the new one.
fn replace(folder: &Path, name: &str, text: &str) -> Result<()> {
    let new = folder.join("new");
    fs::write(&new, text)?;
    fs::rename(&new, folder.join("manifests").join(name))?;
    Ok(())
}

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: cutwater }
spec: { controllerName: cutwater.dev/gateway }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: site, namespace: default }
spec:
  gatewayClassName: cutwater
  listeners:
    - { name: http, port: 80, protocol: HTTP }
    - name: https
      port: 443
      protocol: HTTPS
      tls:
        mode: Terminate
        certificateRefs: [{ name: site }]
";

/// One Service, with a slice for each endpoint: the ports differ.
fn services(backend: &Backend, name: &str) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: default }}
spec:
  ports: [{{ name: http, port: 80 }}]
---
"
    );
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        text += &format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{index}
  namespace: default
  labels: {{ kubernetes.io/service-name: {name} }}
addressType: IPv4
ports: [{{ name: http, port: {port}, protocol: TCP }}]
endpoints: [{{ addresses: [\"{address}\"], conditions: {{ ready: true }} }}]
---
",
            port = endpoint.port(),
            address = endpoint.ip(),
        );
    }
    text
}

fn route(backend: &Backend, name: &str, edition: usize) -> String {
    let filters = match edition {
        0 => String::new(),
        _ => format!(
            "
      filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {{ set: [{{ name: x-edition, value: \"{edition}\" }}] }}"
        ),
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name}, namespace: default }}
spec:
  parentRefs: [{{ name: site }}]
  hostnames: [{host}]
  rules:
    - matches: [{{ path: {{ type: Exact, value: {MOVED} }} }}]
      filters:
        - type: RequestRedirect
          requestRedirect: {{ path: {{ type: ReplaceFullPath, replaceFullPath: /elsewhere }} }}
    - matches: [{{ path: {{ type: PathPrefix, value: / }} }}]
      timeouts: {{ backendRequest: {attempt}s }}
      backendRefs: [{{ name: {name}, port: 80 }}]{filters}
",
        host = backend.host,
        attempt = backend.attempt_timeout_s,
    )
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
