//! The real binary, running `up` on a folder, with free ports and a state folder of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Entry;
use crate::message::{self, Kind};
use crate::ports::{Slot, free_port};
use crate::process::Process;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);

/// The binary under test: `CUTWATER_BIN`, or what cargo built.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("CUTWATER_BIN").map(PathBuf::from) {
        return match path.is_file() {
            true => Ok(path),
            false => Err(format!("CUTWATER_BIN is {}, which is no file", path.display())),
        };
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let targets = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let targets = targets.into_iter().chain([workspace.join("target")]);
    let newest = targets
        .flat_map(|target| ["debug", "e2e"].map(|profile| target.join(profile).join("cutwater")))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        "the binary is missing: build it with `cargo build -p cutwater` (`cargo xtask test` does), \
         or name it in CUTWATER_BIN"
            .to_owned()
    })
}

/// How to start an instance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of manifests.
    pub folder: PathBuf,
    /// Listener ports, before the offset, that must be free.
    pub ports: Vec<u16>,
    /// Further arguments of `up`.
    pub flags: Vec<String>,
    /// What to start; else what [`binary`] finds.
    pub binary: Option<PathBuf>,
    /// Whether to wait until it is ready; otherwise until its admin address answers.
    pub until_ready: bool,
}

impl Plan {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let ports = vec![53, 80, 443];
        Self { folder: folder.into(), ports, flags: Vec::new(), binary: None, until_ready: true }
    }

    /// One worker, unless the flags say otherwise: what depends on a worker's own pool and turn is
    /// then the same each time.
    fn all_flags(&self) -> Vec<String> {
        let mut flags = self.flags.clone();
        if !flags.iter().any(|flag| flag.starts_with("--workers")) {
            flags.extend(["--workers".to_owned(), "1".to_owned()]);
        }
        flags
    }
}

/// A running Cutwater. Dropped without `stop`, it is killed.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    /// In whose place the child, or an earlier one of these, has gone.
    successors: Vec<Process>,
    admin_port: u16,
    slot: Slot,
    kept: TempDir,
}

impl Instance {
    /// Starts the binary and waits until it is ready.
    pub fn start(plan: &Plan) -> Result<Self, String> {
        let kept = tempfile::tempdir().map_err(|error| error.to_string())?;
        let slot = Slot::take(&plan.ports)?;
        let admin_port = free_port()?;
        let printed = kept.path().join("printed");
        let output = File::create(&printed).map_err(|error| error.to_string())?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let binary = plan.binary.clone().map_or_else(binary, Ok)?;
        let child = Command::new(&binary)
            .arg("up")
            .arg(&plan.folder)
            .args(["--bind", "127.0.0.1", "--advertise", "127.0.0.1"])
            .args(["--port-offset", &slot.offset.to_string()])
            .args(["--admin", &format!("127.0.0.1:{admin_port}")])
            .arg("--state")
            .arg(kept.path().join("state"))
            .arg("--access-log")
            .arg(kept.path().join("access.log"))
            .args(plan.all_flags())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut instance = Self { child, successors: Vec::new(), admin_port, slot, kept };
        instance.await_start(plan.until_ready)?;
        Ok(instance)
    }

    /// Where a listener port is bound.
    pub fn bound(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.entry().bound(port)).into()
    }

    pub fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin_port).into()
    }

    pub fn entry(&self) -> Entry {
        Entry {
            port_offset: self.slot.offset,
            admin_port: self.admin_port,
            ca: self.state().join("ca/ca.pem"),
        }
    }

    pub fn state(&self) -> PathBuf {
        self.kept.path().join("state")
    }

    /// Of the process that serves.
    pub fn process_id(&self) -> u32 {
        self.successors.last().map_or_else(|| self.child.id(), |process| process.id)
    }

    /// Has it replaced by a new process, with `cutwater upgrade`. An error is what that printed.
    pub fn upgrade(&mut self) -> Result<(), String> {
        let finished = self.run(&["upgrade", "--admin", &self.admin().to_string()])?;
        if finished.code != 0 {
            return Err(format!("exit code {}: {}", finished.code, finished.stderr));
        }
        let expected = format!("upgraded: process {} to ", self.process_id());
        let rest = finished.stdout.strip_prefix(&expected);
        let id = rest.and_then(|rest| rest.split(',').next()?.parse().ok());
        self.follow(id.ok_or_else(|| format!("it printed {}", finished.stdout))?)
    }

    /// Another process has taken its place.
    pub fn follow(&mut self, process_id: u32) -> Result<(), String> {
        self.successors.push(Process::open(process_id)?);
        Ok(())
    }

    /// Waits until every process but the one that serves has ended, the first of them with exit code 0.
    pub fn await_replaced(&mut self, duration: Duration) -> Result<(), String> {
        let Some((_, replaced)) = self.successors.split_last() else { return Ok(()) };
        let deadline = Instant::now() + duration;
        for process in replaced {
            if !process.ends_within(deadline.saturating_duration_since(Instant::now())) {
                return Err(format!("process {} has not ended: {}", process.id, self.printed()));
            }
        }
        match self.ended_within(deadline.saturating_duration_since(Instant::now()))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the first process ended with {status}")),
            None => Err(format!("the first process has not ended: {}", self.printed())),
        }
    }

    /// What it printed so far, both streams.
    pub fn printed(&self) -> String {
        read_lossy(&self.kept.path().join("printed"))
    }

    pub fn access_log(&self) -> String {
        read_lossy(&self.access_log_path())
    }

    pub fn access_log_path(&self) -> PathBuf {
        self.kept.path().join("access.log")
    }

    /// Status and body of an admin page.
    pub fn page(&self, path: &str) -> Result<(u16, String), String> {
        page(self.admin_port, path)
    }

    /// The digest of the snapshot that is served.
    pub fn digest(&self) -> Result<String, String> {
        let (status, body) = self.page("/snapshot")?;
        let plan: serde_json::Value = serde_json::from_str(&body)
            .map_err(|error| format!("/snapshot answered {status}: {error}"))?;
        match plan.get("digest").and_then(serde_json::Value::as_str) {
            Some(digest) => Ok(digest.to_owned()),
            None => Err("/snapshot has no digest".to_owned()),
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        if let Some(process) = self.successors.last() {
            return process.signal(signal);
        }
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or("the process has no id")?;
        kill_process(id, signal).map_err(|error| format!("could not signal: {error}"))
    }

    /// Asks it to drain and end, and demands exit code 0.
    pub fn stop(mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        if let Some(process) = self.successors.last() {
            return match process.ends_within(STOP) {
                true => Ok(()),
                false => Err(format!("it did not end within {STOP:?}: {}", self.printed())),
            };
        }
        match self.ended_within(STOP)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("SIGTERM ended it with {status}: {}", self.printed())),
            None => Err(format!("it did not end within {STOP:?} of SIGTERM: {}", self.printed())),
        }
    }

    /// Runs another command of the binary, with this working folder; bounded in time.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished, String> {
        run(self.kept.path(), arguments)
    }

    fn await_start(&mut self, until_ready: bool) -> Result<(), String> {
        let path = if until_ready { "/readyz" } else { "/livez" };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Ok((200, _)) = self.page(path) {
                return Ok(());
            }
            if let Some(status) = self.ended_within(Duration::ZERO)? {
                return Err(format!("it ended at its start with {status}: {}", self.printed()));
            }
            sleep(PAUSE);
        }
        Err(format!("{path} did not answer 200 within {START:?}: {}", self.printed()))
    }

    fn ended_within(&mut self, duration: Duration) -> Result<Option<ExitStatus>, String> {
        await_end(&mut self.child, duration)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for process in &self.successors {
            // One that has ended is not there any more.
            let _ = process.signal(Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command of the binary to its end, 30 seconds at most.
pub fn run(folder: &Path, arguments: &[&str]) -> Result<Finished, String> {
    let kept = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (stdout, stderr) = (kept.path().join("stdout"), kept.path().join("stderr"));
    let file = |path: &Path| File::create(path).map_err(|error| error.to_string());
    let mut child = Command::new(binary()?)
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(file(&stdout)?)
        .stderr(file(&stderr)?)
        .spawn()
        .map_err(|error| error.to_string())?;
    let Some(status) = await_end(&mut child, Duration::from_secs(30))? else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("cutwater {} did not end within 30 s", arguments.join(" ")));
    };
    let code = status.code().ok_or_else(|| format!("it ended with {status}"))?;
    Ok(Finished { code, stdout: read_lossy(&stdout), stderr: read_lossy(&stderr) })
}

fn await_end(child: &mut Child, duration: Duration) -> Result<Option<ExitStatus>, String> {
    let deadline = Instant::now() + duration;
    loop {
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || Instant::now() >= deadline {
            return Ok(ended);
        }
        sleep(PAUSE);
    }
}

/// GET on a port of this machine.
pub fn page(port: u16, path: &str) -> Result<(u16, String), String> {
    let said = |error: std::io::Error| error.to_string();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let patience = Duration::from_secs(5);
    let mut socket = TcpStream::connect_timeout(&address, patience).map_err(said)?;
    socket.set_read_timeout(Some(patience)).map_err(said)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(said)?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).map_err(said)?;
    let (message, _) = message::parse(&bytes, Kind::Response { ended: true })?
        .ok_or_else(|| format!("{path} answered less than a whole response"))?;
    let status = message.status().ok_or_else(|| message.start_line.clone())?;
    Ok((status, String::from_utf8_lossy(&message.body).into_owned()))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
