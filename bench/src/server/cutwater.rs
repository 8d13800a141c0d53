//! Cutwater under test: `cutwater up` on a folder that this module writes.

pub mod folder;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Ports, Running, Server, Site, free_port};

pub struct Cutwater {
    program: PathBuf,
}

/// A started Cutwater, with what only it has.
pub struct Instance {
    pub running: Running,
    admin: SocketAddr,
}

/// Where the access log goes: nowhere, or to a file of the run.
#[derive(Clone, Copy)]
pub enum AccessLog {
    Off,
    On,
}

/// Ten thousand routes may take longer than a good compiler needs; the figure is printed anyway.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const DNS_PORT: u16 = 53;

impl Server for Cutwater {
    fn name(&self) -> &'static str {
        "cutwater"
    }

    fn missing(&self) -> Option<String> {
        (!self.program.is_file()).then(|| {
            format!(
                "{} does not exist: build it with `cargo build --release -p cutwater`, \
                 or say where it is with --cutwater",
                self.program.display()
            )
        })
    }

    fn start(&self, site: &Site) -> Result<Running> {
        let manifests = site.folder.join("manifests");
        folder::write_bench(&manifests, site)?;
        Ok(self.up(&manifests, site)?.running)
    }
}

impl Cutwater {
    pub fn at(program: PathBuf) -> Cutwater {
        Cutwater { program }
    }

    /// Serves a folder of manifests with one worker, and waits until it does.
    pub fn up(&self, manifests: &Path, site: &Site) -> Result<Instance> {
        self.up_with(manifests, site, 1, AccessLog::Off)
    }

    pub fn up_with(
        &self,
        manifests: &Path,
        site: &Site,
        workers: usize,
        log: AccessLog,
    ) -> Result<Instance> {
        self.spawn(peers::ends_with_us(&self.program), manifests, site, workers, log)
    }

    /// With one worker, its instructions counted; the profile is written when it ends.
    pub fn up_in_callgrind(
        &self,
        manifests: &Path,
        site: &Site,
        profile: &Path,
    ) -> Result<Instance> {
        let mut command = peers::command("valgrind").context("it counts the instructions")?;
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", profile.display()));
        command.arg(&self.program);
        self.spawn(command, manifests, site, 1, AccessLog::Off)
    }

    fn spawn(
        &self,
        mut command: Command,
        manifests: &Path,
        site: &Site,
        workers: usize,
        log: AccessLog,
    ) -> Result<Instance> {
        let (offset, ports) = free_offset()?;
        let admin = free_port()?;
        command.arg("up").arg(manifests);
        command.args(["--port-offset", &offset.to_string(), "--admin", &admin.to_string()]);
        command.arg("--state").arg(site.folder.join("state"));
        command.args(["--workers", &workers.to_string(), "--access-log"]);
        match log {
            AccessLog::Off => command.arg("off"),
            AccessLog::On => command.arg(site.folder.join("access-log")),
        };
        let mut running = Running::spawn(&mut command, site, ports)?;
        running.process.await_ready(READY_TIMEOUT, || {
            matches!(ask(admin, "/readyz"), Ok((200, _))) && peers::accepts(ports.http)
        })?;
        Ok(Instance { running, admin })
    }
}

impl Instance {
    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = ask(self.admin, "/metrics")?;
        if status != 200 {
            bail!("/metrics of the admin address answered {status}");
        }
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
            .with_context(|| format!("/metrics of the admin address has no {name}"))
    }
}

/// Status and body of one request to the admin address.
fn ask(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, and is not chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((status.context("the admin address does not answer in HTTP")?, body.to_owned()))
}

/// An offset at which every port of the folder is free.
fn free_offset() -> Result<(u16, Ports)> {
    for _ in 0..100 {
        let offset = free_port()?.port().saturating_sub(HTTPS_PORT);
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, offset.saturating_add(port)));
        let wanted = [at(DNS_PORT), at(HTTP_PORT), at(HTTPS_PORT)];
        if wanted.iter().all(|&address| TcpListener::bind(address).is_ok()) {
            return Ok((offset, Ports { http: at(HTTP_PORT), https: at(HTTPS_PORT) }));
        }
    }
    bail!("no free ports for listeners on 80 and 443 with an offset")
}
