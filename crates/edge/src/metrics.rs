//! Counters of the edge. Each worker writes its own, so that nothing shared is written on the request path; readers
//! sum them up. Counters of a route are kept by its id and survive new snapshots. The text form is in `exposition`.

use crate::access::Trace;
use crate::entry::Unwelcome;
use crate::mirror;
use crate::refusal::{Cause, Refusal};
use crate::stream_metrics::StreamCounters;
use model::{ObjectId, limits};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the latency histogram, in microseconds; a last bucket takes the rest.
pub const LATENCY_BOUNDS_US: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only the owning worker may call this: it is no atomic addition.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.value().wrapping_add(count), Ordering::Relaxed);
    }

    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's counters of one route. Aligned so that two workers never write to one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct RouteCounters {
    /// By status class, 1xx to 5xx.
    pub classes: [Counter; 5],
    pub latency: [Counter; LATENCY_BOUNDS_US.len() + 1],
    pub latency_sum_us: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub failures: [Counter; UpstreamFailure::ALL.len()],
    pub not_retried: [Counter; NotRetried::ALL.len()],
}

impl RouteCounters {
    pub fn request(&self, trace: &Trace, elapsed_us: u64) {
        if let Some(class) = self.classes.get(usize::from(trace.status / 100).wrapping_sub(1)) {
            class.add(1);
        }
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < elapsed_us);
        self.latency[bucket].add(1);
        self.latency_sum_us.add(elapsed_us);
        self.bytes_in.add(trace.bytes_in);
        self.bytes_out.add(trace.bytes_out);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    Connect,
    /// For want of descriptors, ports or memory here.
    Shortage,
    ConnectTimeout,
    /// Not tried: the edge listens there itself.
    Loop,
    /// No handshake came about: no TLS, no answer to it, or a certificate that is not to be believed.
    Tls,
    /// Closed or failed before a whole response head.
    NoResponse,
    /// The origin did not look at the request: REFUSED_STREAM, or above the last stream of a GOAWAY.
    NotProcessed,
    /// The response's head or framing is not acceptable.
    Malformed,
    /// The body ended early.
    Truncated,
    Timeout,
}

impl UpstreamFailure {
    pub const ALL: [UpstreamFailure; 10] = [
        UpstreamFailure::Connect,
        UpstreamFailure::Shortage,
        UpstreamFailure::ConnectTimeout,
        UpstreamFailure::Loop,
        UpstreamFailure::Tls,
        UpstreamFailure::NoResponse,
        UpstreamFailure::NotProcessed,
        UpstreamFailure::Malformed,
        UpstreamFailure::Truncated,
        UpstreamFailure::Timeout,
    ];

    pub fn slug(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "connect",
            UpstreamFailure::Shortage => "shortage",
            UpstreamFailure::ConnectTimeout => "connect-timeout",
            UpstreamFailure::Loop => "loop",
            UpstreamFailure::Tls => "tls",
            UpstreamFailure::NotProcessed => "not-processed",
            UpstreamFailure::NoResponse => "no-response",
            UpstreamFailure::Malformed => "malformed",
            UpstreamFailure::Truncated => "truncated",
            UpstreamFailure::Timeout => "timeout",
        }
    }

    /// A clause about the endpoint.
    pub fn sentence(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "it took no connection",
            UpstreamFailure::Shortage => "there was no room for a connection here",
            UpstreamFailure::ConnectTimeout => "it took no connection in time",
            UpstreamFailure::Loop => "it is a listener of this edge",
            UpstreamFailure::Tls => "its TLS handshake failed, or did not end in time",
            UpstreamFailure::NotProcessed => "it did not look at the request",
            UpstreamFailure::NoResponse => "it closed without a response",
            UpstreamFailure::Malformed => "it sent what is no response",
            UpstreamFailure::Truncated => "its response ended early",
            UpstreamFailure::Timeout => "it did not answer in time",
        }
    }
}

/// Why an attempt that failed was not made again, though that was sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRetried {
    /// The retry budget is spent.
    Budget,
    /// As many retries are under way as may be.
    Limit,
}

impl NotRetried {
    pub const ALL: [NotRetried; 2] = [NotRetried::Budget, NotRetried::Limit];

    pub fn slug(self) -> &'static str {
        match self {
            NotRetried::Budget => "budget",
            NotRetried::Limit => "limit",
        }
    }
}

/// The counters of one route, of all workers.
#[derive(Debug)]
pub(crate) struct OfRoute<C> {
    pub label: String,
    workers: Box<[C]>,
}

pub(crate) type RouteMetrics = OfRoute<RouteCounters>;

impl<C> OfRoute<C> {
    fn new(label: String, workers: usize) -> Arc<OfRoute<C>>
    where
        C: Default,
    {
        let workers = (0..workers).map(|_| C::default()).collect();
        Arc::new(OfRoute { label, workers })
    }

    /// `worker` is below the number that the metrics were made for.
    pub fn of(&self, worker: usize) -> &C {
        &self.workers[worker]
    }

    pub fn sum(&self, read: impl Fn(&C) -> &Counter) -> u64 {
        self.workers.iter().map(|counters| read(counters).value()).sum()
    }
}

/// Counters by route.
#[derive(Debug)]
pub(crate) struct Routes<C> {
    workers: usize,
    by_id: Mutex<BTreeMap<ObjectId, Arc<OfRoute<C>>>>,
    /// Takes the routes beyond [`limits::METRIC_ROUTES`].
    other: Arc<OfRoute<C>>,
}

impl<C: Default> Routes<C> {
    pub fn new(workers: usize) -> Routes<C> {
        let other = OfRoute::new("other".to_owned(), workers);
        Routes { workers, by_id: Mutex::default(), other }
    }

    /// Made at its first sight.
    pub fn of(&self, id: &ObjectId) -> Arc<OfRoute<C>> {
        let mut routes = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = routes.get(id) {
            return Arc::clone(metrics);
        }
        if routes.len() >= limits::METRIC_ROUTES {
            return Arc::clone(&self.other);
        }
        let metrics = OfRoute::new(id.to_string(), self.workers);
        routes.insert(id.clone(), Arc::clone(&metrics));
        metrics
    }

    /// In the order of ids; then the one that stands for no route of its own.
    pub fn all(&self) -> Vec<Arc<OfRoute<C>>> {
        let routes = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        routes.values().chain([&self.other]).cloned().collect()
    }
}

/// One worker's counters of what belongs to no route.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct WorkerCounters {
    pub accepted: Counter,
    pub closed: Counter,
    pub over_limit: Counter,
    pub unwelcome: [Counter; Unwelcome::ALL.len()],
    pub handshakes: Counter,
    pub handshakes_failed: Counter,
    pub handshakes_without_certificate: Counter,
    pub retries: Counter,
    pub streams_without_route: Counter,
    pub hellos_refused: Counter,
    pub flows_over_limit: Counter,
    pub mirrors: [Counter; mirror::Outcome::ALL.len()],
    pub causes: [Counter; Cause::ALL.len()],
    pub messages: Box<[Counter]>,
}

impl WorkerCounters {
    fn new() -> WorkerCounters {
        WorkerCounters {
            accepted: Counter::default(),
            closed: Counter::default(),
            over_limit: Counter::default(),
            unwelcome: Default::default(),
            handshakes: Counter::default(),
            handshakes_failed: Counter::default(),
            handshakes_without_certificate: Counter::default(),
            retries: Counter::default(),
            streams_without_route: Counter::default(),
            hellos_refused: Counter::default(),
            flows_over_limit: Counter::default(),
            mirrors: Default::default(),
            causes: Default::default(),
            messages: h1::Reason::ALL.iter().map(|_| Counter::default()).collect(),
        }
    }

    pub fn refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::Edge(cause) => self.causes[cause as usize].add(1),
            Refusal::Rule { .. } => self.causes[Cause::RuleFails as usize].add(1),
            Refusal::Replaced { .. } => self.causes[Cause::Replaced as usize].add(1),
            Refusal::Message(reason) => {
                if let Some(counter) = self.messages.get(reason as usize) {
                    counter.add(1);
                }
            }
        }
    }
}

/// All counters of an edge.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) routes: Routes<RouteCounters>,
    /// Takes requests that no route matched.
    unmatched: Arc<RouteMetrics>,
    pub(crate) streams: Routes<StreamCounters>,
    pub(crate) workers: Box<[WorkerCounters]>,
}

impl Metrics {
    pub fn new(workers: usize) -> Arc<Metrics> {
        Arc::new(Metrics {
            routes: Routes::new(workers),
            unmatched: OfRoute::new("none".to_owned(), workers),
            streams: Routes::new(workers),
            workers: (0..workers).map(|_| WorkerCounters::new()).collect(),
        })
    }

    pub(crate) fn unmatched(&self) -> &RouteMetrics {
        &self.unmatched
    }

    /// Of HTTP; in the end the two that stand for no route of their own.
    pub(crate) fn routes(&self) -> Vec<Arc<RouteMetrics>> {
        let mut routes = self.routes.all();
        routes.push(Arc::clone(&self.unmatched));
        routes
    }

    pub(crate) fn sum(&self, read: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers.iter().map(|counters| read(counters).value()).sum()
    }
}
