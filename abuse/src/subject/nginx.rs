//! nginx as a peer: one worker, keep-alive on both sides, otherwise its defaults.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Backend, MOVED, Ports, Site};

pub fn command(folder: &Path, site: &Site, ports: Ports) -> Result<Command> {
    peers::servers::nginx(folder, &configuration(folder, site, ports))
}

fn configuration(folder: &Path, site: &Site, ports: Ports) -> String {
    let servers = site.backends.iter().enumerate();
    let servers: String =
        servers.map(|(index, backend)| server(backend, ports, index == 0)).collect();
    let folder = folder.display();
    format!(
        "    ssl_certificate {folder}/chain.pem;
    ssl_certificate_key {folder}/key.pem;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $host;
{servers}"
    )
}

/// Options of a port may be set once only: the first server does.
fn server(backend: &Backend, ports: Ports, is_first: bool) -> String {
    let queue = if is_first { " backlog=4096" } else { "" };
    let endpoints: String =
        backend.endpoints.iter().map(|endpoint| format!("        server {endpoint};\n")).collect();
    format!(
        "    upstream {label} {{
{endpoints}        keepalive 256;
    }}
    server {{
        listen {http}{queue};
        listen {h2c} http2{queue};
        listen {https} ssl http2{queue};
        server_name {host};
        location = {MOVED} {{
            return 302 /elsewhere;
        }}
        location / {{
            proxy_pass http://{label};
            proxy_read_timeout {attempt}s;
        }}
    }}
",
        label = backend.label(),
        host = backend.host,
        attempt = backend.attempt_timeout_s,
        http = ports.http,
        h2c = ports.h2c,
        https = ports.https,
    )
}
