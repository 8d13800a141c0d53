//! From a compiled draft to every worker: keys, views, zones, acknowledgement.

use crate::config::{AccessLogTo, Config, StartError};
use crate::dns::DnsServer;
use crate::echo::Echo;
use crate::keys;
use crate::receipt::{Change, Receipt, endpoint_changes};
use crate::serving::{Draft, Serving};
use certs::{LocalCa, Serials, StateFolder};
use edge::{Edge, EdgeView, KeyTable, Recorder, Registry};
use explain::{Entry, PortState};
use model::{Digest, Facts, Hostname, Snapshot};
use publish::Cell;
use report::serving::Where;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use telemetry::access::{AccessLog, Counts};
use zone::Zones;

/// Workers that do not answer by then are named as missing; they may be busy with one long poll.
const PATIENCE: Duration = Duration::from_secs(5);
const DNS_PORT: u16 = 53;

/// What the admin address reads.
pub struct Shared {
    pub bind: IpAddr,
    pub entry: Entry,
    pub local_ca_pem: String,
    /// Every worker serves a snapshot.
    pub is_ready: AtomicBool,
    pub registry: Registry,
    pub nameserver_counters: Arc<nameserver::Counters>,
    pub reloads: AtomicU64,
    pub refused_reloads: AtomicU64,
    pub access_log: Option<Arc<Counts>>,
    state: Mutex<Visible>,
}

#[derive(Default)]
struct Visible {
    serving: Option<Arc<Serving>>,
    ports: BTreeMap<u16, PortState>,
    nameserver: Option<SocketAddr>,
}

impl Shared {
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.lock().serving.clone()
    }

    pub fn ports(&self) -> BTreeMap<u16, PortState> {
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
    keys: KeyTable,
    views: Cell<EdgeView>,
    zones: Cell<Zones>,
    edge: Option<Edge>,
    nameserver: Option<DnsServer>,
    access_log: Option<AccessLog>,
    echo: Echo,
    shared: Arc<Shared>,
}

impl Publisher {
    pub fn start(config: &Config, admin: SocketAddr) -> Result<Self, StartError> {
        let state = StateFolder::open(&config.state).map_err(StartError::State)?;
        let ca = LocalCa::open(&state, SystemTime::now()).map_err(StartError::State)?;
        let serials = Serials::open(&state).map_err(StartError::State)?;
        let access_log = open_log(&config.access_log)?;
        let shared = Arc::new(Shared {
            bind: config.bind,
            entry: Entry { advertised: config.advertise.clone(), port_offset: config.port_offset },
            local_ca_pem: ca.certificate_pem().to_owned(),
            is_ready: AtomicBool::new(false),
            registry: Registry::new(config.workers),
            nameserver_counters: Arc::default(),
            reloads: AtomicU64::new(0),
            refused_reloads: AtomicU64::new(0),
            access_log: access_log.as_ref().map(AccessLog::counts),
            state: Mutex::default(),
        });
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
            keys: KeyTable::default(),
            views: Cell::new(Arc::new(nothing)),
            zones: Cell::new(Arc::new(Zones::default())),
            edge: None,
            nameserver: None,
            access_log,
            echo: Echo::default(),
            shared,
        })
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
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
        let previous = self.shared.serving();
        self.make_keys(&draft);
        let echo = self.config.echo.then(|| draft.facts.clone());
        if let Some(facts) = &echo {
            self.echo.follow(facts).await;
        }
        let view = Arc::new(EdgeView::build(
            &draft.compiled.snapshot,
            &draft.facts,
            &self.keys,
            &self.shared.registry,
            previous.as_ref().map(|serving| &*serving.view),
        ));
        let mut faults = self.publish_zones(&draft.compiled.snapshot);
        let generation = self.views.set(Arc::clone(&view));
        faults.extend(self.start_edge());
        let progress = self.views.acknowledged(generation, PATIENCE).await;
        faults.extend(self.edge.iter().flat_map(Edge::bind_faults).map(|fault| fault.to_string()));
        let elapsed = start.elapsed();
        self.views.collect();
        let change = previous.map(|serving| Change {
            plan: compile::difference(serving.snapshot(), &draft.compiled.snapshot),
            endpoints: endpoint_changes(&serving.facts, &draft.facts),
        });
        let digest = draft.compiled.snapshot.digest.short();
        self.show(draft, view, progress.is_complete() && self.edge.is_some());
        self.shared.reloads.fetch_add(1, Ordering::Relaxed);
        Receipt { digest, change, progress, elapsed, port_faults: faults }
    }

    fn make_keys(&mut self, draft: &Draft) {
        let (keys, faults) =
            keys::table(&draft.reading.inputs, &draft.compiled.snapshot, &self.ca, &self.keys);
        self.keys = keys;
        for fault in faults {
            tracing::warn!("{fault}");
        }
    }

    /// The workers start with the first view, so that its ports are bound before anything is said.
    fn start_edge(&mut self) -> Vec<String> {
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
        match Edge::start(config, &self.views, &self.shared.registry, recorder) {
            Ok(edge) => {
                self.edge = Some(edge);
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
        let mut faults = Vec::new();
        let mut serials = BTreeMap::new();
        for zone in &snapshot.dns.zones {
            let digest = zone.digest().to_string();
            match self.serials.next(zone.name.as_str(), digest.as_bytes(), SystemTime::now()) {
                Ok(serial) => drop(serials.insert(zone.name.clone(), serial)),
                Err(error) => faults.push(error.to_string()),
            }
        }
        let previous = self.zones.current();
        let serial = |zone: &Hostname, _: Digest| serials.get(zone).copied().unwrap_or(1);
        let zones = Zones::build(&snapshot.dns, &serial, &self.config.advertise, Some(&previous));
        self.zones.set(Arc::new(zones));
        self.zones.collect();
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
        match DnsServer::start(address, &self.zones, Arc::clone(&self.shared.nameserver_counters)) {
            Ok(server) => {
                self.shared.lock().nameserver = Some(address);
                self.nameserver = Some(server);
                None
            }
            Err(error) => Some(format!(
                "DNS port {DNS_PORT} + offset {offset} = {port}: {error}; use --port-offset"
            )),
        }
    }

    /// What readers of the admin address see from now on.
    fn show(&self, draft: Draft, view: Arc<EdgeView>, is_ready: bool) {
        let Draft { reading, compiled, facts, compile_time } = draft;
        let ports = self.port_states();
        let serving = Arc::new(Serving { reading, compiled, facts, view, compile_time });
        let replaced = {
            let mut visible = self.shared.lock();
            visible.ports = ports;
            visible.serving.replace(serving)
        };
        drop(replaced);
        if is_ready {
            self.shared.is_ready.store(true, Ordering::Release);
        }
    }

    fn port_states(&self) -> BTreeMap<u16, PortState> {
        let Some(edge) = &self.edge else { return BTreeMap::new() };
        let bound = edge.bound_ports().into_iter().filter_map(|port| {
            let address =
                SocketAddr::new(self.config.bind, port.checked_add(self.config.port_offset)?);
            Some((port, PortState::Bound(address)))
        });
        let failed = edge
            .bind_faults()
            .into_iter()
            .map(|fault| (fault.port, PortState::Failed(fault.message)));
        bound.chain(failed).collect()
    }

    /// Lets go of values that nobody reads any more.
    pub fn collect(&self) {
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
        let mut text = report::serving::to_text(serving.snapshot(), &serving.facts, &place);
        if self.config.echo {
            text.push_str(&format!("\necho origin on {} endpoints\n", self.echo.len()));
        }
        text
    }

    /// Finishes what runs; returns when all is done or the limit has passed.
    pub async fn drain(&mut self, limit: Duration) {
        self.shared.is_ready.store(false, Ordering::Release);
        let edge = self.edge.take();
        let nameserver = self.nameserver.take();
        let edge_drained =
            tokio::task::spawn_blocking(move || edge.is_none_or(|edge| edge.drain(limit)));
        if let Some(nameserver) = nameserver {
            nameserver.stop().await;
        }
        if matches!(edge_drained.await, Ok(false)) {
            eprintln!("some requests did not end within {} s and were cut off", limit.as_secs());
        }
        if let Some(log) = self.access_log.take() {
            log.finish();
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
