//! gateway.networking.k8s.io: TLSRoute, TCPRoute, UDPRoute. They lead connections and datagrams, not requests.

use super::gateway::{ParentReference, Weight};
use super::rules::{self, count};
use crate::decode::{Decoder, object};
use crate::node::Node;
use model::{HostPattern, Text};
use std::ops::RangeInclusive;

object! {
    pub struct TlsRoute {
        "parentRefs" => parent_refs: Vec<ParentReference>,
        /// Of the server, as clients name it in their handshake; none stands for those of the listener.
        "hostnames" => hostnames: Vec<HostPattern>,
        "rules" => rules: Vec<Layer4Rule>,
    }
    unserved ["useDefaultGateways"]
    checked by tls_route
}

object! {
    pub struct TcpRoute {
        "parentRefs" => parent_refs: Vec<ParentReference>,
        "rules" => rules: Vec<Layer4Rule>,
    }
    unserved ["useDefaultGateways"]
    checked by tcp_route
}

/// The same fields.
pub type UdpRoute = TcpRoute;

object! {
    pub struct Layer4Rule {
        "name" => name: Option<Text>,
        "backendRefs" => backend_refs: Vec<BackendRef>,
    }
    checked by layer4_rule
}

object! {
    pub struct BackendRef {
        "group" => group: Text = "".into(),
        "kind" => kind: Text = "Service".into(),
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
        "port" => port: Option<u16>,
        "weight" => weight: Weight = Weight(1),
    }
    checked by backend_ref
}

const HOSTNAMES: RangeInclusive<usize> = 0..=1_024;
const BACKENDS: RangeInclusive<usize> = 1..=16;
/// As the first versions had it; from v1 on there is one, and more than the first lead nowhere.
const RULES: RangeInclusive<usize> = 1..=16;

fn tls_route(_: &TlsRoute, node: &Node, decoder: &mut Decoder) {
    count(node, "hostnames", HOSTNAMES, decoder);
    count(node, "parentRefs", rules::PARENT_REFS, decoder);
    count(node, "rules", RULES, decoder);
}

fn tcp_route(_: &TcpRoute, node: &Node, decoder: &mut Decoder) {
    count(node, "parentRefs", rules::PARENT_REFS, decoder);
    count(node, "rules", RULES, decoder);
}

fn layer4_rule(_: &Layer4Rule, node: &Node, decoder: &mut Decoder) {
    count(node, "backendRefs", BACKENDS, decoder);
}

fn backend_ref(backend: &BackendRef, node: &Node, decoder: &mut Decoder) {
    rules::check_service_port((&backend.group, &backend.kind), backend.port, node, decoder);
}
