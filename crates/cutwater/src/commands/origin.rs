//! `cutwater origin`: the echo origin on its own.

use crate::cli::Origin;
use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

pub fn run(arguments: Origin) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(arguments.listen).await.with_context(|| {
                format!("cannot listen on {}; choose another with --listen", arguments.listen)
            })?;
        eprintln!("origin {} listens on {}", arguments.name, listener.local_addr()?);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        origin::serve(listener, origin::Options { name: arguments.name }, stop).await;
        Ok(0)
    })
}
