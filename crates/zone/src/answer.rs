//! From a query to its answer: which records go where, and what is left out when they do not fit.

use crate::data::{Found, Owner, Set, ZoneData, is_within};
use crate::query::{Query, Question, Unanswerable};
use crate::wire::{CLASS_IN, Rcode, RecordType};
use crate::writer::{Flags, Full, Section, Writer};
use crate::zones::Zones;
use model::limits;

/// CNAME records followed for one question.
const CHAIN_LINKS: usize = 8;
/// Names of one set whose addresses are added.
const TARGETS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `zone` is the position in [`Zones::serials`].
    Answered {
        rcode: Rcode,
        zone: Option<usize>,
        truncated: bool,
    },
    Dropped(Unanswerable),
}

impl Zones {
    /// Replaces what `out` holds by the answer; by nothing when there is none.
    pub fn answer(&self, query: &[u8], transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let query = match Query::read(query) {
            Ok(query) => query,
            Err(reason) => {
                out.clear();
                return Outcome::Dropped(reason);
            }
        };
        let writer = Writer::new(out, &query, size_limit(&query, transport));
        let mut reply = Reply { zones: self, writer, zone: None, flags: refusal() };
        match (&query.question, query.fault) {
            (Some(question), None) => reply.answer(question),
            (_, fault) => reply.flags.rcode = fault.unwrap_or(Rcode::FORM_ERR),
        }
        let Reply { writer, zone, flags, .. } = reply;
        writer.finish(&query, &flags);
        Outcome::Answered { rcode: flags.rcode, zone, truncated: flags.truncated }
    }
}

fn size_limit(query: &Query<'_>, transport: Transport) -> usize {
    match (transport, &query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => limits::DNS_UDP_BYTES,
        // RFC 6891 section 6.2.3: less than 512 counts as 512.
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.udp_bytes).clamp(limits::DNS_UDP_BYTES, limits::DNS_EDNS_BYTES)
        }
    }
}

fn refusal() -> Flags {
    Flags { rcode: Rcode::REFUSED, authoritative: false, truncated: false }
}

struct Reply<'z, 'o> {
    zones: &'z Zones,
    writer: Writer<'o>,
    zone: Option<usize>,
    flags: Flags,
}

impl<'z> Reply<'z, '_> {
    /// Other classes, other people's zones and transfers (RFC 5936 section 2.2.1, RFC 1995) stay refused.
    fn answer(&mut self, question: &Question<'_>) {
        let is_transfer = matches!(question.kind, RecordType::AXFR | RecordType::IXFR);
        let Some((index, _)) = self.zones.nearest(question.name()) else { return };
        self.zone = Some(index);
        if question.class != CLASS_IN || is_transfer {
            return;
        }
        self.flags.rcode = Rcode::NO_ERROR;
        if self.follow(question.name(), question.kind).is_err() {
            self.writer.clear_sections();
            self.flags.truncated = true;
        }
    }

    /// RFC 1034 section 4.3.2, with CNAME records followed through all of our zones. A loop ends the chain.
    fn follow<'a>(&mut self, asked: &'a [u8], kind: RecordType) -> Result<(), Full>
    where
        'z: 'a,
    {
        let mut seen: [&'a [u8]; CHAIN_LINKS] = [&[]; CHAIN_LINKS];
        let mut name = asked;
        for link in 0..CHAIN_LINKS {
            seen[link] = name;
            match self.step(name, kind, link == 0)? {
                Some(target) if !seen.contains(&target) => name = target,
                _ => break,
            }
        }
        Ok(())
    }

    /// Answers for one name of the chain; gives the next one. AA speaks of the first (RFC 1035 section 4.1.1), the
    /// response code of the last (RFC 6604 section 3).
    fn step(
        &mut self,
        name: &[u8],
        kind: RecordType,
        is_first: bool,
    ) -> Result<Option<&'z [u8]>, Full> {
        let Some((_, zone)) = self.zones.nearest(name) else { return Ok(None) };
        let owner = match zone.lookup(name) {
            // DS belongs to the side above the cut, RFC 4035 section 3.1.4.1.
            Found::Delegated { cut, owner } if !(kind == RecordType::DS && cut == name) => {
                return self.referral(zone, cut, owner).map(|()| None);
            }
            Found::Delegated { .. } => None,
            Found::Missing => {
                self.flags.rcode = Rcode::NX_DOMAIN;
                None
            }
            Found::Owner(owner) => Some(owner),
        };
        self.flags.authoritative |= is_first;
        let Some(set) = owner.and_then(|owner| choose(owner, kind)) else {
            return self.writer.set(Section::Authority, &zone.apex, &zone.negative).map(|()| None);
        };
        self.writer.set(Section::Answer, name, set)?;
        if set.kind == RecordType::CNAME {
            let is_followed = kind != RecordType::CNAME && kind != RecordType::ANY;
            return Ok(set.targets().next().filter(|_| is_followed));
        }
        self.add_addresses(zone, set, None).map(|()| None)
    }

    /// The servers of the zone below the cut, and their addresses as far as we know them.
    fn referral(&mut self, zone: &ZoneData, cut: &[u8], owner: &Owner) -> Result<(), Full> {
        let Some(servers) = owner.set(RecordType::NS) else { return Ok(()) };
        self.writer.set(Section::Authority, cut, servers)?;
        self.add_addresses(zone, servers, Some(cut))
    }

    /// Addresses that fit. Those of servers below their own cut are not optional: without them nobody gets there
    /// (RFC 9471 section 3.1).
    fn add_addresses(
        &mut self,
        zone: &ZoneData,
        set: &Set,
        cut: Option<&[u8]>,
    ) -> Result<(), Full> {
        let mut done: [&[u8]; TARGETS] = [&[]; TARGETS];
        for (index, target) in set.targets().take(TARGETS).enumerate() {
            let Some(owner) = zone.owner(target).filter(|_| !done.contains(&target)) else {
                continue;
            };
            done[index] = target;
            for kind in [RecordType::A, RecordType::AAAA] {
                let Some(addresses) = owner.set(kind) else { continue };
                let written = self.writer.set(Section::Additional, target, addresses);
                if written.is_err() && cut.is_some_and(|cut| is_within(target, cut)) {
                    return Err(Full);
                }
            }
        }
        Ok(())
    }
}

fn choose(owner: &Owner, kind: RecordType) -> Option<&Set> {
    match kind {
        RecordType::ANY => owner.first_set(),
        _ => owner.set(kind).or_else(|| owner.set(RecordType::CNAME)),
    }
}
