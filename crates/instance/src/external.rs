//! Services of type ExternalName: their names are asked for in the background, again and again, and the addresses become
//! endpoints. No request waits for that. Which addresses are never gone to, and when to ask again, `traffic` decides.

use explain::Nowhere;
use manifest::Inputs;
use model::facts::{Endpoint, EndpointSet};
use model::hostname::DnsName;
use model::id::ServicePort;
use model::{Facts, Snapshot};
use nameserver::probe::{Family, ProbeAnswer, query};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use traffic::Random;
use traffic::external::{Answer, Lookup, forbidden};

/// One question to one nameserver.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nameservers that are asked, one after the other.
const SERVERS: usize = 3;
/// Questions under way at a time.
const QUESTIONS: usize = 32;
/// A new name gets this long for its first answer, before the plan that leads to it is served.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// For how long a name without addresses has none.
const NOTHING_TTL_S: u32 = 30;
const DNS_PORT: u16 = 53;

pub struct Externals {
    state: Arc<State>,
    task: Option<AbortHandle>,
}

/// What is known of names, for whoever explains.
#[derive(Clone)]
pub struct Names(Arc<State>);

impl Names {
    /// Why it leads to no address that may be gone to.
    pub fn fault(&self, name: &str, servers: &[IpAddr]) -> Nowhere {
        let lookups = self.0.lookups();
        let known = DnsName::parse(name).ok().and_then(|name| lookups.get(&name));
        let Some(known) = known else { return Nowhere::NotAsked };
        let mut found = known.iter().flat_map(Lookup::addresses);
        let refused = found.find_map(|at| Some((at, forbidden(at, servers)?)));
        match refused {
            Some((address, why)) => Nowhere::Forbidden(address, why.to_string()),
            None if known.iter().any(Lookup::was_answered) => Nowhere::NoAddress,
            None => Nowhere::Unanswered,
        }
    }
}

struct State {
    /// As configured; none for those of the system.
    servers: Vec<SocketAddr>,
    epoch: Instant,
    lookups: Mutex<HashMap<DnsName, [Lookup; 2]>>,
    /// Names of which an address was refused: said once, for whoever writes the zone can give ever new ones.
    said: Mutex<HashSet<DnsName>>,
    /// Names came or went.
    wanted: Notify,
    /// Addresses are others.
    changed: Notify,
    /// A question was answered, or not.
    tried: Notify,
}

impl Drop for Externals {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Externals {
    pub fn new(servers: Vec<SocketAddr>) -> Externals {
        let state = State {
            servers,
            epoch: Instant::now(),
            lookups: Mutex::default(),
            said: Mutex::default(),
            wanted: Notify::new(),
            changed: Notify::new(),
            tried: Notify::new(),
        };
        Externals { state: Arc::new(state), task: None }
    }

    /// Asks for the names of the plan from now on, and for no others; gives `facts` what is known of them. New names are
    /// waited for, for a moment.
    pub async fn follow(&mut self, snapshot: &Snapshot, inputs: &Inputs, facts: &mut Facts) {
        let ports = compile::external_names(snapshot);
        let names =
            ports.iter().filter_map(|(port, name)| Some((port, DnsName::parse(name).ok()?)));
        let names: BTreeMap<&ServicePort, DnsName> = names.collect();
        self.want(names.values());
        if names.is_empty() {
            return;
        }
        // Whoever is too slow gets its endpoints later.
        let _ = tokio::time::timeout(FIRST_ANSWER, self.state.all_tried()).await;
        let servers = api_servers(inputs, facts);
        for (port, name) in names {
            let set = self.state.endpoints(port, &name, &servers);
            facts.endpoints.insert(port.clone(), Arc::new(set));
        }
    }

    pub fn names(&self) -> Names {
        Names(Arc::clone(&self.state))
    }

    /// Until an address of any name is another one.
    pub async fn changed(&self) {
        self.state.changed.notified().await;
    }

    fn want<'n>(&mut self, names: impl Iterator<Item = &'n DnsName>) {
        let names: HashSet<&DnsName> = names.collect();
        self.state.said().retain(|name| names.contains(name));
        let mut lookups = self.state.lookups();
        lookups.retain(|name, _| names.contains(name));
        for name in names {
            lookups.entry(name.clone()).or_default();
        }
        if self.task.is_none() && !lookups.is_empty() {
            self.task = Some(tokio::spawn(ask_again(Arc::clone(&self.state))).abort_handle());
        }
        self.state.wanted.notify_one();
    }
}

impl State {
    fn lookups(&self) -> MutexGuard<'_, HashMap<DnsName, [Lookup; 2]>> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, HashSet<DnsName>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn all_tried(&self) {
        loop {
            let tried = self.tried.notified();
            if self.lookups().values().flatten().all(Lookup::was_tried) {
                return;
            }
            tried.await;
        }
    }

    fn endpoints(&self, port: &ServicePort, name: &DnsName, servers: &[IpAddr]) -> EndpointSet {
        let lookups = self.lookups();
        let found = lookups.get(name).into_iter().flatten().flat_map(Lookup::addresses);
        let allowed = found.filter(|address| self.is_allowed(name, *address, servers));
        let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = allowed.partition(IpAddr::is_ipv6);
        EndpointSet { endpoints: endpoints(port, &v6, &v4) }
    }

    fn is_allowed(&self, name: &DnsName, address: IpAddr, servers: &[IpAddr]) -> bool {
        let Some(why) = forbidden(address, servers) else { return true };
        if self.said().insert(name.clone()) {
            let name = name.as_str();
            tracing::warn!("{name} leads to {address}, which is {why}: no request goes there");
        }
        false
    }

    /// Names and families that are to be asked for now.
    fn due(&self) -> Vec<(DnsName, Family)> {
        let now_ms = self.now_ms();
        let lookups = self.lookups();
        let each =
            lookups.iter().flat_map(|(name, of)| FAMILIES.into_iter().map(move |f| (name, f, of)));
        let due = each.filter(|(_, family, of)| of[place(*family)].due_ms() <= now_ms);
        due.take(QUESTIONS).map(|(name, family, _)| (name.clone(), family)).collect()
    }

    /// When the next one is to be asked for.
    fn next(&self) -> Duration {
        let next_ms = self.lookups().values().flatten().map(Lookup::due_ms).min();
        let left_ms = next_ms.map_or(60_000, |next_ms| next_ms.saturating_sub(self.now_ms()));
        Duration::from_millis(left_ms.max(1))
    }

    fn note(&self, name: &DnsName, family: Family, answer: Answer, random: &mut Random) {
        let now_ms = self.now_ms();
        let mut lookups = self.lookups();
        // Nobody may want it any more.
        let Some(of) = lookups.get_mut(name) else { return };
        if of[place(family)].observe(answer, now_ms, random) {
            self.changed.notify_one();
        }
        drop(lookups);
        self.tried.notify_waiters();
    }
}

const FAMILIES: [Family; 2] = [Family::A, Family::Aaaa];

fn place(family: Family) -> usize {
    usize::from(family == Family::Aaaa)
}

/// The addresses of a name stand for each other, so each of IPv6 has one of IPv4 beside it, as far as there are any.
fn endpoints(port: &ServicePort, v6: &[IpAddr], v4: &[IpAddr]) -> Vec<Endpoint> {
    let pairs = v6.iter().enumerate().map(|(at, address)| {
        let alternate = v4.get(at).map(|address| SocketAddr::new(*address, port.port));
        Endpoint { alternate, ..endpoint(port, *address) }
    });
    let rest = v4.iter().skip(v6.len()).map(|address| endpoint(port, *address));
    let mut endpoints: Vec<Endpoint> = pairs.chain(rest).collect();
    endpoints.sort();
    endpoints
}

fn endpoint(port: &ServicePort, address: IpAddr) -> Endpoint {
    Endpoint::ready(SocketAddr::new(address, port.port), port.service())
}

/// As the environment of a pod and the Service `default/kubernetes` name them.
pub fn api_servers(inputs: &Inputs, facts: &Facts) -> Vec<IpAddr> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
    let service =
        inputs.service(&"default".into(), &"kubernetes".into()).map(|(_, service)| service);
    let cluster_ip = service.and_then(|service| service.cluster_ip.as_ref()?.parse().ok());
    let sets = facts
        .endpoints
        .iter()
        .filter(|(port, _)| &*port.namespace == "default" && &*port.name == "kubernetes");
    let behind = sets.flat_map(|(_, set)| set.endpoints.iter().map(|e| e.address.ip()));
    host.into_iter().chain(cluster_ip).chain(behind).collect()
}

async fn ask_again(state: Arc<State>) {
    let mut random = Random::new(u64::from(std::process::id()));
    loop {
        let mut questions = JoinSet::new();
        let servers = if state.servers.is_empty() { of_system() } else { state.servers.clone() };
        for (name, family) in state.due() {
            let servers = servers.clone();
            questions.spawn(async move {
                let answer = ask(&servers, &name, family).await;
                (name, family, answer)
            });
        }
        while let Some(answered) = questions.join_next().await {
            let Ok((name, family, answer)) = answered else { continue };
            state.note(&name, family, answer, &mut random);
        }
        tokio::select! {
            () = tokio::time::sleep(state.next()) => {}
            () = state.wanted.notified() => {}
        }
    }
}

/// The first nameserver that answers.
async fn ask(servers: &[SocketAddr], name: &DnsName, family: Family) -> Answer {
    for server in servers.iter().take(SERVERS) {
        let asked = query(*server, name, family, PATIENCE).await;
        if let Some(answer) = asked.ok().and_then(|answer| read(answer, family)) {
            return answer;
        }
    }
    Answer::Failed
}

/// None for what says nothing about the name.
fn read(answer: ProbeAnswer, family: Family) -> Option<Answer> {
    if ![zone::Rcode::NO_ERROR, zone::Rcode::NX_DOMAIN].contains(&answer.rcode) {
        return None;
    }
    let mut addresses = answer.addresses;
    addresses.retain(|address| address.is_ipv6() == (family == Family::Aaaa));
    let ttl_s = answer.ttl.filter(|_| !addresses.is_empty()).unwrap_or(NOTHING_TTL_S);
    Some(Answer::Addresses(addresses, ttl_s))
}

/// The lines `nameserver` of /etc/resolv.conf, read anew each time; resolv.conf(5) has this machine where there are none.
fn of_system() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut servers = nameservers(&text);
    if servers.is_empty() {
        servers.push(([127, 0, 0, 1], DNS_PORT).into());
    }
    servers
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let words = lines.filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = words.filter_map(|word| word.trim().parse::<IpAddr>().ok());
    addresses.map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_of_a_file() {
        for (text, expected) in [
            ("nameserver 192.0.2.1\nsearch a.test\nnameserver\t2001:db8::1 # two\n", 2),
            ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n", 0),
            ("nameserver one\noptions edns0", 0),
            ("", 0),
        ] {
            assert_eq!(nameservers(text).len(), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_said_of_names_does_not_grow() {
        let mut externals = Externals::new(vec![([127, 0, 0, 1], 9).into()]);
        let names = ["a.test", "b.test"].map(|name| DnsName::parse(name).expect("a name"));
        externals.want(names.iter());
        for last in 1..=200 {
            let address = IpAddr::from([127, 0, 0, last]);
            assert!(names.iter().all(|name| !externals.state.is_allowed(name, address, &[])));
        }
        assert_eq!(externals.state.said().len(), 2);
        externals.want(names[1..].iter());
        assert_eq!(externals.state.said().len(), 1, "of a name that nobody wants nothing is kept");
    }

    #[test]
    fn addresses_of_both_families_stand_for_each_other() {
        let port = ServicePort { namespace: "n".into(), name: "s".into(), port: 80 };
        let parse = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|ip| ip.parse().expect("an address")).collect()
        };
        for (v6, v4, expected) in [
            (
                &["2001:db8::1"][..],
                &["192.0.2.1"][..],
                &[("[2001:db8::1]:80", Some("192.0.2.1:80"))][..],
            ),
            (&[], &["192.0.2.1"], &[("192.0.2.1:80", None)]),
            (&["2001:db8::1"], &[], &[("[2001:db8::1]:80", None)]),
            (
                &["2001:db8::1"],
                &["192.0.2.1", "192.0.2.2"],
                &[("192.0.2.2:80", None), ("[2001:db8::1]:80", Some("192.0.2.1:80"))],
            ),
        ] {
            let made = endpoints(&port, &parse(v6), &parse(v4));
            let made: Vec<_> = made
                .iter()
                .map(|e| (e.address.to_string(), e.alternate.map(|address| address.to_string())))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(first, second)| ((*first).to_owned(), second.map(str::to_owned)))
                .collect();
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn what_an_answer_says_about_a_name() {
        let v4: IpAddr = [192, 0, 2, 1].into();
        let of = |rcode, addresses: &[IpAddr], ttl| {
            let (chain, addresses) = (Vec::new(), addresses.to_vec());
            read(ProbeAnswer { rcode, addresses, ttl, authoritative: false, chain }, Family::A)
        };
        let (good, none) = (zone::Rcode::NO_ERROR, zone::Rcode::NX_DOMAIN);
        for (rcode, addresses, ttl, expected) in [
            (good, &[v4][..], Some(60), Some(Answer::Addresses(vec![v4], 60))),
            (good, &[], Some(7), Some(Answer::Addresses(vec![], 30))),
            (none, &[], None, Some(Answer::Addresses(vec![], 30))),
            (zone::Rcode::SERV_FAIL, &[], None, None),
            (zone::Rcode::REFUSED, &[], None, None),
        ] {
            assert_eq!(of(rcode, addresses, ttl), expected);
        }
    }
}
