//! Programs that others made (nginx, HAProxy and the like), as the bench and the abuses start them: found,
//! with their messages in a file, waited for until they accept, ended with whoever started them; and what they use. Of
//! their configuration only what no site changes is here. `cargo xtask` installs them.
#![forbid(unsafe_code)]

pub mod servers;
pub mod usage;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const STOP: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// A started program. Ended when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// What it prints goes to the file `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Process> {
        let messages = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(messages.try_clone()?)
            .stderr(messages)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Process { child, log })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections on all of these.
    pub fn await_ports(&mut self, addresses: &[SocketAddr], limit: Duration) -> Result<()> {
        self.await_ready(limit, || addresses.iter().all(|address| accepts(*address)))
    }

    pub fn await_ready(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.last_messages());
            }
            if Instant::now() > end {
                bail!("it was not ready in {} s: {}", limit.as_secs(), self.last_messages());
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn last_messages(&self) -> String {
        let text = self.printed();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join(" | ")
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(id.context("the process has no id")?, signal)?)
    }

    /// Ends it and waits, so that what it writes at its end is there.
    pub fn end(mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.ends_within(limit) {
            return Ok(());
        }
        bail!("it did not end within {} s: {}", limit.as_secs(), self.last_messages());
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                return false;
            }
            sleep(PAUSE);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = self.signal(Signal::TERM);
        if asked.is_err() || !self.ends_within(STOP) {
            // Nothing can be done about a child that cannot even be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program of this name in PATH, or where Debian keeps daemons.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A command for a program of this name, which ends with this process.
pub fn command(name: &str) -> Result<Command> {
    let file = program(name);
    let file =
        file.with_context(|| format!("{name} is not installed: `apt-get install {name}`"))?;
    Ok(ends_with_us(&file))
}

/// A command that is told to end (SIGTERM) when the thread that starts it is gone, however it went, where `setpriv` can
/// say so: no server stays behind.
pub fn ends_with_us(file: &Path) -> Command {
    match program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(file);
            command
        }
        None => Command::new(file),
    }
}

pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("cutwater-peers-{}-{name}", std::process::id()))
    }

    #[test]
    fn one_that_ends_at_once_says_why() {
        let file = log("ends");
        let mut process = Process::start(
            Command::new("sh").args(["-c", "echo no such option >&2; exit 3"]),
            file.clone(),
        )
        .unwrap();
        let error = process.await_ready(Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such option"), "{error}");
        let _ = fs::remove_file(file);
    }

    #[test]
    fn one_that_runs_is_ended() {
        let file = log("runs");
        let process = Process::start(command("sleep").unwrap().arg("600"), file.clone()).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        process.end(Duration::from_secs(10)).unwrap();
        assert!(!proc.exists());
        let _ = fs::remove_file(file);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = command("no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program is not installed"), "{error}");
    }
}
