//! The nameserver on a thread of its own, so that neither admin work nor a reload delays an answer.

use nameserver::{Counters, Service, Sockets};
use publish::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;
use zone::Zones;

pub struct DnsServer {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    /// Second descriptors, for another process.
    sockets: Sockets,
}

impl DnsServer {
    /// Nothing is read from the sockets before `opened` is true.
    pub fn start(
        sockets: Sockets,
        zones: &Cell<Zones>,
        counters: Arc<Counters>,
        opened: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let kept = sockets.try_clone()?;
        let (stop, stopped) = watch::channel(false);
        let service = Service::new(zones.clone(), counters, stopped);
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            if let Err(error) = serve(sockets, &service, opened) {
                tracing::error!("the nameserver ended: {error}");
            }
        })?;
        Ok(DnsServer { stop, thread, sockets: kept })
    }

    /// Descriptors of all sockets, for another process to take over.
    pub fn sockets(&self) -> io::Result<Sockets> {
        self.sockets.try_clone()
    }

    /// Queries that were read are answered first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of the thread has been printed; there is nothing left to wait for.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// Why the DNS port is not bound, with the option that mends it: the same as for the other ports.
pub fn fault(bind: IpAddr, port: u16, offset: u16, error: &io::Error) -> String {
    let place = match offset {
        0 => format!("DNS port {port}"),
        _ => format!("DNS port {port} + offset {offset} = {}", port.saturating_add(offset)),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{place} is in use; use --port-offset"),
        io::ErrorKind::PermissionDenied => {
            format!("{place} may not be bound by this user; use a larger --port-offset")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{place}: {bind} is no address of this machine; use --bind")
        }
        _ => format!("{place} on {bind} cannot be bound: {error}"),
    }
}

/// UDP and TCP on the address: taken over where they are bound already, else bound.
pub fn bind(address: SocketAddr, inherited: Option<Sockets>) -> io::Result<Sockets> {
    match inherited {
        Some(sockets) if sockets.addresses() == [address] => Ok(sockets),
        _ => Sockets::bind(&[address], 1).map_err(|error| match error {
            nameserver::Error::Bind { cause, .. } => cause,
        }),
    }
}

fn serve(sockets: Sockets, service: &Service, mut opened: watch::Receiver<bool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = service.stop.clone();
    runtime.block_on(async {
        // The end of a sender says stop as well.
        tokio::select! {
            _ = opened.wait_for(|is_open| *is_open) => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => return Ok(()),
        }
        sockets.serve(service)?.finished().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_option_that_mends_it() {
        // RFC 5737: an address of no machine.
        let bind: IpAddr = [203, 0, 113, 9].into();
        let Err(error) = super::bind((bind, 0).into(), None) else {
            panic!("the address is not ours")
        };
        let expected = "DNS port 53 + offset 8000 = 8053: 203.0.113.9 is no address of this machine; use --bind";
        assert_eq!(fault(bind, 53, 8_000, &error), expected);
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(fault(bind, 53, 0, &in_use), "DNS port 53 is in use; use --port-offset");
    }
}
