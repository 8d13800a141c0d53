//! What outlives views: endpoints with their state, and what all workers share of a backend. Workers write here when
//! something goes wrong, and once a sweep.

use crate::metrics::UpstreamFailure;
use crate::numbers::Held;
use model::id::ServicePort;
use model::traffic::BackendPolicy;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use traffic::{Endpoint, State};

#[derive(Debug)]
pub struct Live {
    /// From which all times of endpoints are counted.
    epoch: Instant,
    /// Counts changes of state of any endpoint: balancers make their lists anew when it moves.
    changes: AtomicU64,
    /// By addresses, and whether over UDP: what a port does over one says nothing of the other.
    endpoints: Mutex<Held<(Addresses, bool), Endpoint>>,
}

/// An endpoint's address, and the one of the other family where it has one.
type Addresses = (SocketAddr, Option<SocketAddr>);

/// An endpoint that is not in use, for whoever explains.
#[derive(Clone, Debug)]
pub struct Out {
    pub address: SocketAddr,
    pub state: State,
    /// How long it has been out, and, for an ejected one, how long it will be.
    pub since_ms: u64,
    pub left_ms: Option<u64>,
    /// An endpoint is one for all Services that have it: the one whose requests or checks took it out.
    pub taken_out_for: Option<ServicePort>,
}

/// An endpoint whose last attempts all failed.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    pub address: SocketAddr,
    pub in_row: u32,
    /// The last of them, and how long ago it was.
    pub what: UpstreamFailure,
    pub ago_ms: u64,
}

impl Live {
    pub(crate) fn new() -> Live {
        Live { epoch: Instant::now(), changes: AtomicU64::new(0), endpoints: Mutex::default() }
    }

    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// The state of an endpoint has changed.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    /// The endpoint at an address, which may have another one, the same for all routes and over all views that have it.
    pub(crate) fn endpoint(&self, addresses: Addresses, is_udp: bool) -> Arc<Endpoint> {
        let (address, alternate) = addresses;
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.of((addresses, is_udp), |number| {
            Endpoint::new(address, number, self.now_ms()).or(alternate)
        })
    }

    /// Endpoints that are out or once were, by address, and whether over UDP.
    pub(crate) fn troubled(&self) -> Vec<(bool, Arc<Endpoint>)> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let known = endpoints.iter().map(|((_, is_udp), known)| (*is_udp, known));
        known.filter(|(_, endpoint)| endpoint.ejections() > 0 || !endpoint.is_in()).collect()
    }

    /// The endpoints of requests that do nothing but fail.
    pub fn failing(&self) -> Vec<Failing> {
        let now_ms = self.now_ms();
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tcp = endpoints.iter().filter(|((_, is_udp), _)| !is_udp);
        let failing =
            of_tcp.filter_map(|(_, endpoint)| Some((endpoint.address(), endpoint.failing()?)));
        let each = failing.filter_map(|(address, failing)| {
            let what = *UpstreamFailure::ALL.iter().find(|known| **known as u8 == failing.what)?;
            let ago_ms = now_ms.saturating_sub(failing.last_ms);
            Some(Failing { address, in_row: failing.in_row, what, ago_ms })
        });
        each.collect()
    }

    /// The endpoints of TCP that nothing goes to at the moment.
    pub fn out(&self) -> Vec<Out> {
        let now_ms = self.now_ms();
        let troubled = self.troubled().into_iter().filter(|(is_udp, _)| !is_udp);
        troubled
            .filter_map(|(_, endpoint)| {
                let state = endpoint.state();
                let (since_ms, left_ms) = match state {
                    State::In => return None,
                    State::Unhealthy { since_ms } => (since_ms, None),
                    State::Ejected { since_ms, until_ms, .. } => {
                        (since_ms, Some(until_ms.saturating_sub(now_ms)))
                    }
                };
                Some(Out {
                    address: endpoint.address(),
                    state,
                    since_ms: now_ms.saturating_sub(since_ms),
                    left_ms,
                    taken_out_for: endpoint.is_out_for(),
                })
            })
            .collect()
    }
}

/// What holds for a backend that nobody said anything about.
pub(crate) fn default_policy() -> &'static BackendPolicy {
    static DEFAULT: std::sync::LazyLock<BackendPolicy> =
        std::sync::LazyLock::new(BackendPolicy::default);
    &DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_while_it_is_held_and_its_number_is_used_again() {
        let live = Live::new();
        let address = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
        let held: Vec<_> = (1..=10).map(|n| live.endpoint((address(n), None), false)).collect();
        assert!(Arc::ptr_eq(&held[3], &live.endpoint((address(4), None), false)));
        assert!(!Arc::ptr_eq(&held[3], &live.endpoint((address(4), None), true)));
        for n in 100..2_000 {
            let number = live.endpoint((address(n), None), false).number();
            assert!(number < 200, "{number}");
        }
        let numbers: std::collections::HashSet<u32> = held.iter().map(|e| e.number()).collect();
        assert_eq!(numbers.len(), 10);
        assert!(Arc::ptr_eq(&held[3], &live.endpoint((address(4), None), false)));
    }
}
