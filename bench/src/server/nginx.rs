//! nginx as a peer: one worker, keep-alive on both sides, forwarded headers, no access log.

use anyhow::Result;

use super::{Ports, Running, Server, Site, free_ports, not_installed};

pub struct Nginx;

impl Server for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn missing(&self) -> Option<String> {
        not_installed("nginx")
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let ports = free_ports()?;
        site.write_certificate()?;
        let mut command = peers::servers::nginx(&site.folder, &configuration(site, ports))?;
        let mut running = Running::spawn(&mut command, site, ports)?;
        running.wait_for_ports()?;
        Ok(running)
    }
}

/// `proxy_max_temp_file_size 0`: a large answer goes through memory as it does elsewhere, not
/// through a file; a request's body is passed on as it comes, as elsewhere. Tickets off: no server gets cheaper handshakes than another.
fn configuration(site: &Site, ports: Ports) -> String {
    let folder = site.folder.display();
    format!(
        "    keepalive_timeout 3600s;
    client_max_body_size 0;
    map $http_upgrade $connection_to_origin {{
        default upgrade;
        '' '';
    }}
    upstream origin {{
        server {origin};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen {http} backlog=4096;
        listen {https} ssl http2 backlog=4096;
        server_name {host};
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_to_origin;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 128k;
        }}
    }}
",
        origin = site.origin,
        http = ports.http,
        https = ports.https,
        host = crate::http::HOST,
    )
}
