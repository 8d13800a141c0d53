//! EdgePolicy, what concerns clients: whose word about their addresses is believed, the PROXY protocol from a load
//! balancer, and who is let in.

use super::edge_policy::Count;
use crate::codes;
use crate::decode::{Decode, Decoder, choice, object};
use crate::node::{Node, Value};
use crate::section::{Field, FieldDoc, choice_field, section};
use model::Text;
use model::network::{Network, Networks};

/// A section of which the nearest level that has it counts as a whole: its fields mean nothing apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole<T>(pub T);

impl<T: Decode> Decode for Whole<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Whole)
    }
}

impl<T: Field> Field for Whole<T> {
    fn words() -> String {
        T::words()
    }

    fn fields() -> Vec<FieldDoc> {
        T::fields()
    }
}

section! {
    pub struct ClientAddressSection {
        /// Addresses of proxies that are believed. The client is the first address, from the right, that is none of them.
        "trustedProxies" => trusted_proxies: Vec<Cidr>,
        /// Instead of their addresses, how many proxies are before this one: the client is so many entries from the right.
        /// Only where nobody else can connect.
        "trustedHops" => trusted_hops: Count,
        /// Where proxies write the client's address: X-Forwarded-For, Forwarded (RFC 7239), or a field that holds one address.
        "header" => header: FieldName = FieldName("X-Forwarded-For".into()),
        /// Where these proxies write the client's scheme, `http` or `https`, in every request: what a client wrote there they
        /// must not pass on. Without it, X-Forwarded-Proto beside X-Forwarded-For, `proto` of Forwarded, and beside another
        /// field none.
        "schemeHeader" => scheme_header: FieldName,
    }
    checked by client_address
}

section! {
    pub struct AcceptProxySection {
        /// Addresses of the load balancers that send the header; nobody else is believed.
        "from" => from: Vec<Cidr>,
        /// Required closes a connection that is not from one of them, or begins without a header. Optional serves it by its
        /// own address.
        "mode" => mode: AcceptMode = AcceptMode::Required,
    }
    checked by accept_proxy
}

choice! {
    pub enum AcceptMode { Required = "Required", Optional = "Optional" }
}

choice_field!(AcceptMode);

section! {
    pub struct AddressesSection {
        /// Networks that are let in; with `allow` or `allowLists`, no others are.
        "allow" => allow: Vec<Cidr>,
        /// ConfigMaps with networks that are let in.
        "allowLists" => allow_lists: Vec<ListReference>,
        /// Networks that are kept out, also where they are let in otherwise.
        "deny" => deny: Vec<Cidr>,
        /// ConfigMaps with networks that are kept out.
        "denyLists" => deny_lists: Vec<ListReference>,
    }
    checked by addresses
}

impl AddressesSection {
    /// Every list that it names, with its path in the section.
    pub fn lists(&self) -> impl Iterator<Item = (String, &ListReference)> {
        let fields = [("allowLists", &self.allow_lists), ("denyLists", &self.deny_lists)];
        fields.into_iter().flat_map(|(field, lists)| {
            let lists = lists.iter().flatten().enumerate();
            lists.map(move |(at, list)| (format!("{field}[{at}]"), list))
        })
    }
}

object! {
    /// A ConfigMap of the policy's own namespace.
    pub struct ListReference {
        "configMap" => config_map: Text,
        /// None is all of its entries.
        "key" => key: Option<Text>,
    }
}

impl Field for ListReference {
    fn words() -> String {
        "`configMap`, `key`".to_owned()
    }
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub Network);

impl Decode for Cidr {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = Text::decode(node, decoder)?;
        match Network::parse(&text) {
            Ok(network) => Some(Cidr(network)),
            Err(fault) => {
                let message = format!("`{text}` is no network: {fault}");
                let help = "write it like 192.0.2.0/24, 2001:db8::/32, or one address";
                decoder.report(&codes::BAD_ADDRESS, node.span, message, help);
                None
            }
        }
    }
}

impl Field for Cidr {
    fn words() -> String {
        "network or address".to_owned()
    }

    fn shown(&self) -> String {
        self.0.to_string()
    }
}

/// The name of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(pub Text);

/// Well-known ones that hold something else, which clients write themselves.
const OTHER_FIELDS: [&str; 13] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "upgrade",
    "authorization",
    "proxy-authorization",
    "cookie",
    "origin",
    "referer",
    "user-agent",
];

impl Decode for FieldName {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = Text::decode(node, decoder)?;
        let is_token = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let is_other = OTHER_FIELDS.iter().any(|name| text.eq_ignore_ascii_case(name));
        if is_token && !is_other {
            return Some(FieldName(text));
        }
        let message = format!("`{text}` is no header field in which a proxy tells of its client");
        let help = "write a name like X-Forwarded-For or CF-Connecting-IP, for the scheme X-Forwarded-Proto";
        decoder.report(&codes::BAD_VALUE, node.span, message, help);
        None
    }
}

impl Field for FieldName {
    fn words() -> String {
        "name of a header field".to_owned()
    }

    fn shown(&self) -> String {
        self.0.to_string()
    }
}

fn client_address(section: &ClientAddressSection, node: &Node, decoder: &mut Decoder) {
    match (&section.trusted_proxies, section.trusted_hops) {
        (Some(_), Some(_)) => {
            let message = "proxies are known by their addresses or by their number, not by both";
            let help = "keep `trustedProxies`, or `trustedHops`";
            decoder.report_field(node, "trustedHops", &codes::CONTRADICTION, message, help);
        }
        (None, None) => {
            let message = "`clientAddress` does not say whom to believe";
            let help = "add `trustedProxies` with the addresses of the proxies";
            decoder.report(&codes::MISSING_FIELD, node.span, message, help);
        }
        _ => {}
    }
    check_everybody(node, "trustedProxies", section.trusted_proxies.as_deref(), decoder);
}

fn accept_proxy(section: &AcceptProxySection, node: &Node, decoder: &mut Decoder) {
    if section.from.as_ref().is_none_or(Vec::is_empty) {
        let message = "nobody is named that may send a PROXY header";
        let help = "add `from` with the addresses of the load balancers";
        decoder.report_field(node, "from", &codes::MISSING_FIELD, message, help);
    }
    check_everybody(node, "from", section.from.as_deref(), decoder);
}

/// Whoever may connect may then say any address.
fn check_everybody(node: &Node, field: &str, networks: Option<&[Cidr]>, decoder: &mut Decoder) {
    let networks = networks.unwrap_or_default();
    decoder.field(node, field, |list, decoder| {
        let Value::List(items) = &list.value else { return };
        let everything = networks.iter().filter(|network| network.0.is_everything());
        for network in everything.map(|network| network.0.to_string()) {
            let item = items.iter().find(|item| item.text().is_some_and(|text| **text == *network));
            let message = format!("{network} is everybody, so any client may claim any address");
            let help = "name the networks of the proxies, or use `trustedHops` where nobody else can connect";
            let span = item.map_or(list.span, |item| item.span);
            decoder.report(&codes::TRUSTS_EVERYBODY, span, message, help);
        }
    });
}

fn addresses(section: &AddressesSection, node: &Node, decoder: &mut Decoder) {
    if *section == AddressesSection::default() {
        let message = "neither an address that is let in is named, nor one that is kept out";
        let help = "add `allow`, `allowLists`, `deny` or `denyLists`";
        decoder.report(&codes::MISSING_FIELD, node.span, message, help);
    }
    let lists = section.allow_lists.as_ref().is_some_and(|lists| !lists.is_empty());
    if section.allow.as_ref().is_some_and(Vec::is_empty) && !lists {
        let message = "`allow` is empty, so nobody is let in";
        let help = "write the networks that are let in, or leave it away";
        decoder.report_field(node, "allow", &codes::OUT_OF_RANGE, message, help);
    }
    let denied: Networks = section.deny.iter().flatten().map(|cidr| cidr.0).collect();
    let allowed = section.allow.iter().flatten().map(|cidr| cidr.0);
    for network in allowed.filter(|network| denied.covers(network)) {
        let message = format!("{network} is let in and kept out; it is kept out");
        let help = "remove it from `allow`, or what covers it from `deny`";
        decoder.report_field(node, "allow", &codes::NETWORK_IDLE, message, help);
    }
}
