//! What can go wrong while sockets are bound.

use std::fmt;
use std::io;
use std::net::SocketAddr;

#[derive(Debug)]
pub enum Error {
    /// The address is taken, not ours, or needs a right that the process lacks.
    Bind { address: SocketAddr, transport: &'static str, cause: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error::Bind { address, transport, cause } = self;
        write!(f, "the nameserver cannot listen on {address} ({transport}): {cause}; ")?;
        f.write_str(match cause.kind() {
            io::ErrorKind::AddrInUse => {
                "end the program that holds the port, or choose another one"
            }
            io::ErrorKind::PermissionDenied => {
                "choose a port from 1024 on, or give the process CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
            _ => "choose another address",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let Error::Bind { cause, .. } = self;
        Some(cause)
    }
}
