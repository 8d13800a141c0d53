//! Zone: records in presentation form (RFC 1035 section 5.1) to record sets. Names are relative to the zone unless they
//! end in a dot; `@` is the zone itself.

use super::cutwater::Zone;
use crate::codes;
use crate::decode::{Decode, Decoder, Later, choice, object};
use crate::node::{Node, Span};
use model::dns::{Caa, Mx, RecordData, RecordSet, Soa, Srv};
use model::hostname::DnsName;
use model::{Code, Hostname, Text};
use std::collections::{BTreeMap, HashMap};

const DEFAULT_TTL: u32 = 300;
const DEFAULT_REFRESH: u32 = 7_200;
const DEFAULT_RETRY: u32 = 900;
const DEFAULT_EXPIRE: u32 = 1_209_600;
const DEFAULT_NEGATIVE_TTL: u32 = 300;
/// A character string of a TXT record, RFC 1035 section 3.3.
const TXT_STRING_BYTES: usize = 255;

object! {
    struct Written {
        "name" => name: Hostname,
        "nameservers" => nameservers: Option<Later>,
        "soa" => soa: Option<WrittenSoa>,
        "ttl" => ttl: u32 = DEFAULT_TTL,
        "records" => records: Option<Later>,
    }
}

object! {
    /// `mname`, `rname` and `minimum` are the names of RFC 1035 section 3.3.13.
    struct WrittenSoa {
        "mname" => mname: Option<Later>,
        "primary" => primary: Option<Later>,
        "rname" => rname: Option<Later>,
        "mailbox" => mailbox: Option<Later>,
        "refresh" => refresh: u32 = DEFAULT_REFRESH,
        "retry" => retry: u32 = DEFAULT_RETRY,
        "expire" => expire: u32 = DEFAULT_EXPIRE,
        "minimum" => negative_ttl: u32 = DEFAULT_NEGATIVE_TTL,
    }
    unserved ["serial"]
}

object! {
    struct Record {
        "name" => name: Text,
        "type" => kind: RecordType,
        "ttl" => ttl: Option<u32>,
        "values" => values: Option<Later>,
    }
}

choice! {
    enum Served {
        A = "A", Aaaa = "AAAA", Ns = "NS", Cname = "CNAME", Txt = "TXT", Mx = "MX", Caa = "CAA", Srv = "SRV",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordType(Served);

impl Decode for RecordType {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if node.text().is_some_and(|text| text.eq_ignore_ascii_case("SOA")) {
            let message = "the SOA is no record of its own";
            decoder.report(&codes::BAD_RECORD, node.span, message, "write it under `spec.soa`");
            return None;
        }
        Served::decode(node, decoder).map(RecordType)
    }
}

impl Written {
    /// What is left of it where another field has a mistake, which is reported already.
    fn named(node: &Node) -> Option<Written> {
        let unheard = &mut Decoder::default();
        let name = Hostname::decode(node.field("name")?, unheard)?;
        let ttl = node.field("ttl").and_then(|ttl| u32::decode(ttl, unheard));
        let ttl = ttl.unwrap_or(DEFAULT_TTL);
        Some(Written { name, nameservers: None, soa: None, ttl, records: None })
    }
}

/// As far as it can be read: a mistake holds the folder back, and whose names it is about stays known.
impl Decode for Zone {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let written = Written::decode(node, decoder).or_else(|| Written::named(node))?;
        let origin = &written.name;
        let nameservers = nameservers(node, origin, decoder)?;
        let soa = soa(node, &written, &nameservers, decoder)?;
        let apex = RecordSet {
            name: DnsName::from(origin),
            ttl: written.ttl,
            data: RecordData::Ns(nameservers.clone()),
        };
        let mut sets = Sets { origin, ttl: written.ttl, sets: BTreeMap::new(), index: 0 };
        sets.sets.insert((apex.name.clone(), Served::Ns as u8), (apex, 0));
        decoder.field(node, "records", |node, decoder| {
            decoder.items(node, |node, decoder| sets.record(node, decoder))
        });
        sets.check_aliases(node, decoder);
        let (sets, first_records) =
            sets.sets.into_values().map(|(set, first)| (set.sorted(), first)).unzip();
        let (name, ttl) = (written.name.clone(), written.ttl);
        Some(Zone { name, soa, nameservers, ttl, sets, first_records })
    }
}

fn nameservers(node: &Node, origin: &Hostname, decoder: &mut Decoder) -> Option<Vec<DnsName>> {
    let names = decoder.field(node, "nameservers", |node, decoder| {
        decoder.items(node, |node, decoder| {
            let text = Text::decode(node, decoder)?;
            name(&text, origin, node.span, decoder)
        })
    });
    let names: Vec<DnsName> = names.flatten().into_iter().flatten().flatten().collect();
    if names.is_empty() {
        return name("ns1", origin, node.span, decoder).map(|name| vec![name]);
    }
    Some(names)
}

fn soa(
    node: &Node,
    written: &Written,
    nameservers: &[DnsName],
    decoder: &mut Decoder,
) -> Option<Soa> {
    let origin = &written.name;
    let primary = soa_name(node, ["mname", "primary"], origin, decoder);
    let primary = primary.or_else(|| nameservers.first().cloned())?;
    let mailbox = soa_name(node, ["rname", "mailbox"], origin, decoder);
    let mailbox = mailbox.or_else(|| name("hostmaster", origin, node.span, decoder))?;
    let times = written.soa.as_ref();
    Some(Soa {
        primary,
        mailbox,
        refresh: times.map_or(DEFAULT_REFRESH, |soa| soa.refresh),
        retry: times.map_or(DEFAULT_RETRY, |soa| soa.retry),
        expire: times.map_or(DEFAULT_EXPIRE, |soa| soa.expire),
        negative_ttl: times.map_or(DEFAULT_NEGATIVE_TTL, |soa| soa.negative_ttl),
        ttl: written.ttl,
    })
}

/// A name of the SOA under either of its two keys; none when neither is written, or with a mistake.
fn soa_name(
    node: &Node,
    keys: [&'static str; 2],
    origin: &Hostname,
    decoder: &mut Decoder,
) -> Option<DnsName> {
    let [first, second] = keys;
    let soa = node.field("soa")?;
    if soa.field(first).is_some() && soa.field(second).is_some() {
        let message = format!("`{first}` and `{second}` are two words for one field");
        let help = "keep one of the two";
        decoder.field(node, "soa", |soa, decoder| {
            decoder.report_field(soa, second, &codes::CONTRADICTION, message, help);
        });
        return None;
    }
    let key = keys.into_iter().find(|key| soa.field(key).is_some())?;
    decoder.field(node, "soa", |soa, decoder| {
        decoder.field(soa, key, |node, decoder| {
            let text = Text::decode(node, decoder)?;
            // A mailbox may be written as people write it; RFC 1035 section 8 makes a name of it.
            let text = match text.split_once('@') {
                Some((local, domain)) if !local.is_empty() => format!("{local}.{domain}.").into(),
                _ => text,
            };
            name(&text, origin, node.span, decoder)
        })
    })??
}

/// The record sets of a zone while its records are read.
struct Sets<'z> {
    origin: &'z Hostname,
    ttl: u32,
    /// By name and type, with the index of the first record.
    sets: BTreeMap<(DnsName, u8), (RecordSet, usize)>,
    /// Of the record at hand.
    index: usize,
}

impl Sets<'_> {
    fn record(&mut self, node: &Node, decoder: &mut Decoder) -> Option<()> {
        let added = self.add(node, decoder);
        self.index += 1;
        added
    }

    fn add(&mut self, node: &Node, decoder: &mut Decoder) -> Option<()> {
        let Record { name: written, kind: RecordType(kind), ttl, .. } =
            Record::decode(node, decoder)?;
        let owner = decoder.field(node, "name", |node, decoder| {
            name(&written, self.origin, node.span, decoder)
        })??;
        self.check_owner(&owner, kind, node, decoder)?;
        let values = decoder.field(node, "values", |node, decoder| {
            decoder.items(node, |node, decoder| {
                let text = Text::decode(node, decoder)?;
                value(kind, &text, self.origin, node.span, decoder)
            })
        });
        let Some(values) = values else {
            decoder.report(
                &codes::MISSING_FIELD,
                node.span,
                "missing field `values`",
                "add `values:` with a list",
            );
            return None;
        };
        let values: Vec<RecordData> = values?.into_iter().collect::<Option<_>>()?;
        if values.is_empty() {
            let help = "add a value, or remove the record";
            decoder.report_field(
                node,
                "values",
                &codes::BAD_RECORD,
                "the record has no value",
                help,
            );
            return None;
        }
        let ttl = ttl.unwrap_or(self.ttl);
        values.into_iter().try_for_each(|data| {
            self.join(RecordSet { name: owner.clone(), ttl, data }, kind, node, decoder)
        })
    }

    fn check_owner(
        &self,
        owner: &DnsName,
        kind: Served,
        node: &Node,
        decoder: &mut Decoder,
    ) -> Option<()> {
        let (message, help) = if !owner.is_within(self.origin.as_str()) {
            (
                format!("`{owner}` is outside the zone `{}`", self.origin),
                "remove the dot at its end if it is relative, or put it into its own zone",
            )
        } else if kind == Served::Ns && owner.as_str() == self.origin.as_str() {
            (
                "NS of the zone itself is no record of its own".to_owned(),
                "write it under `spec.nameservers`",
            )
        } else {
            return Some(());
        };
        decoder.report_field(node, "name", &codes::BAD_RECORD, message, help);
        None
    }

    /// Adds one record to its set.
    fn join(
        &mut self,
        record: RecordSet,
        kind: Served,
        node: &Node,
        decoder: &mut Decoder,
    ) -> Option<()> {
        let key = (record.name.clone(), kind as u8);
        let Some((set, _)) = self.sets.get_mut(&key) else {
            self.sets.insert(key, (record, self.index));
            return Some(());
        };
        if set.ttl != record.ttl {
            let message = format!(
                "{} {} has TTL {} here and {} before; a set has one (RFC 2181 section 5.2)",
                record.name,
                kind.name(),
                record.ttl,
                set.ttl
            );
            decoder.report_field(node, "ttl", &codes::BAD_RECORD, message, "make them equal");
            return None;
        }
        if let (RecordData::Cname(one), RecordData::Cname(other)) = (&set.data, &record.data) {
            if one == other {
                return Some(());
            }
            let message = format!("{} has two CNAMEs (RFC 2181 section 10.1)", record.name);
            decoder.report_field(node, "values", &codes::BAD_RECORD, message, "keep one");
            return None;
        }
        set.data.append(record.data);
        Some(())
    }

    /// A CNAME stands alone at its name, RFC 1034 section 3.6.2.
    fn check_aliases(&mut self, node: &Node, decoder: &mut Decoder) {
        let crowded: HashMap<usize, &DnsName> = self
            .sets
            .iter()
            .filter(|((name, kind), _)| *kind == Served::Cname as u8 && self.types_at(name) > 1)
            .map(|((name, _), (_, index))| (*index, name))
            .collect();
        if crowded.is_empty() {
            return;
        }
        let mut index = 0..;
        decoder.field(node, "records", |node, decoder| {
            decoder.items(node, |node, decoder| {
                let name = crowded.get(&index.next()?)?;
                let message =
                    format!("{name} has a CNAME beside other records (RFC 1034 section 3.6.2)");
                let help = "keep the CNAME alone, or write the addresses themselves";
                decoder.report_field(node, "type", &codes::BAD_RECORD, message, help);
                None::<()>
            })
        });
        let crowded: Vec<usize> = crowded.into_keys().collect();
        self.sets.retain(|(_, kind), (_, index)| {
            *kind != Served::Cname as u8 || !crowded.contains(index)
        });
    }

    fn types_at(&self, name: &DnsName) -> usize {
        self.sets.range((name.clone(), 0)..=(name.clone(), u8::MAX)).count()
    }
}

/// A name of the zone in absolute form.
fn name(text: &str, origin: &Hostname, span: Span, decoder: &mut Decoder) -> Option<DnsName> {
    let absolute = match text {
        "@" => origin.as_str().to_owned(),
        _ if text.ends_with('.') => text.to_owned(),
        "*" => format!("*.{origin}"),
        _ => format!("{text}.{origin}"),
    };
    if !text.ends_with('.') && DnsName::parse(text).is_ok_and(|n| n.is_within(origin.as_str())) {
        let message = format!("`{text}` is relative and means {absolute}");
        let help = format!("write `{text}.` with a dot at its end, or without the zone's name");
        decoder.report(&codes::RELATIVE_NAME, span, message, help);
    }
    match DnsName::parse(&absolute) {
        Ok(name) => Some(name),
        Err(error) => {
            decoder.report(&codes::BAD_HOSTNAME, span, error.0, "");
            None
        }
    }
}

/// One value of a record.
fn value(
    kind: Served,
    text: &str,
    origin: &Hostname,
    span: Span,
    decoder: &mut Decoder,
) -> Option<RecordData> {
    let mut refuse = |code: &Code, message: String, help: &str| {
        decoder.report(code, span, message, help);
        None
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    match (kind, fields.as_slice()) {
        (Served::A, [address]) => match address.parse() {
            Ok(address) => Some(RecordData::A(vec![address])),
            Err(_) => refuse(
                &codes::BAD_ADDRESS,
                format!("`{text}` is no IPv4 address"),
                "write it like 192.0.2.10; IPv6 goes into a record of type AAAA",
            ),
        },
        (Served::Aaaa, [address]) => match address.parse() {
            Ok(address) => Some(RecordData::Aaaa(vec![address])),
            Err(_) => refuse(
                &codes::BAD_ADDRESS,
                format!("`{text}` is no IPv6 address"),
                "write it like 2001:db8::10; IPv4 goes into a record of type A",
            ),
        },
        (Served::Ns, [target]) => Some(RecordData::Ns(vec![name(target, origin, span, decoder)?])),
        (Served::Cname, [target]) => Some(RecordData::Cname(name(target, origin, span, decoder)?)),
        (Served::Mx, [preference, exchange]) => match preference.parse() {
            Ok(preference) => {
                let exchange = name(exchange, origin, span, decoder)?;
                Some(RecordData::Mx(vec![Mx { preference, exchange }]))
            }
            Err(_) => refuse(&codes::BAD_RECORD, form(kind, text), kind.example()),
        },
        (Served::Srv, [priority, weight, port, target]) => {
            match (priority.parse(), weight.parse(), port.parse()) {
                (Ok(priority), Ok(weight), Ok(port)) => {
                    let target = name(target, origin, span, decoder)?;
                    Some(RecordData::Srv(vec![Srv { priority, weight, port, target }]))
                }
                _ => refuse(&codes::BAD_RECORD, form(kind, text), kind.example()),
            }
        }
        (Served::Caa, _) => match caa(text) {
            Some(caa) => Some(RecordData::Caa(vec![caa])),
            None => refuse(&codes::BAD_RECORD, form(kind, text), kind.example()),
        },
        (Served::Txt, _) => match strings(text) {
            Some(strings) => Some(RecordData::Txt(vec![strings])),
            None => refuse(&codes::BAD_RECORD, form(kind, text), kind.example()),
        },
        _ => refuse(&codes::BAD_RECORD, form(kind, text), kind.example()),
    }
}

fn form(kind: Served, text: &str) -> String {
    format!("`{text}` is no value of a record of type {}", kind.name())
}

impl Served {
    fn example(self) -> &'static str {
        match self {
            Served::A => "write it like `192.0.2.10`",
            Served::Aaaa => "write it like `2001:db8::10`",
            Served::Ns => "write it like `ns1`, or `ns1.example.net.`",
            Served::Cname => "write it like `www`, or `www.example.net.`",
            Served::Txt => "close the quotes; `\\\"` is a quote within",
            Served::Mx => "write preference and exchange, as in `10 mail`",
            Served::Caa => "write flags, tag and value, as in `0 issue \"ca.example.net\"`",
            Served::Srv => "write priority, weight, port and target, as in `0 5 5060 sip`",
        }
    }
}

/// Flags, tag and value, RFC 8659 section 4.1.1.
fn caa(text: &str) -> Option<Caa> {
    let (flags, rest) = text.trim().split_once(char::is_whitespace)?;
    let (tag, value) = rest.trim_start().split_once(char::is_whitespace)?;
    let is_tag =
        !tag.is_empty() && tag.len() <= 15 && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    let strings = strings(value.trim())?;
    let value = strings.concat();
    is_tag.then_some(Caa { flags: flags.parse().ok()?, tag: tag.to_ascii_lowercase(), value })
}

/// Character strings: quoted ones with escapes, or one plain text. What is too long for one string becomes several.
fn strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut rest = text.trim_start();
    if !rest.starts_with('"') {
        return Some(character_strings(text.as_bytes()));
    }
    let mut strings = Vec::new();
    while let Some(open) = rest.strip_prefix('"') {
        let (string, tail) = quoted(open)?;
        strings.extend(character_strings(&string));
        rest = tail.trim_start();
    }
    rest.is_empty().then_some(strings)
}

/// Up to the closing quote; `\"`, `\\` and `\DDD` as RFC 1035 section 5.1.
fn quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut string = Vec::new();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((string, &text[at + 1..])),
            b'\\' => {
                let (_, escaped) = bytes.next()?;
                if escaped.is_ascii_digit() {
                    let digits = text.get(at + 1..at + 4)?;
                    string.push(digits.parse().ok()?);
                    bytes.nth(1)?;
                } else {
                    string.push(escaped);
                }
            }
            byte => string.push(byte),
        }
    }
    None
}

/// Cut to what one character string holds.
fn character_strings(text: &[u8]) -> Vec<Vec<u8>> {
    match text {
        [] => vec![Vec::new()],
        _ => text.chunks(TXT_STRING_BYTES).map(<[u8]>::to_vec).collect(),
    }
}

/// Sorted values, each once.
trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for RecordSet {
    fn sorted(mut self) -> Self {
        fn order<T: PartialEq, K: Ord>(values: &mut Vec<T>, key: impl FnMut(&T) -> K) {
            values.sort_by_key(key);
            values.dedup();
        }
        match &mut self.data {
            RecordData::A(values) => order(values, |v| *v),
            RecordData::Aaaa(values) => order(values, |v| *v),
            RecordData::Ns(values) => order(values, Clone::clone),
            RecordData::Txt(values) => order(values, Clone::clone),
            RecordData::Mx(values) => order(values, |v| (v.preference, v.exchange.clone())),
            RecordData::Caa(values) => order(values, |v| (v.flags, v.tag.clone(), v.value.clone())),
            RecordData::Srv(values) => {
                order(values, |v| (v.priority, v.weight, v.port, v.target.clone()));
            }
            RecordData::Cname(_) | RecordData::Entry { .. } => {}
        }
        self
    }
}

/// Joins the values of two sets of one type.
trait Append {
    fn append(&mut self, other: Self);
}

impl Append for RecordData {
    fn append(&mut self, other: Self) {
        match (self, other) {
            (RecordData::A(values), RecordData::A(more)) => values.extend(more),
            (RecordData::Aaaa(values), RecordData::Aaaa(more)) => values.extend(more),
            (RecordData::Ns(values), RecordData::Ns(more)) => values.extend(more),
            (RecordData::Txt(values), RecordData::Txt(more)) => values.extend(more),
            (RecordData::Mx(values), RecordData::Mx(more)) => values.extend(more),
            (RecordData::Caa(values), RecordData::Caa(more)) => values.extend(more),
            (RecordData::Srv(values), RecordData::Srv(more)) => values.extend(more),
            _ => debug_assert!(false, "sets are keyed by type"),
        }
    }
}
