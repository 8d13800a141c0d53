//! HAProxy as a peer: one thread, keep-alive on both sides, forwarded headers, no log.

use std::fs;

use anyhow::Result;

use super::{Ports, Running, Server, Site, free_ports};

pub struct Haproxy;

impl Server for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn missing(&self) -> Option<String> {
        if peers::program("haproxy").is_some() {
            return None;
        }
        peers::install("haproxy").err().map(|error| format!("HAProxy is not installed: {error}"))
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let ports = free_ports()?;
        let both = format!("{}{}", site.certificate.chain_pem, site.certificate.key_pem);
        fs::write(site.folder.join("both.pem"), both)?;
        let file = site.folder.join("haproxy.cfg");
        fs::write(&file, configuration(site, ports))?;
        let mut command = peers::command("haproxy")?;
        command.arg("-db").arg("-f").arg(&file);
        let mut running = Running::spawn(&mut command, site, ports)?;
        running.wait_for_ports()?;
        Ok(running)
    }
}

/// `http-reuse always`: any idle connection to the origin serves any client, as in the others.
fn configuration(site: &Site, ports: Ports) -> String {
    format!(
        "global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend bench
    bind {http}
    bind {https} ssl crt {folder}/both.pem ssl-min-ver TLSv1.3 no-tls-tickets alpn h2,http/1.1
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    use_backend origin if {{ req.hdr(host) -i {host} }}
backend origin
    server origin {origin} pool-purge-delay 3600s
",
        folder = site.folder.display(),
        origin = site.origin,
        http = ports.http,
        https = ports.https,
        host = crate::http::HOST,
    )
}
