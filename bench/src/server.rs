//! A server under test: how one is started, found ready, measured and stopped. Each server has a
//! module that writes its configuration for the same work.

mod cutwater;
mod envoy;
mod haproxy;
mod nginx;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use cutwater::{AccessLog, Cutwater, Instance, folder};
pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use nginx::Nginx;

use crate::accounts::{Cpus, ProcessTree};
use crate::sys;
use crate::tls::Certificate;

/// What every server is told: where the origin is, which certificate to show, where to keep files.
pub struct Site {
    pub folder: PathBuf,
    pub origin: SocketAddr,
    pub certificate: Certificate,
    pub cpus: Cpus,
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
    child: Child,
    log: PathBuf,
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
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl Running {
    /// The processes of the server as they are now; some start their workers once they listen.
    pub fn processes(&self) -> ProcessTree {
        ProcessTree::of(self.child.id())
    }

    /// Starts `command` pinned to the server's CPU, with its messages in a file.
    fn spawn(command: &mut Command, site: &Site, ports: Ports) -> Result<Running> {
        let log = site.folder.join("messages");
        let messages = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(messages.try_clone()?).stderr(messages);
        sys::end_with_us(command);
        // A child inherits the CPUs of the thread that starts it.
        sys::pin(site.cpus.server)?;
        let child = command.spawn();
        sys::pin(site.cpus.generator)?;
        let child = child.with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Running { child, log, http: ports.http, https: ports.https })
    }

    /// Waits until `ready` says so.
    fn wait_until(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.last_messages());
            }
            if Instant::now() > end {
                bail!("it was not ready in {} s: {}", limit.as_secs(), self.last_messages());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_for_ports(&mut self) -> Result<()> {
        let (http, https) = (self.http, self.https);
        self.wait_until(READY_TIMEOUT, || accepts(http) && accepts(https))
    }

    fn last_messages(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or(&[]).join(" | ")
    }
}

impl Running {
    /// Ends the server and waits for it, so that what it writes at its end is there.
    pub fn end(mut self, limit: Duration) -> Result<()> {
        sys::terminate(self.child.id());
        if self.ends_within(limit) {
            return Ok(());
        }
        bail!("it did not end within {} s: {}", limit.as_secs(), self.last_messages());
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        sys::terminate(self.child.id());
        if !self.ends_within(STOP_TIMEOUT) {
            // Nothing can be done about a child that cannot even be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program of this name in PATH, or where Debian keeps daemons.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Installs a Debian package when this process may; an error says what to do instead.
pub fn install(package: &str) -> Result<()> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if !is_root || program("apt-get").is_none() {
        bail!("install it with `apt-get install {package}` (needs root and Debian)");
    }
    for arguments in [&["-qq", "update"][..], &["-qq", "-y", "install", package]] {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("`apt-get {}` failed ({status})", arguments.join(" "));
        }
    }
    Ok(())
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// A loopback port that nobody uses at the moment.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn free_ports() -> Result<Ports> {
    Ok(Ports { http: free_port()?, https: free_port()? })
}
