//! Gathers the evidence that an explanation asks for: all probes at once, each bounded in time.

use crate::handshake;
use edge::Registry;
use explain::{DnsAnswer, Evidence, Failing, PortState, Probed, TakenOut, Try, Wanted};
use model::hostname::DnsName;
use model::id::ServicePort;
use model::reach::Unreached;
use nameserver::probe::{Family, query};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(2);
/// Endpoints that are tried; of more the first are.
const MAX_ENDPOINTS: usize = 64;

/// Where to knock.
pub struct Entrance<'a> {
    pub registry: &'a Registry,
    pub bind: IpAddr,
    pub port_offset: u16,
    pub nameserver: Option<SocketAddr>,
    pub ports: BTreeMap<(bool, u16), PortState>,
    pub local_ca_pem: String,
    /// Endpoints that get no requests, and why.
    pub out: BTreeMap<SocketAddr, TakenOut>,
    /// Endpoints that do nothing but fail.
    pub failing: BTreeMap<SocketAddr, Failing>,
}

pub async fn gather(entrance: &Entrance<'_>, wanted: &Wanted) -> Evidence {
    let (dns, tls, endpoints) = tokio::join!(
        resolution(entrance, wanted),
        handshake(entrance, wanted),
        endpoints(entrance.registry, &wanted.endpoints)
    );
    Evidence {
        dns,
        ports: Probed::Seen(entrance.ports.clone()),
        tls,
        endpoints,
        out: entrance.out.clone(),
        failing: entrance.failing.clone(),
        names: Probed::Skipped,
    }
}

/// An address that reaches a wildcard bind.
pub fn reachable(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

async fn resolution(entrance: &Entrance<'_>, wanted: &Wanted) -> Probed<Result<DnsAnswer, String>> {
    let Some(name) = &wanted.dns else { return Probed::Skipped };
    let Some(server) = entrance.nameserver else {
        return Probed::Seen(Err("the DNS port is not bound".to_owned()));
    };
    let server = SocketAddr::new(reachable(server.ip()), server.port());
    let name = match DnsName::parse(name) {
        Ok(name) => name,
        Err(error) => return Probed::Unknown(error.to_string()),
    };
    let (v4, v6) = tokio::join!(
        query(server, &name, Family::A, PATIENCE),
        query(server, &name, Family::Aaaa, PATIENCE)
    );
    Probed::Seen(match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let ttl = v4.ttl.or(v6.ttl).unwrap_or_default();
            let mut addresses = v4.addresses;
            addresses.extend(v6.addresses);
            Ok(DnsAnswer { rcode: v4.rcode.to_string(), addresses, ttl })
        }
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    })
}

async fn handshake(
    entrance: &Entrance<'_>,
    wanted: &Wanted,
) -> Probed<Result<explain::Handshake, String>> {
    let Some((port, name)) = &wanted.tls else { return Probed::Skipped };
    let Some(bound) = port.checked_add(entrance.port_offset) else { return Probed::Skipped };
    let address = SocketAddr::new(reachable(entrance.bind), bound);
    Probed::Seen(handshake::probe(address, name, &entrance.local_ca_pem).await)
}

async fn endpoints(
    registry: &Registry,
    tries: &[Try],
) -> Probed<BTreeMap<(ServicePort, SocketAddr), Result<(), Unreached>>> {
    let mut probes = JoinSet::new();
    for Try { port, address, alternate, policy, is_stream } in tries.iter().take(MAX_ENDPOINTS) {
        let addresses = (*address, *alternate);
        let door = registry.door((port, policy.as_deref()), addresses, *is_stream);
        let place = (port.clone(), *address);
        probes.spawn(async move { (place, door.knock(PATIENCE).await) });
    }
    Probed::Seen(probes.join_all().await.into_iter().collect())
}
