//! How an edge is set up, and why it may not start.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What does not change while an edge runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub bind: IpAddr,
    /// A listener on port P is bound to P plus this.
    pub port_offset: u16,
    /// Threads that serve; at least one.
    pub workers: usize,
}

impl Config {
    /// Where a listener's port is bound; none when the sum is no port.
    pub fn bound_port(&self, port: u16) -> Option<u16> {
        port.checked_add(self.port_offset)
    }

    pub(crate) fn address(&self, port: u16) -> Option<SocketAddr> {
        self.bound_port(port).map(|port| SocketAddr::new(self.bind, port))
    }
}

/// A port that could not be bound, with the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindFault {
    /// Ports of TCP and those of UDP have nothing to do with each other.
    pub is_udp: bool,
    /// As written in the plan.
    pub port: u16,
    pub message: String,
}

impl BindFault {
    pub(crate) fn no_such_port(config: &Config, is_udp: bool, port: u16) -> BindFault {
        let (of, offset) = (kind(is_udp), config.port_offset);
        let message = format!(
            "{of}port {port} + offset {offset} is more than 65535; use a smaller --port-offset"
        );
        BindFault { is_udp, port, message }
    }

    pub(crate) fn of(config: &Config, is_udp: bool, port: u16, error: &io::Error) -> BindFault {
        let (of, offset) = (kind(is_udp), config.port_offset);
        let bound = config.bound_port(port).unwrap_or_default();
        let place = match offset {
            0 => format!("{of}port {bound}"),
            _ => format!("{of}port {port} + offset {offset} = {bound}"),
        };
        let message = match error.kind() {
            io::ErrorKind::AddrInUse => format!("{place} is in use; use --port-offset"),
            io::ErrorKind::PermissionDenied => {
                format!("{place} may not be bound by this user; use a larger --port-offset")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("{} is no address of this machine; use --bind", config.bind)
            }
            _ => format!("{place} on {} cannot be bound: {error}", config.bind),
        };
        BindFault { is_udp, port, message }
    }
}

fn kind(is_udp: bool) -> &'static str {
    if is_udp { "UDP " } else { "" }
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why an edge did not start.
#[derive(Debug)]
pub enum StartError {
    /// Every port of the first view that could not be bound.
    Bind(Vec<BindFault>),
    /// A thread or its runtime could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Thread(error) => write!(f, "a worker thread could not start: {error}"),
            StartError::Bind(faults) => {
                let texts: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
                f.write_str(&texts.join("\n"))
            }
        }
    }
}

impl std::error::Error for StartError {}
