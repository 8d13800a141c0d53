//! What `cutwater up` was told, and why it could not start.

use model::facts::Locality;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Config {
    pub dir: PathBuf,
    pub bind: IpAddr,
    /// Added to every port of the manifests.
    pub port_offset: u16,
    /// What DNS answers for served names.
    pub advertise: Vec<IpAddr>,
    pub admin: SocketAddr,
    pub state: PathBuf,
    pub workers: usize,
    /// Nameservers that are asked for names of ExternalName Services; none for those of the system.
    pub resolver: Vec<SocketAddr>,
    /// Where this instance runs, so that near endpoints can come first.
    pub here: Locality,
    pub access_log: AccessLogTo,
    pub echo: bool,
    /// Diagnostics on standard error may be coloured.
    pub is_coloured: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    Off,
    Stdout,
    File(PathBuf),
}

/// Why an instance does not start. Each says what mends it.
#[derive(Debug)]
pub enum StartError {
    Folder(folder::Unreadable),
    State(certs::Error),
    Admin(SocketAddr, io::Error),
    /// Ports that could not be bound, each in one sentence.
    Ports(Vec<String>),
    AccessLog(PathBuf, io::Error),
    /// The folder has a mistake, and another process serves its last good state.
    HeldBack(String),
    /// Not every worker took the first snapshot.
    Unserved(usize, usize),
    /// The system refused something that every process needs.
    System(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Folder(error) => error.fmt(f),
            StartError::State(error) => {
                write!(f, "{error}; choose another state folder with --state")
            }
            StartError::Admin(address, error) => {
                write!(
                    f,
                    "the admin address {address} cannot be bound: {error}; choose another with --admin"
                )
            }
            StartError::Ports(faults) => f.write_str(&faults.join("\n")),
            StartError::AccessLog(path, error) => {
                write!(
                    f,
                    "the access log {} cannot be written: {error}; choose another with --access-log",
                    path.display()
                )
            }
            StartError::HeldBack(count) => {
                write!(f, "the folder is held back ({count}); see `cutwater check`")
            }
            StartError::Unserved(done, of) => {
                write!(f, "{done} of {of} workers serve the snapshot")
            }
            StartError::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
