//! Tells systemd, where it started us, which process is the service and that it serves (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Every worker serves.
pub fn ready() {
    notify("READY=1");
}

/// Another process is the service from now on.
pub fn main_process(id: u32) {
    notify(&format!("MAINPID={id}"));
}

pub fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, state) {
        tracing::warn!("the service manager was not told {state}: {error}");
    }
}

fn send(address: &OsStr, state: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        // A name that is no path.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let name = format!("cutwater-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = [
            (UnixDatagram::bind(&path).expect("bound"), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).expect("bound"), format!("@{name}").into()),
        ];
        for (socket, address) in sockets {
            send(&address, "READY=1").expect("sent");
            let mut bytes = [0; 32];
            let length = socket.recv(&mut bytes).expect("received");
            assert_eq!(&bytes[..length], b"READY=1");
        }
        std::fs::remove_file(path).expect("it was made");
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
