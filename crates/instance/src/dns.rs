//! The nameserver on a thread of its own, so that neither admin work nor a reload delays an answer.

use nameserver::{Counters, Service, Sockets};
use publish::Cell;
use std::io;
use std::net::SocketAddr;
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
    ) -> Result<Self, String> {
        let kept = sockets.try_clone().map_err(|error| error.to_string())?;
        let (stop, stopped) = watch::channel(false);
        let service = Service::new(zones.clone(), counters, stopped);
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                if let Err(error) = serve(sockets, &service, opened) {
                    tracing::error!("the nameserver ended: {error}");
                }
            })
            .map_err(|error| error.to_string())?;
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

/// UDP and TCP on the address: taken over where they are bound already, else bound.
pub fn bind(address: SocketAddr, inherited: Option<Sockets>) -> Result<Sockets, String> {
    match inherited {
        Some(sockets) if sockets.addresses() == [address] => Ok(sockets),
        _ => Sockets::bind(&[address], 1).map_err(|error| match error {
            nameserver::Error::Bind { transport, cause, .. } => {
                format!("{transport} on {address}: {cause}")
            }
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
