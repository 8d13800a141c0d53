//! A server under abuse: Cutwater, nginx or HAProxy, set up for the same site, one worker each; its descriptors, its
//! memory and its health.

mod cutwater;
mod haproxy;
mod nginx;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use peers::usage::ProcessTree;
use tempfile::TempDir;
use testkit::{Instance, free_port};

use crate::origin::lock;

pub use cutwater::{write_backend, write_certificate};

const READY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Cutwater,
    Nginx,
    Haproxy,
}

impl Kind {
    pub const ALL: &[Kind] = &[Kind::Cutwater, Kind::Nginx, Kind::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Cutwater => "cutwater",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }
}

/// What every server is told to serve.
pub struct Site {
    pub backends: Vec<Backend>,
    pub certificate: Certificate,
}

/// A host, over HTTP and HTTPS, and its endpoints.
pub struct Backend {
    /// Its first label names objects too.
    pub host: String,
    pub endpoints: Vec<SocketAddr>,
    /// What an origin has for one attempt.
    pub attempt_timeout_s: u32,
}

pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
}

/// The host of good traffic.
pub const GOOD: &str = "good.test";
/// The host that a program abuses.
pub const ABUSED: &str = "abused.test";
/// A path of every host that the server itself answers, with a redirect.
pub const MOVED: &str = "/moved";
const ATTEMPT_TIMEOUT_S: u32 = 30;

impl Backend {
    pub fn new(host: impl Into<String>, endpoints: impl Into<Vec<SocketAddr>>) -> Backend {
        let attempt_timeout_s = ATTEMPT_TIMEOUT_S;
        Backend { host: host.into(), endpoints: endpoints.into(), attempt_timeout_s }
    }

    pub fn label(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }
}

impl Site {
    pub fn new(backends: Vec<Backend>) -> Result<Site> {
        let names: Vec<String> = backends.iter().map(|backend| backend.host.clone()).collect();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let chain = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
        let certificate = Certificate { chain_pem: chain.pem(), key_pem: key.serialize_pem() };
        Ok(Site { backends, certificate })
    }

    /// One origin for good traffic, one to abuse.
    pub fn of_two(good: SocketAddr, abused: SocketAddr) -> Result<Site> {
        Site::new(vec![Backend::new(GOOD, [good]), Backend::new(ABUSED, [abused])])
    }
}

/// Where a server listens.
#[derive(Clone, Copy)]
pub struct Ports {
    pub http: SocketAddr,
    /// HTTP/2 with prior knowledge.
    pub h2c: SocketAddr,
    pub https: SocketAddr,
}

pub struct Subject {
    pub kind: Kind,
    pub ports: Ports,
    pub folder: TempDir,
    process: Process,
}

enum Process {
    /// An upgrade puts another process in its place.
    Cutwater(Mutex<Box<Instance>>),
    Peer(peers::Process),
}

/// What a server holds, with all its processes.
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    pub descriptors: u64,
    pub resident_kib: u64,
}

impl Subject {
    pub fn start(kind: Kind, site: &Site) -> Result<Subject> {
        let folder = tempfile::tempdir()?;
        if kind == Kind::Cutwater {
            let (instance, ports) = cutwater::start(folder.path(), site)?;
            let process = Process::Cutwater(Mutex::new(Box::new(instance)));
            return Ok(Subject { kind, ports, folder, process });
        }
        let ports = Ports { http: free()?, h2c: free()?, https: free()? };
        let Certificate { chain_pem, key_pem } = &site.certificate;
        peers::servers::write_certificate(folder.path(), chain_pem, key_pem)?;
        let mut command = match kind {
            Kind::Nginx => nginx::command(folder.path(), site, ports)?,
            _ => haproxy::command(folder.path(), site, ports)?,
        };
        let mut peer = peers::Process::start(&mut command, folder.path().join("messages"))?;
        let started = peer.await_ports(&[ports.http, ports.h2c, ports.https], READY);
        started.with_context(|| format!("{} did not start", kind.name()))?;
        Ok(Subject { kind, ports, folder, process: Process::Peer(peer) })
    }

    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub fn process_id(&self) -> u32 {
        match &self.process {
            Process::Cutwater(instance) => lock(instance).process_id(),
            Process::Peer(peer) => peer.id(),
        }
    }

    /// Has a new process of the binary take over.
    pub fn upgrade(&self) -> Result<()> {
        match &self.process {
            Process::Cutwater(instance) => lock(instance).upgrade().map_err(|error| anyhow!(error)),
            Process::Peer(_) => bail!("{} is not upgraded here", self.name()),
        }
    }

    /// Waits until every process that was replaced has ended, in peace.
    pub fn await_replaced(&self, limit: Duration) -> Result<()> {
        match &self.process {
            Process::Cutwater(instance) => {
                lock(instance).await_replaced(limit).map_err(|error| anyhow!(error))
            }
            Process::Peer(_) => Ok(()),
        }
    }

    pub fn vitals(&self) -> Result<Vitals> {
        let processes = ProcessTree::of(self.process_id());
        match processes.resident_kib() {
            None => bail!("{} runs no more: {}", self.name(), last_lines(&self.printed())),
            Some(resident_kib) => {
                Ok(Vitals { descriptors: processes.descriptors() as u64, resident_kib })
            }
        }
    }

    /// An error says what is wrong with the process.
    pub fn health(&self) -> Result<(), String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process_id()));
        let state = stat.ok().and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with('Z')));
        let printed = self.printed();
        const BAD: &[&str] = &["panicked at", "exited on signal", "[alert]", "RUST_BACKTRACE"];
        let bad = printed.lines().find(|line| BAD.iter().any(|bad| line.contains(bad)));
        match (state, bad) {
            (None | Some(true), _) => Err(format!("it ended: {}", last_lines(&printed))),
            (_, Some(line)) => Err(line.to_owned()),
            _ => Ok(()),
        }
    }

    pub fn printed(&self) -> String {
        match &self.process {
            Process::Cutwater(instance) => lock(instance).printed(),
            Process::Peer(peer) => peer.printed(),
        }
    }
}

pub fn free() -> Result<SocketAddr> {
    let port = free_port().map_err(|error| anyhow!(error))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ")
}
