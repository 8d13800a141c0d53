//! nginx as a peer: one worker, keep-alive on both sides, forwarded headers, no access log.

use std::fs;

use anyhow::Result;

use super::{Ports, Running, Server, Site, free_ports};

pub struct Nginx;

impl Server for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn missing(&self) -> Option<String> {
        if peers::program("nginx").is_some() {
            return None;
        }
        peers::install("nginx-light").err().map(|error| format!("nginx is not installed: {error}"))
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let ports = free_ports()?;
        fs::write(site.folder.join("chain.pem"), &site.certificate.chain_pem)?;
        fs::write(site.folder.join("key.pem"), &site.certificate.key_pem)?;
        let file = site.folder.join("nginx.conf");
        fs::write(&file, configuration(site, ports))?;
        let mut command = peers::command("nginx")?;
        command.arg("-p").arg(&site.folder).arg("-c").arg(&file).args(["-e", "stderr"]);
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
        "daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
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
}}
",
        origin = site.origin,
        http = ports.http,
        https = ports.https,
        host = crate::http::HOST,
    )
}
