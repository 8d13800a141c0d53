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
}

impl DnsServer {
    /// Binds before it returns.
    pub fn start(
        address: SocketAddr,
        zones: &Cell<Zones>,
        counters: Arc<Counters>,
    ) -> Result<Self, String> {
        let sockets = Sockets::bind(&[address], 1).map_err(|error| match error {
            nameserver::Error::Bind { transport, cause, .. } => {
                format!("{transport} on {address}: {cause}")
            }
        })?;
        let (stop, stopped) = watch::channel(false);
        let service = Service::new(zones.clone(), counters, stopped);
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                if let Err(error) = serve(sockets, &service) {
                    tracing::error!("the nameserver ended: {error}");
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(DnsServer { stop, thread })
    }

    /// Queries that were read are answered first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of the thread has been printed; there is nothing left to wait for.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

fn serve(sockets: Sockets, service: &Service) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        sockets.serve(service)?.finished().await;
        Ok(())
    })
}
