//! The life of an instance: start, reload on change, drain on a signal.

use crate::admin::Admin;
use crate::config::{Config, StartError};
use crate::findings;
use crate::publisher::Publisher;
use crate::receipt::Receipt;
use crate::serving::Draft;
use compile::Drafts;
use folder::{Folder, Reading, Watcher};
use model::{Diagnostic, ObjectId, limits};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How often replaced values are let go, and certificates looked at for their time.
/// How often ports that could not be bound are tried again.
const PORT_RETRY: Duration = Duration::from_secs(1);
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<(), StartError> {
    let mut signals =
        Signals::new().map_err(|error| StartError::System("signals cannot be handled", error))?;
    let listener = TcpListener::bind(config.admin)
        .await
        .map_err(|error| StartError::Admin(config.admin, error))?;
    let admin = listener.local_addr().unwrap_or(config.admin);
    let publisher = Publisher::start(&config, admin)?;
    let (stop_console, console_stopped) = oneshot::channel::<()>();
    let subject = Arc::new(Admin(publisher.shared()));
    let console = tokio::spawn(console::serve(listener, subject, async {
        let _ = console_stopped.await;
    }));
    let mut instance = Instance::new(config, publisher)?;
    let result = instance.live(&mut signals).await;
    if result.is_ok() {
        instance.drain(&mut signals).await;
    }
    drop(stop_console);
    drop(tokio::time::timeout(Duration::from_secs(1), console).await);
    result
}

struct Instance {
    config: Config,
    source: Folder,
    watcher: Watcher,
    publisher: Publisher,
    /// What the last compile can use again.
    drafts: Drafts,
    /// Said once; a folder that is away is not complained about at every look.
    last_complaint: Option<String>,
    last_diagnostics: Vec<Diagnostic>,
}

impl Instance {
    fn new(config: Config, publisher: Publisher) -> Result<Self, StartError> {
        let watcher = Watcher::new(&config.dir, Some(&config.state))
            .map_err(|error| StartError::System("the folder cannot be watched (inotify)", error))?;
        let source = Folder::new(&config.dir, Some(&config.state));
        Ok(Instance {
            config,
            source,
            watcher,
            publisher,
            drafts: Drafts::default(),
            last_complaint: None,
            last_diagnostics: Vec::new(),
        })
    }

    async fn live(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        let reading = self.source.read(&HashSet::new()).map_err(StartError::Folder)?;
        self.first(reading, Instant::now()).await?;
        let mut housekeeping =
            tokio::time::interval_at(tokio::time::Instant::now() + HOUSEKEEPING, HOUSEKEEPING);
        let mut port_retry = tokio::time::interval(PORT_RETRY);
        port_retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changes = self.watcher.changed() => self.reload(&changes.files).await?,
                signal = signals.next() => match signal {
                    Wish::Reload => self.reload(&self.all_files()).await?,
                    Wish::Stop => return Ok(()),
                },
                _ = port_retry.tick() => {
                    for bound in self.publisher.try_ports_again().await {
                        eprintln!("{bound}");
                    }
                }
                _ = housekeeping.tick() => {
                    self.publisher.keep_house().await;
                    self.look_at_findings();
                }
            }
        }
    }

    /// Everything, whatever its metadata say.
    fn all_files(&self) -> HashSet<PathBuf> {
        self.source.files().map(PathBuf::from).collect()
    }

    /// A first start with a mistake waits for it to be mended; one whose ports are taken ends.
    async fn first(&mut self, reading: Reading, start: Instant) -> Result<(), StartError> {
        if reading.holds_back() {
            self.print(&reading.diagnostics, &reading);
            eprintln!("nothing is served yet: mend the folder, and it serves at once");
            return Ok(());
        }
        let receipt = self.publish(reading, start).await;
        if !receipt.port_faults.is_empty() {
            return Err(StartError::Ports(receipt.port_faults));
        }
        self.announce(&receipt);
        Ok(())
    }

    async fn reload(&mut self, dirty: &HashSet<PathBuf>) -> Result<(), StartError> {
        let start = Instant::now();
        let reading = match self.source.read(dirty) {
            Ok(reading) => reading,
            Err(error) => {
                self.complain(error.to_string());
                return Ok(());
            }
        };
        self.last_complaint = None;
        if !self.publisher.is_serving() {
            return self.first(reading, start).await;
        }
        if reading.holds_back() {
            self.publisher.count_refused();
            self.print(&reading.diagnostics, &reading);
            eprintln!(
                "held back: {}; snapshot {} serves on",
                report::diagnostics::count(&reading.diagnostics),
                self.publisher.digest()
            );
            return Ok(());
        }
        let receipt = self.publish(reading, start).await;
        for fault in &receipt.port_faults {
            eprintln!("error: {fault}");
        }
        eprintln!("{receipt}");
        Ok(())
    }

    /// Traffic first: what is found is printed when the change is live.
    async fn publish(&mut self, reading: Reading, start: Instant) -> Receipt {
        let draft = Draft::compile(reading, self.publisher.serving().as_deref(), &mut self.drafts);
        let receipt = self.publisher.publish(draft, start).await;
        self.look_at_findings();
        receipt
    }

    /// Prints what was not found at the last look. Time alone brings findings too: a certificate that ends.
    fn look_at_findings(&mut self) {
        let Some(serving) = self.publisher.serving() else { return };
        let Draft { reading, compiled, facts, .. } = &*serving.draft;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let diagnostics = findings::all_diagnostics(reading, compiled, facts, now);
        let known: HashSet<_> = self.last_diagnostics.iter().map(identity).collect();
        let new: Vec<Diagnostic> =
            diagnostics.iter().filter(|d| !known.contains(&identity(d))).cloned().collect();
        self.print(&new, reading);
        self.last_diagnostics = diagnostics;
    }

    fn print(&self, diagnostics: &[Diagnostic], reading: &Reading) {
        let origins = &reading.inputs.origins;
        eprint!("{}", report::diagnostics::to_text(diagnostics, origins, self.config.is_coloured));
    }

    fn complain(&mut self, message: String) {
        if self.last_complaint.as_ref() == Some(&message) {
            return;
        }
        match self.publisher.is_serving() {
            true => eprintln!("error: {message}; snapshot {} serves on", self.publisher.digest()),
            false => eprintln!("error: {message}"),
        }
        self.last_complaint = Some(message);
    }

    fn announce(&self, receipt: &Receipt) {
        eprintln!(
            "cutwater {} serves {}  snapshot {}  {} of {} workers  {} ms\nlocal CA {}\n",
            env!("CARGO_PKG_VERSION"),
            self.config.dir.display(),
            receipt.digest,
            receipt.progress.done,
            receipt.progress.of,
            receipt.elapsed.as_millis(),
            self.publisher.ca_file(),
        );
        eprint!("{}", self.publisher.serving_text());
    }

    async fn drain(&mut self, signals: &mut Signals) {
        eprintln!(
            "draining: requests that run are finished, for at most {} s",
            limits::DRAIN_TIMEOUT_MS / 1_000
        );
        let drained = self.publisher.drain(Duration::from_millis(limits::DRAIN_TIMEOUT_MS));
        tokio::select! {
            () = drained => {}
            () = signals.stop() => {
                // A second signal: whoever stops us does not want to wait.
                std::process::exit(130);
            }
        }
    }
}

/// Places move; a finding is the same wherever its line went.
fn identity(diagnostic: &Diagnostic) -> (&str, Option<&ObjectId>, &str, &str) {
    (diagnostic.code, diagnostic.object.as_ref(), &diagnostic.field, &diagnostic.message)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Wish::Stop) {}
    }
}

/// What a signal asks for.
enum Wish {
    Reload,
    Stop,
}
