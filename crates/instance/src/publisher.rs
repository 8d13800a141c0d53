//! From a compiled draft to every worker: keys, views, zones, acknowledgement.

use crate::checks::Checks;
use crate::config::{AccessLogTo, Config, StartError};
use crate::dns::{self, DnsServer};
use crate::echo::Echo;
use crate::external;
use crate::handover::Handed;
use crate::keys::Keys;
use crate::receipt::{Change, Receipt, endpoint_changes};
use crate::serving::{Draft, Serving};
use crate::staples::{self, Staples};
use certs::{Claim, LocalCa, Serials, SessionKey, StateFolder};
use edge::{Edge, EdgeView, KeyTable, Recorder, Registry};
use explain::{Entry, PortState};
use model::{Digest, Facts, Hostname, Snapshot};
use publish::{Cell, Progress};
use report::serving::Where;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use telemetry::access::{AccessLog, Counts};
use telemetry::log_file::LogFile;
use tokio::sync::watch;
use zone::Zones;

/// Workers that do not answer by then are named as missing; they may be busy with one long poll.
const PATIENCE: Duration = Duration::from_secs(5);
/// The access log's writer, at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;

/// What the admin address reads.
pub struct Shared {
    pub bind: IpAddr,
    pub entry: Entry,
    pub local_ca_pem: String,
    pub registry: Registry,
    pub nameserver_counters: Arc<nameserver::Counters>,
    pub reloads: AtomicU64,
    pub refused_reloads: AtomicU64,
    pub access_log: Option<Arc<Counts>>,
    pub staples: Arc<staples::Counts>,
    state: Mutex<Visible>,
}

#[derive(Default)]
struct Visible {
    serving: Option<Arc<Serving>>,
    ports: BTreeMap<(bool, u16), PortState>,
    nameserver: Option<SocketAddr>,
    /// The first view that the workers were given; none before they start, and while they drain.
    first: Option<(Cell<EdgeView>, u64)>,
    is_draining: bool,
}

impl Shared {
    /// Every worker has served a snapshot.
    pub fn is_ready(&self) -> bool {
        let first = self.lock().first.clone();
        first.is_some_and(|(views, generation)| views.progress(generation).is_complete())
    }

    /// Told to stop: what runs is finished, nothing new is taken.
    pub fn is_draining(&self) -> bool {
        self.lock().is_draining
    }

    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.lock().serving.clone()
    }

    pub fn ports(&self) -> BTreeMap<(bool, u16), PortState> {
        self.lock().ports.clone()
    }

    pub fn nameserver_address(&self) -> Option<SocketAddr> {
        self.lock().nameserver
    }

    /// Each change is one assignment, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Visible> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Publisher {
    config: Config,
    admin: SocketAddr,
    ca: LocalCa,
    serials: Serials,
    keys: Keys,
    views: Cell<EdgeView>,
    zones: Cell<Zones>,
    edge: Option<Edge>,
    nameserver: Option<DnsServer>,
    access_log: Option<AccessLog>,
    echo: Echo,
    checks: Checks,
    staples: Staples,
    /// None when another process has it alone.
    claim: Option<Claim>,
    /// Until it is true, everything is bound and nothing is accepted.
    opened: watch::Sender<bool>,
    inherited: Inherited,
    shared: Arc<Shared>,
}

/// Sockets of the process that this one follows, until they are wanted.
#[derive(Default)]
struct Inherited {
    edge: edge::Inherited,
    dns: Option<nameserver::Sockets>,
}

impl Publisher {
    /// With what another process handed over, nothing is accepted before [`Publisher::open`].
    pub fn start(
        config: &Config,
        admin: SocketAddr,
        handed: Option<Handed>,
    ) -> Result<Self, StartError> {
        let state = StateFolder::open(&config.state).map_err(StartError::State)?;
        let opened = watch::Sender::new(handed.is_none());
        let handed = handed.unwrap_or_default();
        let claim = match handed.claim {
            Some(file) => Claim::inherited(file),
            None => state.claim().map_err(StartError::State)?,
        };
        let ca = LocalCa::open(&state, SystemTime::now()).map_err(StartError::State)?;
        let serials = Serials::open(&state).map_err(StartError::State)?;
        let sessions = SessionKey::open(&state).map_err(StartError::State)?;
        let access_log = open_log(&config.access_log)?;
        let shared = Arc::new(Shared {
            bind: config.bind,
            entry: Entry {
                advertised: config.advertise.clone(),
                port_offset: config.port_offset,
                here: config.here.clone(),
            },
            local_ca_pem: ca.certificate_pem().to_owned(),
            registry: Registry::new(config.workers)
                .with_session_key(sessions.bytes())
                .located(config.here.clone()),
            nameserver_counters: Arc::default(),
            reloads: AtomicU64::new(0),
            refused_reloads: AtomicU64::new(0),
            access_log: access_log.as_ref().map(AccessLog::counts),
            staples: Arc::default(),
            state: Mutex::default(),
        });
        let dns = nameserver::Sockets::inherited(handed.dns_udp, handed.dns_tcp)
            .map_err(|error| StartError::System("sockets cannot be taken over", error))?;
        let nothing = EdgeView::build(
            &Snapshot::default(),
            &Facts::default(),
            &KeyTable::default(),
            &shared.registry,
            None,
        );
        Ok(Publisher {
            config: config.clone(),
            admin,
            ca,
            serials,
            keys: Keys::default(),
            views: Cell::new(Arc::new(nothing)),
            zones: Cell::new(Arc::new(Zones::default())),
            edge: None,
            nameserver: None,
            access_log,
            checks: Checks::start(&shared.registry.live),
            staples: Staples::new(Arc::clone(&shared.staples)),
            echo: Echo::new(handed.echo, opened.subscribe()),
            claim: Some(claim),
            opened,
            inherited: Inherited {
                edge: edge::Inherited { listeners: handed.edge, datagrams: handed.edge_udp },
                dns: Some(dns),
            },
            shared,
        })
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Of the access log, where it is one.
    pub fn log_file(&self) -> Option<LogFile> {
        self.access_log.as_ref().and_then(AccessLog::file)
    }

    pub fn is_serving(&self) -> bool {
        self.shared.lock().serving.is_some()
    }

    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.shared.serving()
    }

    pub fn digest(&self) -> String {
        self.serving().map(|serving| serving.snapshot().digest.short()).unwrap_or_default()
    }

    pub fn ca_file(&self) -> String {
        self.ca.certificate_path().display().to_string()
    }

    pub fn count_refused(&self) {
        self.shared.refused_reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// Brings a draft to every worker and waits until they serve it.
    pub async fn publish(&mut self, draft: Draft, start: Instant) -> Receipt {
        let draft = Arc::new(draft);
        let previous = self.shared.serving();
        if self.config.echo {
            self.echo.follow(&draft.facts).await;
        }
        let mut faults = self.publish_zones(&draft.compiled.snapshot);
        let (progress, edge_faults) = self.publish_view(&draft).await;
        self.zones.acknowledged(self.zones.generation(), PATIENCE).await;
        faults.extend(edge_faults);
        let elapsed = start.elapsed();
        self.collect();
        let change = previous.map(|serving| Change {
            plan: compile::difference(serving.snapshot(), &draft.compiled.snapshot),
            endpoints: endpoint_changes(&serving.draft.facts, &draft.facts),
        });
        self.shared.reloads.fetch_add(1, Ordering::Relaxed);
        Receipt {
            digest: draft.compiled.snapshot.digest.short(),
            change,
            progress,
            elapsed,
            port_faults: faults,
        }
    }

    /// Keys and views for a draft, to every worker.
    async fn publish_view(&mut self, draft: &Arc<Draft>) -> (Progress, Vec<String>) {
        let snapshot = &draft.compiled.snapshot;
        for fault in self.keys.renew(&draft.reading.inputs, snapshot, &self.ca, SystemTime::now()) {
            tracing::warn!("{fault}");
        }
        let api_servers = external::api_servers(&draft.reading.inputs, &draft.facts);
        self.staples.follow(snapshot, &self.keys.table, api_servers);
        let previous = self.shared.serving();
        let previous = previous.as_ref().map(|serving| &*serving.view);
        let registry = &self.shared.registry;
        let view =
            Arc::new(EdgeView::build(snapshot, &draft.facts, &self.keys.table, registry, previous));
        let generation = self.views.set(Arc::clone(&view));
        self.checks.follow(&view);
        let mut faults = self.start_edge(generation);
        let progress = self.views.acknowledged(generation, PATIENCE).await;
        faults.extend(self.edge.iter().flat_map(Edge::bind_faults).map(|fault| fault.to_string()));
        self.show(Serving { draft: Arc::clone(draft), view });
        (progress, faults)
    }

    /// Lets go of what nobody reads any more, and renews leaves of the local CA in time.
    pub async fn keep_house(&mut self) {
        self.collect();
        if !self.keys.are_due(SystemTime::now()) {
            return;
        }
        if let Some(serving) = self.shared.serving() {
            self.publish_view(&serving.draft).await;
            self.collect();
        }
    }

    /// Ports that others held may be free by now. Gives what was bound, one sentence each.
    pub async fn try_ports_again(&mut self) -> Vec<String> {
        let mut bound = Vec::new();
        if self.nameserver.is_none()
            && self.serving().is_some_and(|serving| !serving.snapshot().dns.zones.is_empty())
            && self.start_nameserver().is_none()
        {
            bound.push("the DNS port is bound now".to_owned());
        }
        let faults = |edge: &Edge| -> Vec<(bool, u16)> {
            edge.bind_faults().into_iter().map(|fault| (fault.is_udp, fault.port)).collect()
        };
        let Some(before) = self.edge.as_ref().map(faults).filter(|faults| !faults.is_empty())
        else {
            return bound;
        };
        // The workers try with every view that they are given, though it be the one they have.
        let generation = self.views.set(self.views.current());
        self.views.acknowledged(generation, PATIENCE).await;
        self.views.collect();
        let after = self.edge.as_ref().map(faults).unwrap_or_default();
        let freed = before.iter().filter(|port| !after.contains(port));
        bound.extend(freed.map(|(is_udp, port)| {
            let of = if *is_udp { "UDP " } else { "" };
            format!("{of}port {port} is bound now")
        }));
        let ports = self.port_states();
        self.shared.lock().ports = ports;
        bound
    }

    /// The workers start with the first view, so that its ports are bound before anything is said.
    fn start_edge(&mut self, generation: u64) -> Vec<String> {
        if self.edge.is_some() {
            return Vec::new();
        }
        let config = edge::Config {
            bind: self.config.bind,
            port_offset: self.config.port_offset,
            workers: self.config.workers,
        };
        let recorder =
            |_| self.access_log.as_ref().map(|log| Box::new(log.sink()) as Box<dyn Recorder>);
        let inherited = std::mem::take(&mut self.inherited.edge);
        match Edge::prepare(config, &self.views, &self.shared.registry, recorder, inherited) {
            Ok(edge) => {
                if *self.opened.borrow() {
                    edge.open();
                }
                self.edge = Some(edge);
                self.shared.lock().first = Some((self.views.clone(), generation));
                Vec::new()
            }
            Err(edge::StartError::Bind(faults)) => {
                faults.into_iter().map(|fault| fault.to_string()).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    /// The DNS port is bound when there is a zone to serve.
    fn publish_zones(&mut self, snapshot: &Snapshot) -> Vec<String> {
        if snapshot.dns.zones.is_empty() && self.nameserver.is_none() {
            return Vec::new();
        }
        let previous = self.zones.current();
        let faults = RefCell::new(Vec::new());
        let serial = |zone: &Hostname, content: Digest| {
            let next =
                self.serials.next(zone.as_str(), content.to_string().as_bytes(), SystemTime::now());
            next.unwrap_or_else(|error| {
                faults.borrow_mut().push(error.to_string());
                unsaved_serial(&previous, zone)
            })
        };
        let zones = Zones::build(&snapshot.dns, &serial, &self.config.advertise, Some(&previous));
        let mut faults = faults.into_inner();
        self.zones.set(Arc::new(zones));
        if self.nameserver.is_none() {
            faults.extend(self.start_nameserver());
        }
        faults
    }

    fn start_nameserver(&mut self) -> Option<String> {
        let offset = self.config.port_offset;
        let Some(port) = DNS_PORT.checked_add(offset) else {
            return Some(format!(
                "DNS port {DNS_PORT} + offset {offset} is more than 65535; use a smaller --port-offset"
            ));
        };
        let address = SocketAddr::new(self.config.bind, port);
        let counters = Arc::clone(&self.shared.nameserver_counters);
        let started = dns::bind(address, self.inherited.dns.take()).and_then(|sockets| {
            DnsServer::start(sockets, &self.zones, counters, self.opened.subscribe())
        });
        match started {
            Ok(server) => {
                self.shared.lock().nameserver = Some(address);
                self.nameserver = Some(server);
                None
            }
            Err(error) => Some(dns::fault(self.config.bind, DNS_PORT, offset, &error)),
        }
    }

    /// What readers of the admin address see from now on.
    fn show(&self, serving: Serving) {
        let ports = self.port_states();
        let replaced = {
            let mut visible = self.shared.lock();
            visible.ports = ports;
            visible.serving.replace(Arc::new(serving))
        };
        // Freed after the lock.
        drop(replaced);
    }

    fn port_states(&self) -> BTreeMap<(bool, u16), PortState> {
        let Some(edge) = &self.edge else { return BTreeMap::new() };
        let bound = edge.bound_ports().into_iter().filter_map(|port| {
            let address =
                SocketAddr::new(self.config.bind, port.checked_add(self.config.port_offset)?);
            Some(((false, port), PortState::Bound(address)))
        });
        let failed = edge
            .bind_faults()
            .into_iter()
            .map(|fault| ((fault.is_udp, fault.port), PortState::Failed(fault.message)));
        bound.chain(failed).collect()
    }

    fn collect(&self) {
        self.views.collect();
        self.zones.collect();
    }

    pub fn serving_text(&self) -> String {
        let Some(serving) = self.shared.serving() else { return String::new() };
        let ca_file = self.ca_file();
        let place = Where {
            bind: self.config.bind,
            port_offset: self.config.port_offset,
            dns: self.shared.nameserver_address(),
            admin: self.admin,
            ca_file: &ca_file,
        };
        let mut text = report::serving::to_text(serving.snapshot(), &serving.draft.facts, &place);
        if self.config.echo {
            text.push_str(&format!("\necho origin on {} endpoints\n", self.echo.len()));
        }
        text
    }

    /// Accepts from now on: the process that this one follows has let go.
    pub fn open(&mut self) {
        if let Some(claim) = &self.claim {
            claim.sign();
        }
        if let Some(edge) = &self.edge {
            edge.open();
        }
        self.opened.send_replace(true);
        self.inherited = Inherited::default();
    }

    pub fn is_open(&self) -> bool {
        *self.opened.borrow()
    }

    /// Descriptors of everything that another process needs to go on in our place.
    pub fn handed(&self, admin: Option<&TcpListener>) -> io::Result<Handed> {
        let dns = self.nameserver.as_ref().map(DnsServer::sockets).transpose()?;
        let (dns_udp, dns_tcp) = dns.map(nameserver::Sockets::into_parts).unwrap_or_default();
        Ok(Handed {
            edge: self.edge.as_ref().map(Edge::listeners).transpose()?.unwrap_or_default(),
            edge_udp: self
                .edge
                .as_ref()
                .map(Edge::datagram_sockets)
                .transpose()?
                .unwrap_or_default(),
            dns_udp,
            dns_tcp,
            admin: admin.map(TcpListener::try_clone).transpose()?,
            echo: self.echo.listeners()?,
            claim: self.claim.as_ref().map(Claim::try_clone).transpose()?,
        })
    }

    /// The origins of `--echo` accept no more.
    pub async fn close_echo(&mut self) {
        self.echo.close().await;
    }

    /// They do again.
    pub async fn reopen_echo(&mut self) {
        if let Some(serving) = self.serving()
            && self.config.echo
        {
            self.echo.follow(&serving.draft.facts).await;
        }
    }

    /// Finishes what runs; returns when all is done or the limit has passed. `is_followed` says that another process
    /// accepts from the same sockets.
    pub async fn drain(&mut self, limit: Duration, is_followed: bool) {
        {
            let mut visible = self.shared.lock();
            visible.first = None;
            visible.is_draining = true;
        }
        if is_followed {
            // It ends with the process that serves, however long this one drains.
            self.claim = None;
        }
        let edge = self.edge.take();
        let nameserver = self.nameserver.take();
        let edge_drained = tokio::task::spawn_blocking(move || match edge {
            Some(edge) if is_followed => edge.leave(limit),
            Some(edge) => edge.drain(limit),
            None => true,
        });
        if let Some(nameserver) = nameserver {
            nameserver.stop().await;
        }
        if matches!(edge_drained.await, Ok(false)) {
            eprintln!("some requests did not end within {} s and were cut off", limit.as_secs());
        }
        if let Some(log) = self.access_log.take() {
            // The writer may wait for a reader that never comes.
            let written = tokio::task::spawn_blocking(move || log.finish(LOG_PATIENCE)).await;
            if matches!(written, Ok(false)) {
                eprintln!("the access log was not written to its end: nobody takes it");
            }
        }
    }
}

fn open_log(to: &AccessLogTo) -> Result<Option<AccessLog>, StartError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| StartError::AccessLog(path, error)
    };
    Ok(match to {
        AccessLogTo::Off => None,
        AccessLogTo::Stdout => Some(AccessLog::to_stdout().map_err(failed(Path::new("-")))?),
        AccessLogTo::File(path) => Some(AccessLog::to_file(path).map_err(failed(path))?),
    })
}

/// A serial that could not be saved: the one that is served, so that it never falls; for a new zone the clock's.
fn unsaved_serial(served: &Zones, zone: &Hostname) -> u32 {
    let known = served.serials().find(|(name, _)| *name == zone).map(|(_, serial)| serial);
    known.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // RFC 1982 arithmetic wraps.
        since.as_secs() as u32
    })
}
