//! Endpoints at which the edge listens itself: it sends them nothing, as that would come back to it.

use crate::evidence::PortState;
use crate::subject::Subject;
use crate::{Evidence, Finding, Probed, State};
use model::Link;
use model::facts::Endpoint;
use model::id::ServicePort;
use model::layer4::Transport;
use model::reach::takes;
use std::net::SocketAddr;

/// Why an endpoint gets nothing.
pub const WHY: &str = "a listener of this edge";

/// Every ready endpoint of a Service is one.
pub fn finding(
    subject: &Subject<'_>,
    port: &ServicePort,
    usable: &[&Endpoint],
    evidence: &Evidence,
) -> Option<Finding> {
    let first = usable.first()?;
    let all = usable.iter().all(|endpoint| leads_back(subject, endpoint, evidence));
    let detail = format!(
        "requests go to no ready endpoint of {port}: what is sent to {}, {WHY}, comes back, so it is refused (`loop`)",
        first.address
    );
    all.then(|| {
        Finding::new(Link::Pod, State::Broken, detail).help(
            "name in the EndpointSlice where the program behind the Service listens, not this edge",
        )
    })
}

/// Bytes are led to a listener that speaks HTTP: requests go on from there to none.
pub fn leads_back(subject: &Subject<'_>, endpoint: &Endpoint, evidence: &Evidence) -> bool {
    let Probed::Seen(ports) = &evidence.ports else { return false };
    let layer4 = &subject.world.compiled.snapshot.edge.layer4;
    let takes_bytes =
        |port: u16| layer4.iter().any(|at| at.port == port && at.transport != Transport::Udp);
    let is_own = |address: SocketAddr| {
        let advertised = &subject.world.entry.advertised;
        ports.iter().any(|((is_udp, port), state)| match state {
            PortState::Bound(bound) if !is_udp => {
                let counts = subject.stream().is_none() || takes_bytes(*port);
                counts && takes(*bound, address, |address| advertised.contains(&address))
            }
            PortState::Bound(_) | PortState::Failed(_) => false,
        })
    };
    is_own(endpoint.address) || endpoint.alternate.is_some_and(is_own)
}
