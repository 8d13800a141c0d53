//! The life of an instance: start, reload on change, hand over to another process, drain on a signal.

use crate::admin::Admin;
use crate::config::{Config, StartError};
use crate::external::Externals;
use crate::findings;
use crate::handover::Handed;
use crate::predecessor::Predecessor;
use crate::publisher::Publisher;
use crate::receipt::Receipt;
use crate::rotation;
use crate::service_manager;
use crate::serving::Draft;
use crate::upgrade::{Ask, Asker, Successor, Upgraded};
use compile::Drafts;
use folder::{Folder, Reading, Watcher};
use model::{Diagnostic, ObjectId, limits};
use publish::Progress;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How often ports that could not be bound are tried again.
const PORT_RETRY: Duration = Duration::from_secs(1);
/// How often replaced values are let go, and certificates looked at for their time.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// For answers of the admin address that are under way at the end.
const CONSOLE_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, or until another process has taken its place; then drains.
pub async fn run(config: Config) -> Result<(), StartError> {
    if let Err(error) = edge::raise_descriptor_limit() {
        tracing::warn!("the limit of open files (ulimit -n) stays as it is: {error}");
    }
    let unhandled = |error| StartError::System("signals cannot be handled", error);
    let mut signals = Signals::new().map_err(unhandled)?;
    let rotated = signal(SignalKind::user_defined1()).map_err(unhandled)?;
    let found = Predecessor::find()
        .await
        .map_err(|error| StartError::System("another process cannot be followed", error))?;
    let (predecessor, handed) = found.unzip();
    let begun = begin(config, handed, predecessor.is_some()).await;
    let mut instance = match (begun, &predecessor) {
        (Err(error), Some(predecessor)) => {
            predecessor.fail(&error.to_string()).await;
            return Err(error);
        }
        (begun, _) => begun?,
    };
    tokio::spawn(rotation::follow(rotated, instance.publisher.log_file()));
    if let Some(predecessor) = predecessor {
        predecessor.take_over().await;
        instance.open();
    }
    let end = instance.live(&mut signals).await?;
    instance.drain(&mut signals, end).await;
    Ok(())
}

/// An instance that serves its first snapshot, or waits for a folder without mistakes. One that follows another process
/// has bound everything and accepts nothing.
async fn begin(
    config: Config,
    mut handed: Option<Handed>,
    is_following: bool,
) -> Result<Instance, StartError> {
    let inherited = handed.as_mut().and_then(|handed| handed.admin.take());
    let failed = |error| StartError::Admin(config.admin, error);
    let listener = match inherited {
        Some(listener) => listener,
        None => {
            TcpListener::bind(config.admin).await.and_then(TcpListener::into_std).map_err(failed)?
        }
    };
    let address = listener.local_addr().unwrap_or(config.admin);
    let publisher = Publisher::start(&config, address, handed)?;
    let mut instance = Instance::new(config, publisher, listener)?;
    if !is_following {
        instance.open();
    }
    instance.read_first(is_following).await?;
    Ok(instance)
}

struct Instance {
    config: Config,
    source: Folder,
    watcher: Watcher,
    publisher: Publisher,
    externals: Externals,
    /// None when another process has it alone.
    admin: Option<std::net::TcpListener>,
    console: Option<Console>,
    /// Of a console that takes no further connection.
    last_answers: Option<JoinHandle<io::Result<()>>>,
    asks: mpsc::Receiver<Ask>,
    asker: Arc<Asker>,
    /// What the last compile can use again.
    drafts: Drafts,
    /// Said once; a folder that is away is not complained about at every look.
    last_complaint: Option<String>,
    last_diagnostics: Vec<Diagnostic>,
}

/// The admin address while it is served.
struct Console {
    stop: oneshot::Sender<()>,
    /// Ends when no further connection is taken.
    closed: oneshot::Receiver<()>,
    task: JoinHandle<io::Result<()>>,
}

/// Why an instance ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    /// Another process accepts from the same sockets.
    Followed,
}

impl Instance {
    fn new(
        config: Config,
        publisher: Publisher,
        admin: std::net::TcpListener,
    ) -> Result<Self, StartError> {
        let watcher = Watcher::new(&config.dir, Some(&config.state))
            .map_err(|error| StartError::System("the folder cannot be watched (inotify)", error))?;
        let source = Folder::new(&config.dir, Some(&config.state));
        let (asker, asks) = Asker::new();
        let externals = Externals::new(config.resolver.clone());
        Ok(Instance {
            config,
            source,
            watcher,
            publisher,
            externals,
            admin: Some(admin),
            console: None,
            last_answers: None,
            asks,
            asker: Arc::new(asker),
            drafts: Drafts::default(),
            last_complaint: None,
            last_diagnostics: Vec::new(),
        })
    }

    /// Accepts from now on.
    fn open(&mut self) {
        self.publisher.open();
        self.open_console();
        if self.publisher.is_serving() {
            service_manager::ready();
        }
    }

    fn open_console(&mut self) {
        let Some(admin) = &self.admin else { return };
        let listener = match admin.try_clone().and_then(TcpListener::from_std) {
            Ok(listener) => listener,
            Err(error) => return eprintln!("error: the admin address cannot be served: {error}"),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (closing, closed) = oneshot::channel();
        let subject = Arc::new(Admin {
            shared: self.publisher.shared(),
            asker: Arc::clone(&self.asker),
            names: self.externals.names(),
        });
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(console::serve(listener, subject, stopped, closing));
        self.console = Some(Console { stop, closed, task });
    }

    /// Takes no further connection; what is being answered goes on.
    async fn close_console(&mut self) {
        let Some(Console { stop, closed, task }) = self.console.take() else { return };
        drop(stop);
        // Nothing is sent: the end of the sender is the message.
        let _ = closed.await;
        self.last_answers = Some(task);
    }

    async fn read_first(&mut self, is_following: bool) -> Result<(), StartError> {
        let start = Instant::now();
        let reading = self.source.read(&HashSet::new()).map_err(StartError::Folder)?;
        if is_following && reading.holds_back() {
            self.print(&reading.diagnostics, &reading);
            return Err(StartError::HeldBack(report::diagnostics::count(&reading.diagnostics)));
        }
        let progress = self.first(reading, start).await?;
        match progress.filter(|progress| is_following && !progress.is_complete()) {
            Some(Progress { done, of }) => Err(StartError::Unserved(done, of)),
            None => Ok(()),
        }
    }

    async fn live(&mut self, signals: &mut Signals) -> Result<End, StartError> {
        let mut housekeeping =
            tokio::time::interval_at(tokio::time::Instant::now() + HOUSEKEEPING, HOUSEKEEPING);
        let mut port_retry = tokio::time::interval(PORT_RETRY);
        port_retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask = tokio::select! {
                changes = self.watcher.changed() => {
                    self.reload(&changes.files).await?;
                    continue;
                }
                () = self.externals.changed() => {
                    self.renew_endpoints().await;
                    continue;
                }
                signal = signals.next() => match signal {
                    Wish::Reload => {
                        self.reload(&self.all_files()).await?;
                        continue;
                    }
                    Wish::Stop => return Ok(End::Stopped),
                    Wish::Upgrade => None,
                },
                ask = self.asks.recv() => ask,
                _ = port_retry.tick() => {
                    for bound in self.publisher.try_ports_again().await {
                        eprintln!("{bound}");
                    }
                    continue;
                }
                _ = housekeeping.tick() => {
                    self.publisher.keep_house().await;
                    self.look_at_findings();
                    continue;
                }
            };
            if let Some(end) = self.upgrade(ask, signals).await {
                return Ok(end);
            }
        }
    }

    /// Changes of the folder wait meanwhile. None when this process serves on.
    async fn upgrade(&mut self, ask: Option<Ask>, signals: &mut Signals) -> Option<End> {
        let result = tokio::select! {
            result = self.hand_over() => result,
            () = signals.stop() => return Some(End::Stopped),
        };
        match &result {
            Ok(upgraded) => {
                service_manager::main_process(upgraded.new_process);
                eprintln!("upgraded: process {} serves", upgraded.new_process);
            }
            Err(why) => eprintln!("error: no upgrade: {why}; this process serves on"),
        }
        let end = result.is_ok().then_some(End::Followed);
        if let Some(ask) = ask {
            // An asker that has gone away reads no answer.
            let _ = ask.send(result);
        }
        end
    }

    async fn hand_over(&mut self) -> Result<Upgraded, String> {
        let handed = self.publisher.handed(self.admin.as_ref()).map_err(|error| {
            format!("the sockets cannot be handed over (ulimit -n may be too small): {error}")
        })?;
        let successor = Successor::start(handed).await?;
        // Before the other one serves: it asks its own origins, and whoever learns of it asks its admin address.
        self.publisher.close_echo().await;
        self.close_console().await;
        let result = successor.release().await;
        if result.is_err() {
            self.publisher.reopen_echo().await;
            self.open_console();
        }
        result
    }

    /// Everything, whatever its metadata say.
    fn all_files(&self) -> HashSet<PathBuf> {
        self.source.files().map(PathBuf::from).collect()
    }

    /// A first start with a mistake waits for it to be mended; one whose ports are taken ends.
    async fn first(
        &mut self,
        reading: Reading,
        start: Instant,
    ) -> Result<Option<Progress>, StartError> {
        if reading.holds_back() {
            self.print(&reading.diagnostics, &reading);
            eprintln!("nothing is served yet: mend the folder, and it serves at once");
            return Ok(None);
        }
        let receipt = self.publish(reading, start).await;
        if !receipt.port_faults.is_empty() {
            return Err(StartError::Ports(receipt.port_faults));
        }
        self.announce(&receipt);
        if self.publisher.is_open() {
            service_manager::ready();
        }
        Ok(Some(receipt.progress))
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
            return self.first(reading, start).await.map(drop);
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
        let mut draft =
            Draft::compile(reading, self.publisher.serving().as_deref(), &mut self.drafts);
        let (snapshot, inputs) = (&draft.compiled.snapshot, &draft.reading.inputs);
        self.externals.follow(snapshot, inputs, &mut draft.facts).await;
        let receipt = self.publisher.publish(draft, start).await;
        self.look_at_findings();
        receipt
    }

    /// The same plan with other addresses of names.
    async fn renew_endpoints(&mut self) {
        let start = Instant::now();
        let Some(serving) = self.publisher.serving() else { return };
        let mut draft = serving.draft.anew();
        let (snapshot, inputs) = (&draft.compiled.snapshot, &draft.reading.inputs);
        self.externals.follow(snapshot, inputs, &mut draft.facts).await;
        if draft.facts != serving.draft.facts {
            eprintln!("{}", self.publisher.publish(draft, start).await);
        }
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

    async fn drain(&mut self, signals: &mut Signals, end: End) {
        match end {
            End::Stopped => service_manager::stopping(),
            End::Followed => self.admin = None,
        }
        eprintln!(
            "draining: requests that run are finished, for at most {} s",
            limits::DRAIN_TIMEOUT_MS / 1_000
        );
        self.finish(signals, end).await;
        self.close_console().await;
        if let Some(task) = self.last_answers.take() {
            drop(tokio::time::timeout(CONSOLE_PATIENCE, task).await);
        }
    }

    async fn finish(&mut self, signals: &mut Signals, end: End) {
        let limit = Duration::from_millis(limits::DRAIN_TIMEOUT_MS);
        tokio::select! {
            () = self.publisher.drain(limit, end == End::Followed) => {}
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
    upgrade: Signal,
    /// A SIGHUP came while only a stop was waited for.
    is_reload_due: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            is_reload_due: false,
        })
    }

    async fn next(&mut self) -> Wish {
        match std::mem::take(&mut self.is_reload_due) {
            true => Wish::Reload,
            false => self.arrival().await,
        }
    }

    async fn stop(&mut self) {
        loop {
            match self.arrival().await {
                Wish::Stop => return,
                Wish::Reload => self.is_reload_due = true,
                Wish::Upgrade => {}
            }
        }
    }

    async fn arrival(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.upgrade.recv() => Wish::Upgrade,
        }
    }
}

/// What a signal asks for.
enum Wish {
    Reload,
    Upgrade,
    Stop,
}
