//! The one table of recognisers: which documents are ours, and what decodes them. By `apiVersion` and `kind`, or, for
//! documents without a kind, by shape.

use crate::Spec;
use crate::codes;
use crate::decode::{Decode, Decoder, Keys, check_keys};
use crate::kinds::cutwater::{EndpointContract, Zone};
use crate::kinds::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use crate::kinds::grpc::GrpcRoute;
use crate::kinds::kubernetes::{ConfigMap, EndpointSlice, Ingress, IngressClass, Secret, Service};
use crate::kinds::layer4::{TcpRoute, TlsRoute, UdpRoute};
use crate::kinds::policy::BackendTlsPolicy;
use crate::metadata::Metadata;
use crate::node::Node;
use crate::suggest;
use model::Kind;

/// One kind of one group.
pub struct Row {
    pub kind: Kind,
    pub group: &'static str,
    /// Those that are read, the preferred one first.
    pub versions: &'static [&'static str],
    pub scope: Scope,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// Where the fields stand, and what reads them.
#[derive(Clone, Copy)]
pub enum Body {
    /// In `spec`.
    Spec(fn(&Node, &mut Decoder) -> Option<Spec>),
    /// Beside `metadata`.
    Beside(fn(&Node, &Metadata, &mut Decoder) -> Option<Spec>),
    /// Known, and not served yet.
    NotServed,
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const CUTWATER: &str = "cutwater.dev";

macro_rules! spec {
    ($type:ident) => {
        Body::Spec(|node, decoder| $type::decode(node, decoder).map(Spec::$type))
    };
}

macro_rules! beside {
    ($type:ident) => {
        Body::Beside(|node, metadata, decoder| {
            $type::decode(node, metadata, decoder).map(Spec::$type)
        })
    };
}

const fn row(
    kind: Kind,
    group: &'static str,
    versions: &'static [&'static str],
    scope: Scope,
    body: Body,
) -> Row {
    Row { kind, group, versions, scope, body }
}

const fn not_served(kind: &'static str, group: &'static str) -> Row {
    row(Kind(kind), group, &[], Scope::Namespaced, Body::NotServed)
}

use Scope::{Cluster, Namespaced};

const TLS_ROUTE_VERSIONS: &[&str] = &["v1", "v1alpha3", "v1alpha2"];

pub const ROWS: &[Row] = &[
    row(Kind::GATEWAY_CLASS, GATEWAY_API, &["v1", "v1beta1"], Cluster, spec!(GatewayClass)),
    row(Kind::GATEWAY, GATEWAY_API, &["v1", "v1beta1"], Namespaced, spec!(Gateway)),
    row(Kind::HTTP_ROUTE, GATEWAY_API, &["v1", "v1beta1"], Namespaced, spec!(HttpRoute)),
    row(Kind::REFERENCE_GRANT, GATEWAY_API, &["v1", "v1beta1"], Namespaced, spec!(ReferenceGrant)),
    row(Kind::GRPC_ROUTE, GATEWAY_API, &["v1"], Namespaced, spec!(GrpcRoute)),
    row(Kind::TLS_ROUTE, GATEWAY_API, TLS_ROUTE_VERSIONS, Namespaced, spec!(TlsRoute)),
    row(Kind::TCP_ROUTE, GATEWAY_API, &["v1", "v1alpha2"], Namespaced, spec!(TcpRoute)),
    row(Kind::UDP_ROUTE, GATEWAY_API, &["v1", "v1alpha2"], Namespaced, spec!(UdpRoute)),
    row(Kind::BACKEND_TLS_POLICY, GATEWAY_API, &["v1"], Namespaced, spec!(BackendTlsPolicy)),
    not_served("ListenerSet", GATEWAY_API),
    row(Kind::INGRESS, NETWORKING, &["v1"], Namespaced, spec!(Ingress)),
    row(Kind::INGRESS_CLASS, NETWORKING, &["v1"], Cluster, spec!(IngressClass)),
    row(Kind::SERVICE, "", &["v1"], Namespaced, spec!(Service)),
    row(Kind::SECRET, "", &["v1"], Namespaced, beside!(Secret)),
    row(Kind::CONFIG_MAP, "", &["v1"], Namespaced, beside!(ConfigMap)),
    row(Kind::NAMESPACE, "", &["v1"], Cluster, Body::Beside(namespace)),
    row(Kind::ENDPOINT_SLICE, "discovery.k8s.io", &["v1"], Namespaced, beside!(EndpointSlice)),
    row(Kind::ZONE, CUTWATER, &["v1alpha1"], Namespaced, spec!(Zone)),
    row(Kind::EDGE_POLICY, CUTWATER, &["v1alpha1"], Namespaced, Body::Spec(edge_policy)),
    row(Kind::ENDPOINT_CONTRACT, CUTWATER, &["v1alpha1"], Namespaced, spec!(EndpointContract)),
];

/// Groups all of whose kinds stand in the table, so that another kind is a slip of the pen.
const WHOLE_GROUPS: &[&str] = &[GATEWAY_API, CUTWATER];

/// The top-level key of a bare endpoint contract.
pub const BARE_CONTRACT: &str = "endpointContract";

/// What a document is, by what it says of itself.
pub enum Recognised {
    Row(&'static Row),
    /// A kind of somebody else.
    Foreign,
    /// `kind: List` of v1.
    List,
    /// A diagnostic has been written.
    Refused,
}

pub fn by_kind(root: &Node, api_version: &str, kind: &str, decoder: &mut Decoder) -> Recognised {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group.is_empty() && kind == "List" {
        return Recognised::List;
    }
    match ROWS.iter().find(|row| row.group == group && row.kind.0 == kind) {
        Some(row) if row.versions.is_empty() || row.versions.contains(&version) => {
            Recognised::Row(row)
        }
        Some(row) => {
            unknown_version(root, row, api_version, decoder);
            Recognised::Refused
        }
        None => misspelt(root, api_version, group, kind, decoder),
    }
}

fn unknown_version(root: &Node, row: &Row, found: &str, decoder: &mut Decoder) {
    let names: Vec<String> = row.versions.iter().map(|version| row.api_version(version)).collect();
    let help = format!("use `apiVersion: {}`", names.join("` or `"));
    let message = format!("{} is not served in version `{found}`", row.kind);
    decoder.report_field(root, "apiVersion", &codes::UNKNOWN_VERSION, message, help);
}

impl Row {
    fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}

/// A kind that is near to one of ours, in a group that is ours.
fn misspelt(
    root: &Node,
    api_version: &str,
    group: &str,
    kind: &str,
    decoder: &mut Decoder,
) -> Recognised {
    let ours = || ROWS.iter().filter(|row| row.group == group).map(|row| row.kind.0);
    let same = |name: &&str| name.eq_ignore_ascii_case(kind);
    let whole = WHOLE_GROUPS.contains(&group);
    let near = if whole { suggest::nearest(kind, ours()) } else { ours().find(same) };
    match near {
        None if whole => {
            let help = format!("known kinds: {}", ours().collect::<Vec<_>>().join(", "));
            let message = format!("`{api_version}` has no kind `{kind}` that is known here");
            decoder.report_field(root, "kind", &codes::UNKNOWN_KIND, message, help);
            Recognised::Refused
        }
        None => Recognised::Foreign,
        Some(near) => {
            let message = format!("`{api_version}` has no kind `{kind}`");
            let help = format!("did you mean `{near}`?");
            decoder.report_field(root, "kind", &codes::UNKNOWN_KIND, message, help);
            Recognised::Refused
        }
    }
}

fn edge_policy(node: &Node, decoder: &mut Decoder) -> Option<Spec> {
    Box::decode(node, decoder).map(Spec::EdgePolicy)
}

/// A Namespace has nothing but its metadata.
fn namespace(node: &Node, _: &Metadata, decoder: &mut Decoder) -> Option<Spec> {
    const KEYS: Keys = Keys {
        served: &["apiVersion", "kind", "metadata"],
        unserved: &[],
        ignored: &["spec", "status"],
    };
    check_keys(node, decoder, &KEYS)?;
    Some(Spec::Namespace)
}
