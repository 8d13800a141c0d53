//! The old side of an upgrade: starts the program anew, hands every socket to it, and learns whether it serves.

use crate::handover::{Channel, Handed, VARIABLE, VERSION};
use model::limits;
use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};

const PATIENCE: Duration = Duration::from_millis(limits::HANDOVER_TIMEOUT_MS);
/// A process that closed its socket has ended, or is about to.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// What became of an upgrade that succeeded.
#[derive(Clone, Debug)]
pub struct Upgraded {
    pub old_process: u32,
    pub new_process: u32,
    pub new_version: String,
    pub elapsed: Duration,
}

/// Whoever asked by the admin address, and waits.
pub type Ask = oneshot::Sender<Result<Upgraded, String>>;

/// The way to ask, one at a time.
pub struct Asker(Mutex<mpsc::Sender<Ask>>);

impl Asker {
    /// And where asks arrive.
    pub fn new() -> (Asker, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(1);
        (Asker(Mutex::new(sender)), asks)
    }

    /// Asks for an upgrade, and waits for what became of it.
    pub async fn ask(&self) -> Result<Upgraded, String> {
        let running = || "an upgrade runs already".to_owned();
        let asks = self.0.try_lock().map_err(|_| running())?;
        let (answer, answered) = oneshot::channel();
        asks.try_send(answer).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => running(),
            mpsc::error::TrySendError::Closed(_) => "this process ends already".to_owned(),
        })?;
        answered.await.unwrap_or_else(|_| Err("this process ends before it was done".to_owned()))
    }
}

/// A new process that has not taken over yet. Dropped, it is ended.
pub struct Successor {
    child: Option<Child>,
    channel: Channel,
    started: Instant,
    version: String,
}

impl Successor {
    /// Starts the program that this process was started as, with the same arguments, and waits until it is ready. An
    /// error is one clause.
    pub async fn start(handed: Handed) -> Result<Successor, String> {
        let mut successor = Successor::spawn()?;
        match tokio::time::timeout(PATIENCE, successor.prepare(handed)).await {
            Ok(result) => result.map(|()| successor),
            Err(_) => Err(format!("the new process did not serve within {} s", PATIENCE.as_secs())),
        }
    }

    /// From here on it accepts connections.
    pub async fn release(mut self) -> Result<Upgraded, String> {
        if self.channel.send("go", "").await.is_err() {
            return Err(self.obituary().await);
        }
        let child = self.child.take();
        Ok(Upgraded {
            old_process: std::process::id(),
            new_process: child.map(|child| child.id()).unwrap_or_default(),
            new_version: std::mem::take(&mut self.version),
            elapsed: self.started.elapsed(),
        })
    }

    fn spawn() -> Result<Successor, String> {
        // The first process of a container takes the container with it.
        if std::process::id() == 1 {
            return Err("this is process 1, whose end ends its container: replace the container, or start cutwater under an init process".to_owned());
        }
        let started = Instant::now();
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or("this process does not know its own path")?;
        let (channel, theirs) = Channel::pair().map_err(|error| format!("no socket: {error}"))?;
        let child = command(&program, arguments)
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        Ok(Successor { child: Some(child), channel, started, version: String::new() })
    }

    async fn prepare(&mut self, handed: Handed) -> Result<(), String> {
        if self.channel.send_sockets(handed).await.is_err() {
            return Err(self.obituary().await);
        }
        match self.channel.receive().await {
            Ok(Some(message)) if message.verb == "ready" => {
                self.version = message.text;
                Ok(())
            }
            Ok(Some(message)) if message.verb == "failed" => {
                Err(format!("the new process cannot serve: {}", message.text))
            }
            Ok(Some(message)) => Err(format!("the new process said `{}`", message.verb)),
            Ok(None) => Err(self.obituary().await),
            Err(error) => Err(error.to_string()),
        }
    }

    /// How it ended, when it did so without a word.
    async fn obituary(&mut self) -> String {
        let end = Instant::now() + END_PATIENCE;
        while Instant::now() < end {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return format!("the new process ended before it served: {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        "the new process closed the hand-over before it served".to_owned()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way nothing of it is left.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(program: &OsString, arguments: impl Iterator<Item = OsString>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, VERSION);
    command
}
