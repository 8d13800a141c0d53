//! HAProxy as a peer: one thread, keep-alive on both sides, forwarded headers, no log.

use anyhow::Result;

use super::{Ports, Running, Server, Site, free_ports, not_installed};

pub struct Haproxy;

impl Server for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn missing(&self) -> Option<String> {
        not_installed("haproxy")
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let ports = free_ports()?;
        site.write_certificate()?;
        let mut command = peers::servers::haproxy(&site.folder, &configuration(site, ports))?;
        let mut running = Running::spawn(&mut command, site, ports)?;
        running.wait_for_ports()?;
        Ok(running)
    }
}

/// `http-reuse always`: any idle connection to the origin serves any client, as in the others.
fn configuration(site: &Site, ports: Ports) -> String {
    format!(
        "defaults
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
