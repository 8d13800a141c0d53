//! Which Secrets hold the certificates of listeners, and what those certificates say. Never a key.

use crate::codes;
use crate::grants::{self, Grants};
use crate::lint;
use crate::report::{Problem, Report};
use crate::reuse::Earlier;
use manifest::Inputs;
use manifest::kinds::gateway::ObjectReference;
use model::certificates::{Certificate, CertificatePlan, Leaf, Source};
use model::edge::{Attachment, EdgePlan, Protocol};
use model::hash::HashSet;
use model::id::ListenerId;
use model::layer4::{self, Transport};
use model::limits::LOCAL_CERTIFICATE_NAMES;
use model::{HostPattern, Kind, Node, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

const REASON: &str = "InvalidCertificateRef";

pub(crate) struct Found {
    pub secret: ObjectId,
    /// The Secret is wanted and not there: a local CA may stand in.
    pub missing: Option<Problem>,
}

/// A listener's reference to a certificate, as far as it leads somewhere.
pub(crate) fn resolve(
    from: &ObjectId,
    reference: &ObjectReference,
    inputs: &Inputs,
    grants: &Grants,
) -> Result<Found, Problem> {
    if !matches!(&*reference.group, "" | "core") || &*reference.kind != Kind::SECRET.0 {
        let (kind, group) = (&reference.kind, &reference.group);
        let message = match &**group {
            "" | "core" => format!("a certificate comes from a Secret, not from a {kind}"),
            _ => format!("a certificate comes from a Secret, not from a {kind} of group {group}"),
        };
        let problem = Problem::new(&codes::BAD_CERTIFICATE_REFERENCE, REASON, "kind", message);
        return Err(problem.help("name a Secret of type kubernetes.io/tls"));
    }
    let namespace = reference.namespace.as_ref().unwrap_or(&from.namespace);
    let secret = ObjectId::new(Kind::SECRET, namespace.clone(), reference.name.clone());
    if !grants.allow(from, &secret) {
        let message = format!("no ReferenceGrant lets {from} use {secret}");
        let problem =
            Problem::new(&codes::REFERENCE_NOT_PERMITTED, "RefNotPermitted", "name", message);
        return Err(problem.help(grants::mend(from, &secret)));
    }
    look_up(secret, inputs)
}

/// A Secret that is named as a certificate.
pub(crate) fn look_up(secret: ObjectId, inputs: &Inputs) -> Result<Found, Problem> {
    match inputs.secret(&secret.namespace, &secret.name) {
        Some((_, found)) if found.tls.is_some() => Ok(Found { secret, missing: None }),
        Some((_, found)) => {
            let message =
                format!("{secret} of type {} holds no usable certificate and key", found.kind);
            let problem = Problem::new(&codes::BAD_CERTIFICATE_REFERENCE, REASON, "", message);
            Err(problem.help("use type kubernetes.io/tls with tls.crt and tls.key"))
        }
        None => {
            let message = format!("{secret} does not exist; `up` issues it from its local CA");
            let is_said = inputs.unread.contains(&secret);
            let problem = Problem::new(&codes::LOCAL_CA, REASON, "", message).said(is_said);
            Ok(Found { secret, missing: Some(problem) })
        }
    }
}

/// One entry a Secret that a served listener names.
pub(crate) fn plan(
    edge: &EdgePlan,
    inputs: &Inputs,
    earlier: &Earlier,
    report: &mut Report,
) -> Node<CertificatePlan> {
    let mut users: BTreeMap<&ObjectId, Vec<User>> = BTreeMap::new();
    for user in users_of(edge) {
        for secret in user.certificates {
            users.entry(secret).or_default().push(user);
        }
    }
    let certificates = users
        .into_iter()
        .map(|(secret, users)| {
            let source = match leaf(secret, inputs) {
                Some(leaf) => Source::Secret(leaf.clone()),
                None => {
                    let (hosts, left_out) = bounded(wanted_hosts(&users));
                    report_left_out(secret, &users, left_out, inputs, report);
                    Source::Missing { hosts }
                }
            };
            earlier.certificates.node(Certificate { secret: secret.clone(), source })
        })
        .collect();
    earlier.certificate_plan.node(CertificatePlan { certificates })
}

/// A listener that ends TLS.
#[derive(Clone, Copy)]
struct User<'a> {
    id: &'a ListenerId,
    host: &'a HostPattern,
    certificates: &'a [ObjectId],
    routes: Routes<'a>,
}

#[derive(Clone, Copy)]
enum Routes<'a> {
    Http(&'a [Attachment]),
    Layer4(&'a [layer4::Attachment]),
}

impl<'a> User<'a> {
    /// The hosts of its routes.
    fn hosts(&self) -> impl Iterator<Item = &'a HostPattern> {
        let (http, streams) = match self.routes {
            Routes::Http(routes) => (routes, &[][..]),
            Routes::Layer4(routes) => (&[][..], routes),
        };
        http.iter().map(|route| &route.host).chain(streams.iter().map(|route| &route.host))
    }
}

fn users_of(edge: &EdgePlan) -> impl Iterator<Item = User<'_>> {
    let http = edge.listeners.iter().filter(|l| l.protocol == Protocol::Https).map(|l| User {
        id: &l.id,
        host: &l.host,
        certificates: &l.certificates,
        routes: Routes::Http(&l.attachments),
    });
    let ending = edge.layer4.iter().filter(|l| l.transport == Transport::TlsTerminate);
    http.chain(ending.map(|l| User {
        id: &l.id,
        host: &l.host,
        certificates: &l.certificates,
        routes: Routes::Layer4(&l.attachments),
    }))
}

fn leaf<'a>(secret: &ObjectId, inputs: &'a Inputs) -> Option<&'a Leaf> {
    let (_, secret) = inputs.secret(&secret.namespace, &secret.name)?;
    secret.tls.as_ref().map(|pair| &pair.leaf)
}

/// What a certificate for these listeners must cover: their own hosts, and those of their routes that the listener's
/// host (a wildcard of a certificate stands for one label) does not take in.
fn wanted_hosts(listeners: &[User]) -> BTreeSet<HostPattern> {
    let mut hosts: BTreeSet<HostPattern> = BTreeSet::new();
    for listener in listeners {
        let own = one_label(listener.host);
        let routes = listener.hosts().map(one_label);
        let beyond = routes.filter(|host| own == HostPattern::Any || !own.covers(host));
        hosts.extend(beyond);
        hosts.insert(own);
    }
    hosts.remove(&HostPattern::Any);
    hosts
}

/// Names of one certificate are few: beyond the bound, siblings share the wildcard of their parent. Says also how many
/// are still beyond it, and left out.
fn bounded(hosts: BTreeSet<HostPattern>) -> (Vec<HostPattern>, usize) {
    if hosts.len() <= LOCAL_CERTIFICATE_NAMES {
        return (hosts.into_iter().collect(), 0);
    }
    let shared: BTreeSet<HostPattern> = hosts.into_iter().map(wildcard_of_parent).collect();
    let left_out = shared.len().saturating_sub(LOCAL_CERTIFICATE_NAMES);
    (shared.into_iter().take(LOCAL_CERTIFICATE_NAMES).collect(), left_out)
}

fn report_left_out(
    secret: &ObjectId,
    users: &[User],
    left_out: usize,
    inputs: &Inputs,
    report: &mut Report,
) {
    let Some(listener) = users.first().filter(|_| left_out > 0) else { return };
    let message = format!(
        "the local certificate for {secret} has room for {LOCAL_CERTIFICATE_NAMES} names; {left_out} more are left out, \
         and clients refuse it for them"
    );
    let field = lint::field_of_listener(inputs, listener.id);
    report
        .add(&codes::LOCAL_CERTIFICATE_NAMES, &listener.id.object, field, message)
        .help("give the listener a `hostname`, or spread the names over listeners with Secrets of their own");
}

/// Never of a top-level domain: clients refuse such a wildcard.
fn wildcard_of_parent(host: HostPattern) -> HostPattern {
    let parent = match &host {
        HostPattern::Exact(name) => name.parent().filter(|parent| parent.contains('.')),
        _ => None,
    };
    match parent.and_then(|parent| model::Hostname::parse(parent).ok()) {
        Some(parent) => HostPattern::OneLabel(parent),
        None => host,
    }
}

fn one_label(host: &HostPattern) -> HostPattern {
    match host {
        HostPattern::Wildcard(suffix) => HostPattern::OneLabel(suffix.clone()),
        other => other.clone(),
    }
}

/// Names that one finding shows.
const SHOWN: usize = 3;

/// Reports names that are served with a certificate that does not cover them.
pub(crate) fn check_coverage(edge: &EdgePlan, inputs: &Inputs, report: &mut Report) {
    for listener in users_of(edge) {
        let leaves: Option<Vec<&Leaf>> =
            listener.certificates.iter().map(|secret| leaf(secret, inputs)).collect();
        // With a Secret that is missing nobody knows yet what it will cover.
        let Some(leaves) = leaves else { continue };
        let names: HashSet<Name> =
            leaves.iter().flat_map(|leaf| &leaf.names).filter_map(Name::of).collect();
        let mut seen: HashSet<Name> = HashSet::default();
        let served = std::iter::once(listener.host).chain(listener.hosts());
        let mut bare: Vec<&HostPattern> = served
            .filter_map(|host| Some((Name::of(host)?, host)))
            .filter(|(name, _)| !name.is_among(&names) && seen.insert(*name))
            .map(|(_, host)| host)
            .collect();
        order_shown(&mut bare);
        if let Some((first, others)) = bare.split_first() {
            report_misfit(&listener, first, others, inputs, report);
        }
    }
}

/// Brings those that are shown to the front, in order.
fn order_shown(hosts: &mut [&HostPattern]) {
    if hosts.len() > SHOWN {
        hosts.select_nth_unstable(SHOWN);
    }
    let shown = hosts.len().min(SHOWN);
    hosts[..shown].sort_unstable();
}

/// A name as certificates have them: whether it is a wildcard, which stands for one label, and what is behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Name<'a>(bool, &'a str);

impl<'a> Name<'a> {
    /// None for any host.
    fn of(host: &'a HostPattern) -> Option<Self> {
        host.base().map(|name| Name(host.is_wildcard(), name.as_str()))
    }

    fn is_among(&self, names: &HashSet<Name>) -> bool {
        let of_parent = || match self {
            Name(true, _) => None,
            Name(false, name) => name.split_once('.').map(|(_, parent)| Name(true, parent)),
        };
        names.contains(self) || of_parent().is_some_and(|wildcard| names.contains(&wildcard))
    }
}

/// One finding a listener, however many names it serves: the mend is one too. The first few of `others` are in order.
fn report_misfit(
    listener: &User,
    host: &HostPattern,
    others: &[&HostPattern],
    inputs: &Inputs,
    report: &mut Report,
) {
    let secrets: Vec<String> = listener.certificates.iter().map(ToString::to_string).collect();
    let (verb, them) = if others.is_empty() { ("is", "it") } else { ("are", "them") };
    let message = format!(
        "{} {verb} served by {} with {}, which does not cover {them}",
        enumeration(host, others),
        listener.id,
        secrets.join(", ")
    );
    let field = lint::field_of_listener(inputs, listener.id);
    let finding = report
        .add(&codes::CERTIFICATE_MISFIT, &listener.id.object, field, message)
        .help(format!("use a certificate with the name {host}"));
    if others.is_empty() {
        finding.host(host);
    } else {
        finding.help("use a certificate with these names, or with wildcards for them");
    }
    if let Some(secret) = listener.certificates.first() {
        finding.related("the certificate", secret, "");
    }
}

/// `a, b, c and 97 more`.
fn enumeration(first: &HostPattern, others: &[&HostPattern]) -> String {
    let mut text = first.to_string();
    for other in others.iter().take(SHOWN - 1) {
        text += &format!(", {other}");
    }
    match (others.len() + 1).saturating_sub(SHOWN) {
        0 => text,
        more => text + &format!(" and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_said_in_one_line() {
        let hosts: Vec<HostPattern> = ["a.test", "b.test", "c.test", "d.test", "e.test"]
            .map(|host| HostPattern::parse(host).expect("a hostname"))
            .into();
        let shown = |count: usize| {
            let others: Vec<&HostPattern> = hosts[1..count].iter().collect();
            enumeration(&hosts[0], &others)
        };
        assert_eq!(shown(1), "a.test");
        assert_eq!(shown(3), "a.test, b.test, c.test");
        assert_eq!(shown(5), "a.test, b.test, c.test and 2 more");
    }

    #[test]
    fn the_first_names_are_shown_in_whatever_order_they_come() {
        let hosts: Vec<HostPattern> = ["a.test", "b.test", "c.test", "d.test", "e.test"]
            .map(|host| HostPattern::parse(host).expect("a hostname"))
            .into();
        for (count, turn) in (1..=hosts.len()).flat_map(|count| (0..count).map(move |t| (count, t)))
        {
            let mut turned: Vec<&HostPattern> = hosts[..count].iter().collect();
            turned.rotate_left(turn);
            order_shown(&mut turned);
            let shown: Vec<&HostPattern> = hosts[..count].iter().take(SHOWN).collect();
            assert_eq!(turned[..shown.len()], shown);
        }
    }

    #[test]
    fn names_of_a_local_certificate_are_bounded() {
        let names = |count: usize, of: fn(usize) -> String| {
            let hosts = (0..count).map(|n| HostPattern::parse(&of(n)).expect("a hostname"));
            bounded(hosts.collect()).0
        };
        let limit = LOCAL_CERTIFICATE_NAMES;
        assert_eq!(names(limit, |n| format!("h{n}.example.test")).len(), limit);
        let shared = names(limit + 1, |n| format!("h{n}.example.test"));
        assert_eq!(shared.iter().map(ToString::to_string).collect::<Vec<_>>().len(), 1);
        assert!(matches!(&shared[0], HostPattern::OneLabel(_)), "{shared:?}");
        assert_eq!(names(limit + 1, |n| format!("a.h{n}.test")).len(), limit);
        let apart = (0..limit + 3).map(|n| format!("h{n}.test"));
        let hosts = apart.map(|host| HostPattern::parse(&host).expect("a hostname")).collect();
        assert_eq!(bounded(hosts).1, 3, "what has no room is counted");
        assert!(
            names(limit + 1, |n| format!("h{n}.test"))
                .iter()
                .all(|host| matches!(host, HostPattern::Exact(_)))
        );
    }
}
