//! discovery.k8s.io EndpointSlice. Its fields stand beside `metadata`.

use super::kubernetes::{EndpointSlice, IpProtocol, SliceEndpoint, SlicePort};
use crate::codes;
use crate::decode::{Decode, Decoder, choice, object};
use crate::metadata::Metadata;
use crate::node::Node;
use model::Text;
use model::facts::Hints;
use std::net::IpAddr;

/// Names the Service that a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

object! {
    struct Written {
        "addressType" => family: Family,
        "ports" => ports: Vec<Port>,
        "endpoints" => endpoints: Vec<Endpoint>,
    }
    ignored ["apiVersion", "kind", "metadata", "status"]
}

choice! {
    enum Family { V4 = "IPv4", V6 = "IPv6", Fqdn = "FQDN" }
}

object! {
    struct Port {
        "name" => name: Option<Text>,
        "port" => port: Option<u16>,
        "protocol" => protocol: IpProtocol = IpProtocol::Tcp,
    }
    ignored ["appProtocol"]
}

object! {
    struct Endpoint {
        "addresses" => addresses: Vec<Address>,
        "conditions" => conditions: Option<Conditions>,
        "zone" => zone: Option<Text>,
        "nodeName" => node: Option<Text>,
        "hints" => hints: Option<WrittenHints>,
        "targetRef" => target: Option<Target>,
    }
    ignored ["hostname", "deprecatedTopology"]
}

object! {
    struct WrittenHints {
        "forZones" => zones: Vec<Named>,
        "forNodes" => nodes: Vec<Named>,
    }
}

object! {
    struct Named {
        "name" => name: Text,
    }
}

object! {
    struct Conditions {
        "ready" => ready: Option<bool>,
        "serving" => serving: Option<bool>,
        "terminating" => terminating: Option<bool>,
    }
}

object! {
    struct Target {
        "name" => name: Option<Text>,
    }
    ignored ["apiVersion", "kind", "namespace", "uid", "resourceVersion", "fieldPath"]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address(IpAddr);

impl Decode for Address {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = Text::decode(node, decoder)?;
        match text.parse() {
            Ok(address) => Some(Address(address)),
            Err(_) => {
                let message = format!("`{text}` is no IP address");
                let help = "write it like 192.0.2.10 or 2001:db8::10, without a port";
                decoder.report(&codes::BAD_ADDRESS, node.span, message, help);
                None
            }
        }
    }
}

impl EndpointSlice {
    pub fn decode(node: &Node, metadata: &Metadata, decoder: &mut Decoder) -> Option<Self> {
        if node.field("addressType").and_then(Node::text).is_some_and(|text| &**text == "FQDN") {
            let message = "endpoints given by name (FQDN) are not served; this slice has no effect";
            let help = "give addresses, or use a Service of type ExternalName";
            decoder.report_field(node, "addressType", &codes::FIELD_NOT_SERVED, message, help);
            return None;
        }
        let written = Written::decode(node, decoder)?;
        check_family(&written, node, decoder)?;
        Some(EndpointSlice {
            service: metadata.labels.get(SERVICE_LABEL).cloned(),
            ports: written.ports.into_iter().filter_map(Port::known).collect(),
            endpoints: written.endpoints.into_iter().map(Endpoint::read).collect(),
        })
    }
}

impl Port {
    /// A port without a number stands for all ports, which no Service of ours can name.
    fn known(self) -> Option<SlicePort> {
        let name = self.name.filter(|name| !name.is_empty());
        Some(SlicePort { name, port: self.port?, protocol: self.protocol })
    }
}

impl Endpoint {
    fn read(self) -> SliceEndpoint {
        let conditions = self.conditions;
        let condition = |pick: fn(&Conditions) -> Option<bool>| conditions.as_ref().and_then(pick);
        let ready = condition(|c| c.ready).unwrap_or(true);
        SliceEndpoint {
            addresses: self.addresses.into_iter().map(|address| address.0).collect(),
            ready,
            serving: condition(|c| c.serving).unwrap_or(ready),
            terminating: condition(|c| c.terminating).unwrap_or(false),
            zone: self.zone,
            node: self.node,
            hints: self.hints.map(WrittenHints::read).unwrap_or_default(),
            target: self.target.and_then(|target| target.name),
        }
    }
}

impl WrittenHints {
    fn read(self) -> Hints {
        let names = |list: Vec<Named>| list.into_iter().map(|named| named.name).collect();
        Hints { zones: names(self.zones), nodes: names(self.nodes) }
    }
}

/// Every address is of the family that the slice names.
fn check_family(written: &Written, node: &Node, decoder: &mut Decoder) -> Option<()> {
    let wanted = written.family;
    let fits = |address: &Address| address.0.is_ipv4() == (wanted == Family::V4);
    let mut good = Some(());
    decoder.field(node, "endpoints", |node, decoder| {
        let mut endpoints = written.endpoints.iter();
        decoder.items(node, |node, decoder| {
            let mut addresses = endpoints.next()?.addresses.iter();
            decoder.field(node, "addresses", |node, decoder| {
                decoder.items(node, |node, decoder| {
                    let address = addresses.next().filter(|address| !fits(address))?;
                    let message = format!("`{}` is no {} address", address.0, wanted.name());
                    let help = "a slice holds one family; put the other into a slice of its own";
                    decoder.report(&codes::BAD_ADDRESS, node.span, message, help);
                    good = None;
                    None::<()>
                })
            });
            None::<()>
        })
    });
    good
}
