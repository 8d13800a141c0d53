//! Link 2, resolution: what our nameserver answers. Link 3, routing: whether that answer leads to our entry.

use crate::subject::Subject;
use crate::{DnsAnswer, Evidence, Finding, Probed, State};
use model::dns::{RecordData, RecordSet, Zone};
use model::hostname::DnsName;
use model::{Link, ObjectId};
use std::net::IpAddr;

/// Values of a contract's `dnsProvider` that mean this installation.
const OUR_PROVIDERS: &[&str] = &["cutwater"];

pub fn judge(subject: &Subject<'_>, evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Resolution, state, detail);
    let Some(zone) = subject.zone else { return outside(subject) };
    let about = |finding: Finding| finding.about(subject, &zone.id, "spec.name");
    match &evidence.dns {
        Probed::Skipped => match predict(zone, subject.host) {
            Some(set) => {
                about(found(State::Skipped, format!("not asked; {} holds {}", zone.id, set.name)))
            }
            None => no_record(
                subject,
                zone,
                &format!("not asked; {} holds no address record for it", zone.id),
            ),
        },
        Probed::Unknown(why) => about(found(State::Unknown, format!("could not be asked: {why}"))),
        Probed::Seen(Err(why)) => about(
            found(State::Broken, format!("our nameserver does not answer: {why}"))
                .help("see the log of the instance; is the DNS port bound?"),
        ),
        Probed::Seen(Ok(answer)) if answer.addresses.is_empty() => {
            let detail = format!("our nameserver answers {} without an address", answer.rcode);
            no_record(subject, zone, &detail)
        }
        Probed::Seen(Ok(answer)) => about(found(
            State::Ok,
            format!("{} (ttl {}, zone {})", list(&answer.addresses), answer.ttl, zone.name),
        )),
    }
}

/// No record because no route is served is not DNS's fault; a record of another type is.
fn no_record(subject: &Subject<'_>, zone: &Zone, detail: &str) -> Finding {
    if let Some((why, kind)) = leads_away(zone, subject.host) {
        let help =
            format!("remove the {kind} record, so that the entry answers, or correct its target");
        return Finding::new(Link::Resolution, State::Broken, why).help(help).about(
            subject,
            &zone.id,
            &own_record(subject, zone),
        );
    }
    let help =
        format!("add a record of type A or AAAA to {}, or a route that serves the name", zone.id);
    let mut finding = Finding::new(Link::Resolution, State::Broken, detail).help(help).about(
        subject,
        &zone.id,
        "spec.name",
    );
    // A name of records alone, none of them an address, wants no route: the record is what is missing.
    if !subject.is_served() && !subject.is_plain_record() {
        finding.follow(Link::Gateway);
    }
    finding
}

/// An alias or a delegation at the name itself, with its type. The NS records of the apex are the zone's own.
fn leads_away(zone: &Zone, host: &str) -> Option<(String, &'static str)> {
    zone.sets.iter().filter(|set| set.name.as_str() == host).find_map(|set| match &set.data {
        RecordData::Cname(target) => {
            Some((format!("it is an alias of {target}, which has no address here"), "CNAME"))
        }
        RecordData::Ns(names) if host != zone.name.as_str() => {
            let names: Vec<&str> = names.iter().map(DnsName::as_str).collect();
            Some((format!("it is delegated to {}", names.join(", ")), "NS"))
        }
        _ => None,
    })
}

/// No zone of ours holds the name.
fn outside(subject: &Subject<'_>) -> Finding {
    let zones = &subject.world.compiled.snapshot.dns.zones;
    let provider = subject.contract.and_then(|contract| contract.dns_provider.clone());
    if zones.is_empty() {
        return Finding::new(Link::Resolution, State::Skipped, "no zone is served here");
    }
    if let (Some(provider), Some(contract)) = (provider, subject.contract_object())
        && !OUR_PROVIDERS.contains(&&*provider)
    {
        let detail = format!("declared elsewhere: {provider} answers for it");
        return Finding::new(Link::Resolution, State::Skipped, detail).about(
            subject,
            &contract,
            "spec.dnsProvider",
        );
    }
    let names: Vec<&str> = zones.iter().map(|zone| zone.name.as_str()).collect();
    let finding = Finding::new(
        Link::Resolution,
        State::Broken,
        format!("no zone served here holds it ({})", names.join(", ")),
    )
    .help("add a Zone for its domain, or name its provider in the contract's dnsProvider");
    match subject.routes().first() {
        Some(route) => finding.about(subject, route, "spec.hostnames"),
        None => finding,
    }
}

pub fn judge_address(subject: &Subject<'_>, evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Routing, state, detail);
    let Some(zone) = subject.zone else {
        return found(State::Skipped, "no answer of ours to judge".to_owned());
    };
    match &evidence.dns {
        Probed::Seen(Ok(answer)) if !answer.addresses.is_empty() => address(subject, zone, answer),
        Probed::Seen(_) | Probed::Unknown(_) => {
            let mut finding = found(State::Broken, "there is no address to judge".to_owned());
            finding.follow(Link::Resolution);
            if matches!(evidence.dns, Probed::Unknown(_)) {
                finding.state = State::Unknown;
            }
            finding
        }
        Probed::Skipped => predicted_address(subject, zone),
    }
}

/// Every answered address must be one of this installation's.
fn address(subject: &Subject<'_>, zone: &Zone, answer: &DnsAnswer) -> Finding {
    let ours = &subject.world.entry.advertised;
    let strange: Vec<IpAddr> =
        answer.addresses.iter().filter(|address| !ours.contains(address)).copied().collect();
    if strange.is_empty() {
        let detail = format!("{} is this entry", list(&answer.addresses));
        return Finding::new(Link::Routing, State::Ok, detail).about(
            subject,
            &zone.id,
            "spec.name",
        );
    }
    elsewhere(subject, zone, &strange)
}

fn elsewhere(subject: &Subject<'_>, zone: &Zone, strange: &[IpAddr]) -> Finding {
    if subject.is_plain_record() {
        let detail = format!("{}, as its record says; no route here is for it", list(strange));
        return Finding::new(Link::Routing, State::Ok, detail).about(
            subject,
            &zone.id,
            &record_field(subject, zone),
        );
    }
    let ours = list(&subject.world.entry.advertised);
    let field = record_field(subject, zone);
    Finding::new(
        Link::Routing,
        State::Broken,
        format!("the name leads to {}, which is not this entry ({ours})", list(strange)),
    )
    .help(format!(
        "remove the record of {} so that the entry answers, or correct its address",
        subject.host
    ))
    .about(subject, &zone.id, &field)
}

/// Without an instance: what the zone's own records say.
fn predicted_address(subject: &Subject<'_>, zone: &Zone) -> Finding {
    let addresses: Vec<IpAddr> = match predict(zone, subject.host).map(|set| &set.data) {
        Some(RecordData::A(addresses)) => addresses.iter().copied().map(IpAddr::V4).collect(),
        Some(RecordData::Aaaa(addresses)) => addresses.iter().copied().map(IpAddr::V6).collect(),
        _ => Vec::new(),
    };
    let ours = &subject.world.entry.advertised;
    let strange: Vec<IpAddr> =
        addresses.into_iter().filter(|address| !ours.contains(address)).collect();
    if strange.is_empty() || ours.is_empty() {
        return Finding::new(Link::Routing, State::Skipped, "not asked");
    }
    elsewhere(subject, zone, &strange)
}

/// The field of the record of the name itself, or the zone's name.
fn own_record(subject: &Subject<'_>, zone: &Zone) -> String {
    let fields = subject.world.inputs.zone(&zone.id.namespace, &zone.id.name);
    let index = fields.and_then(|(_, zone)| zone.record_index(subject.host));
    index.map_or_else(|| "spec.name".to_owned(), |index| format!("spec.records[{index}]"))
}

/// The field of the record that answers, followed through one alias.
fn record_field(subject: &Subject<'_>, zone: &Zone) -> String {
    let object: &ObjectId = &zone.id;
    let fields = subject.world.inputs.zone(&object.namespace, &object.name);
    let name = match predict(zone, subject.host).map(|set| &set.data) {
        Some(RecordData::Cname(target)) => target.as_str(),
        _ => subject.host,
    };
    let index = fields.and_then(|(_, zone)| zone.record_index(name));
    index.map_or_else(|| "spec.records".to_owned(), |index| format!("spec.records[{index}]"))
}

/// The record set that answers for a name: its own, else the closest wildcard's (RFC 4592).
fn predict<'a>(zone: &'a Zone, host: &str) -> Option<&'a RecordSet> {
    let is_address = |set: &&RecordSet| {
        matches!(
            set.data,
            RecordData::A(_)
                | RecordData::Aaaa(_)
                | RecordData::Cname(_)
                | RecordData::Entry { .. }
        )
    };
    let of = |name: &str| zone.sets.iter().find(|set| set.name.as_str() == name && is_address(set));
    if zone.sets.iter().any(|set| set.name.as_str() == host) {
        return of(host);
    }
    let mut rest = host;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(set) = of(&format!("*.{parent}")) {
            return Some(set);
        }
        if zone.sets.iter().any(|set| set.name.is_within(parent)) {
            return None;
        }
        rest = parent;
    }
    None
}

pub fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
