//! One line for a person after a reload: what changed, and who serves it.

use compile::Difference;
use model::Facts;
use model::facts::{Endpoint, EndpointSet};
use model::id::ServicePort;
use publish::Progress;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub struct Receipt {
    pub digest: String,
    /// None for the first snapshot.
    pub change: Option<Change>,
    pub progress: Progress,
    pub elapsed: Duration,
    pub port_faults: Vec<String>,
}

/// Of the plan, and of the endpoints behind it.
pub struct Change {
    pub plan: Difference,
    pub endpoints: Vec<EndpointChange>,
}

pub struct EndpointChange {
    pub port: ServicePort,
    /// Ready and all, before and after.
    pub before: (usize, usize),
    pub after: (usize, usize),
    /// Endpoints came or went, whatever their number.
    pub has_other_addresses: bool,
}

/// Services in a line; of more the number is said.
const SHOWN: usize = 3;

/// Service ports whose endpoints are not the same, sorted: those of TCP, then those of UDP.
pub fn endpoint_changes(before: &Facts, after: &Facts) -> Vec<EndpointChange> {
    let mut changes = changes_of(&before.endpoints, &after.endpoints);
    changes.extend(changes_of(&before.datagram_endpoints, &after.datagram_endpoints));
    changes
}

type Sets = HashMap<ServicePort, Arc<EndpointSet>>;

fn changes_of(before: &Sets, after: &Sets) -> Vec<EndpointChange> {
    let ports: BTreeSet<&ServicePort> = before.keys().chain(after.keys()).collect();
    let count = |sets: &Sets, port: &ServicePort| {
        let endpoints = endpoints(sets, port);
        (endpoints.iter().filter(|endpoint| endpoint.ready).count(), endpoints.len())
    };
    ports
        .into_iter()
        .filter(|port| endpoints(before, port) != endpoints(after, port))
        .map(|port| EndpointChange {
            port: port.clone(),
            before: count(before, port),
            after: count(after, port),
            has_other_addresses: addresses(before, port) != addresses(after, port),
        })
        .collect()
}

fn endpoints<'s>(sets: &'s Sets, port: &ServicePort) -> &'s [Endpoint] {
    sets.get(port).map_or(&[], |set| &set.endpoints)
}

fn addresses(sets: &Sets, port: &ServicePort) -> BTreeSet<SocketAddr> {
    endpoints(sets, port).iter().map(|endpoint| endpoint.address).collect()
}

impl fmt::Display for EndpointChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ready, all) = self.after;
        write!(f, "{}: {ready} of {all} ready", self.port)?;
        match (self.before == self.after, self.has_other_addresses) {
            (false, _) => write!(f, " (was {} of {})", self.before.0, self.before.1),
            (true, true) => f.write_str(", addresses changed"),
            (true, false) => f.write_str(", the state of endpoints changed"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.endpoints.is_empty() {
            return self.plan.fmt(f);
        }
        if !self.plan.is_empty() {
            write!(f, "{}; ", self.plan)?;
        }
        let shown: Vec<String> =
            self.endpoints.iter().take(SHOWN).map(ToString::to_string).collect();
        f.write_str(&shown.join("; "))?;
        match self.endpoints.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; endpoints of {more} more services"),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Some(change) => write!(f, "reload: {change}")?,
            None => f.write_str("reload: first snapshot")?,
        }
        let (Progress { done, of }, ms) = (self.progress, self.elapsed.as_secs_f64() * 1_000.0);
        write!(f, "; snapshot {}; acknowledged by {done} of {of} workers; {ms:.1} ms", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Kind, ObjectId};

    fn facts(services: &[(&str, &[bool])]) -> Facts {
        let endpoints = services.iter().map(|(name, ready)| {
            let port = ServicePort { namespace: "shop".into(), name: (*name).into(), port: 80 };
            let endpoints = (1..).zip(*ready).map(|(port, ready)| Endpoint {
                ready: *ready,
                serving: *ready,
                ..Endpoint::ready(
                    ([127, 0, 0, 1], port).into(),
                    ObjectId::new(Kind::ENDPOINT_SLICE, "shop", *name),
                )
            });
            (port, Arc::new(EndpointSet { endpoints: endpoints.collect() }))
        });
        Facts { endpoints: endpoints.collect(), ..Facts::default() }
    }

    #[test]
    fn endpoints_that_changed_are_counted_before_and_after() {
        let before = facts(&[("cart", &[true, true]), ("web", &[true])]);
        let after = facts(&[("cart", &[true, false]), ("web", &[true]), ("new", &[true])]);
        let shown: Vec<String> =
            endpoint_changes(&before, &after).iter().map(ToString::to_string).collect();
        let expected =
            ["shop/cart:80: 1 of 2 ready (was 2 of 2)", "shop/new:80: 1 of 1 ready (was 0 of 0)"];
        assert_eq!(shown, expected);
        assert!(endpoint_changes(&after, &after).is_empty());
    }

    #[test]
    fn what_counts_do_not_tell_is_said() {
        let shown = |after: &Facts| -> Vec<String> {
            let before = facts(&[("cart", &[true, false])]);
            endpoint_changes(&before, after).iter().map(ToString::to_string).collect()
        };
        let mut moved = facts(&[("cart", &[true, false])]);
        for set in moved.endpoints.values_mut() {
            Arc::make_mut(set).endpoints[0].address = ([127, 0, 0, 2], 1).into();
        }
        assert_eq!(shown(&moved), ["shop/cart:80: 1 of 2 ready, addresses changed"]);
        let swapped = facts(&[("cart", &[false, true])]);
        let expected = ["shop/cart:80: 1 of 2 ready, the state of endpoints changed"];
        assert_eq!(shown(&swapped), expected);
    }
}
