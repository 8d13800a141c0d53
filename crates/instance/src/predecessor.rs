//! The new side of an upgrade: takes the sockets of the process that started this one, and says when it may end.

use crate::handover::{Channel, Handed, VARIABLE, VERSION};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// The old process sends at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that this one replaces, until it has let go.
pub struct Predecessor(Channel);

impl Predecessor {
    /// None for a process that a person or a service manager started.
    pub async fn find() -> io::Result<Option<(Predecessor, Handed)>> {
        let Some(version) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let channel = Channel::new(take_standard_input()?)?;
        if version != VERSION {
            let version = version.to_string_lossy();
            let why = format!("it speaks hand-over {VERSION}, and was asked for {version}");
            channel.send("failed", &why).await?;
            return Err(io::Error::other(why));
        }
        match tokio::time::timeout(PATIENCE, channel.receive_sockets()).await {
            Ok(Ok(handed)) => Ok(Some((Predecessor(channel), handed))),
            Ok(Err(error)) => {
                // Whether it still listens shows by itself.
                let _ = channel.send("failed", &error.to_string()).await;
                Err(error)
            }
            Err(_) => Err(io::Error::other("no sockets came from the process that started it")),
        }
    }

    /// Waits until the old process accepts no more. One that has died accepts no more either.
    pub async fn take_over(&self) {
        if self.0.send("ready", env!("CARGO_PKG_VERSION")).await.is_ok() {
            let _ = self.0.receive().await;
        }
    }

    /// Says why the old process must serve on.
    pub async fn fail(&self, why: &str) {
        // One that is gone cannot be told; this process ends either way.
        let _ = self.0.send("failed", why).await;
    }
}

/// The socket moves off descriptor 0, where nothing is read from again.
fn take_standard_input() -> io::Result<std::os::fd::OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
