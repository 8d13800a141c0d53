//! A server under test: how one is started, found ready, measured and stopped. Each server has a
//! module that writes its configuration for the same work.

mod cutwater;
mod envoy;
mod haproxy;
mod nginx;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use peers::Process;
use peers::usage::ProcessTree;

pub use cutwater::{AccessLog, Cutwater, Instance, folder};
pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use nginx::Nginx;

use crate::accounts::Cpus;
use crate::sys;
use crate::tls::Certificate;

/// What every server is told: where the origin is, which certificate to show, where to keep files.
pub struct Site {
    pub folder: PathBuf,
    pub origin: SocketAddr,
    pub certificate: Certificate,
    pub cpus: Cpus,
}

impl Site {
    fn write_certificate(&self) -> std::io::Result<()> {
        let Certificate { chain_pem, key_pem, .. } = &self.certificate;
        peers::servers::write_certificate(&self.folder, chain_pem, key_pem)
    }
}

pub trait Server {
    fn name(&self) -> &'static str;

    /// What is to be done when the program is not there; `None` when it is.
    fn missing(&self) -> Option<String>;

    /// Starts the server on the server's CPU and waits until it answers on its ports.
    fn start(&self, site: &Site) -> Result<Running>;
}

/// A started server. Stopped when dropped.
pub struct Running {
    process: Process,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

/// The loopback ports that a server is given.
#[derive(Clone, Copy)]
pub struct Ports {
    pub http: SocketAddr,
    pub https: SocketAddr,
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);

impl Running {
    /// The processes of the server as they are now; some start their workers once they listen.
    pub fn processes(&self) -> ProcessTree {
        ProcessTree::of(self.process.id())
    }

    /// Starts `command` pinned to the server's CPU.
    fn spawn(command: &mut Command, site: &Site, ports: Ports) -> Result<Running> {
        // A child inherits the CPUs of the thread that starts it.
        sys::pin(site.cpus.server)?;
        let process = Process::start(command, site.folder.join("messages"));
        sys::pin(site.cpus.generator)?;
        Ok(Running { process: process?, http: ports.http, https: ports.https })
    }

    fn wait_for_ports(&mut self) -> Result<()> {
        self.process.await_ports(&[self.http, self.https], READY_TIMEOUT)
    }

    /// Ends the server and waits for it, so that what it writes at its end is there.
    pub fn end(self, limit: Duration) -> Result<()> {
        self.process.end(limit)
    }
}

/// Why a peer cannot be started: it is not there.
fn not_installed(program: &str) -> Option<String> {
    peers::command(program).err().map(|error| error.to_string())
}

/// A loopback port that nobody uses at the moment.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn free_ports() -> Result<Ports> {
    Ok(Ports { http: free_port()?, https: free_port()? })
}
