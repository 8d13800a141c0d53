//! What the nameserver counts. Plain atomics, written by its tasks and read by whoever shows them.

use model::Hostname;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zone::{Outcome, Rcode, Transport, Unanswerable, Zones};

/// The codes that we send, in the order of [`Rcodes`].
const SENT: [Rcode; 7] = [
    Rcode::NO_ERROR,
    Rcode::FORM_ERR,
    Rcode::SERV_FAIL,
    Rcode::NX_DOMAIN,
    Rcode::NOT_IMP,
    Rcode::REFUSED,
    Rcode::BAD_VERS,
];

/// Everything only rises, but for `tcp_connections`.
#[derive(Debug, Default)]
pub struct Counters {
    pub udp: Rcodes,
    pub tcp: Rcodes,
    /// Answers over UDP that did not fit.
    pub truncated: AtomicU64,
    /// Messages shorter than a header.
    pub dropped_short: AtomicU64,
    /// Messages that were responses themselves.
    pub dropped_responses: AtomicU64,
    /// Answers over UDP that the kernel did not take.
    pub send_failures: AtomicU64,
    /// Connections that are open now.
    pub tcp_connections: AtomicU64,
    /// Connections closed at once because `DNS_TCP_CONNECTIONS` were open.
    pub tcp_refused: AtomicU64,
    /// Connections closed because nothing, or nothing whole, came in time or was read in time.
    pub tcp_timeouts: AtomicU64,
    zones: Mutex<BTreeMap<Hostname, Arc<AtomicU64>>>,
}

/// One counter for each response code that we send.
#[derive(Debug, Default)]
pub struct Rcodes([AtomicU64; SENT.len()]);

impl Rcodes {
    pub fn values(&self) -> impl Iterator<Item = (Rcode, u64)> {
        SENT.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub fn total(&self) -> u64 {
        self.values().map(|(_, count)| count).sum()
    }

    fn add(&self, rcode: Rcode) {
        if let Some(slot) = SENT.iter().position(|sent| *sent == rcode) {
            raise(&self.0[slot]);
        }
    }
}

impl Counters {
    /// Queries by zone, also of zones that are no longer served.
    pub fn zones(&self) -> Vec<(Hostname, u64)> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed))).collect()
    }

    pub(crate) fn of_zones(&self, served: &Zones) -> ZoneCounters {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let counter =
            |(name, _): (&Hostname, u32)| Arc::clone(zones.entry(name.clone()).or_default());
        ZoneCounters(served.serials().map(counter).collect())
    }

    pub(crate) fn count(&self, outcome: Outcome, transport: Transport, zones: &ZoneCounters) {
        let (rcode, zone, truncated) = match outcome {
            Outcome::Dropped(Unanswerable::Short) => return raise(&self.dropped_short),
            Outcome::Dropped(Unanswerable::Response) => return raise(&self.dropped_responses),
            Outcome::Answered { rcode, zone, truncated } => (rcode, zone, truncated),
        };
        match transport {
            Transport::Udp => self.udp.add(rcode),
            Transport::Tcp => self.tcp.add(rcode),
        }
        if truncated {
            raise(&self.truncated);
        }
        if let Some(count) = zone.and_then(|zone| zones.0.get(zone)) {
            raise(count);
        }
    }
}

/// The counters of the zones that one task serves, by their position.
#[derive(Default)]
pub(crate) struct ZoneCounters(Vec<Arc<AtomicU64>>);

pub(crate) fn raise(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
