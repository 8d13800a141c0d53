//! HAProxy as a peer: one thread, keep-alive on both sides, the same times as Cutwater where it needs some.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Backend, MOVED, Ports, Site};

pub fn command(folder: &Path, site: &Site, ports: Ports) -> Result<Command> {
    peers::servers::haproxy(folder, &configuration(folder, site, ports))
}

fn configuration(folder: &Path, site: &Site, ports: Ports) -> String {
    let uses: String = site
        .backends
        .iter()
        .map(|backend| {
            let (label, host) = (backend.label(), &backend.host);
            format!("    use_backend {label} if {{ req.hdr(host) -i {host} }}\n")
        })
        .collect();
    let backends: String = site.backends.iter().map(backend_section).collect();
    format!(
        "defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 30s
    timeout http-request 10s
    timeout http-keep-alive 60s
    option redispatch
    http-reuse safe
frontend site
    bind {http}
    bind {h2c} proto h2
    bind {https} ssl crt {folder}/both.pem alpn h2,http/1.1
    http-request redirect location /elsewhere code 302 if {{ path {MOVED} }}
{uses}{backends}",
        folder = folder.display(),
        http = ports.http,
        h2c = ports.h2c,
        https = ports.https,
    )
}

fn backend_section(backend: &Backend) -> String {
    let mut text =
        format!("backend {}\n    timeout server {}s\n", backend.label(), backend.attempt_timeout_s);
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        text += &format!("    server {index} {endpoint}\n");
    }
    text
}
