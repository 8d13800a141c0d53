//! The kinds that are served, as typed objects. Each field is declared once; see `decode`.

pub mod cutwater;
pub mod edge_policy;
pub mod edge_policy_answers;
pub mod edge_policy_entry;
pub mod edge_policy_limits;
pub mod edge_policy_tls;
pub mod fallback;
pub mod gateway;
pub mod gateway_tls;
pub mod grpc;
pub mod kubernetes;
pub mod layer4;
pub mod policy;
mod rules;
mod secret;
mod slice;
pub mod traffic;
mod zone;

use model::{Kind, ObjectId, Text};
use std::collections::BTreeMap;

/// An object of any source. Where it came from lies in [`model::Origins`], so equal objects are equal wherever they
/// were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub id: ObjectId,
    pub labels: BTreeMap<Text, Text>,
    pub annotations: BTreeMap<Text, Text>,
    /// RFC 3339, from an API server; absent in a folder.
    pub created: Option<Text>,
    pub spec: Spec,
}

impl Object {
    pub fn kind(&self) -> Kind {
        self.id.kind
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    GatewayClass(gateway::GatewayClass),
    Gateway(gateway::Gateway),
    HttpRoute(gateway::HttpRoute),
    GrpcRoute(grpc::GrpcRoute),
    TlsRoute(layer4::TlsRoute),
    TcpRoute(layer4::TcpRoute),
    UdpRoute(layer4::UdpRoute),
    ReferenceGrant(gateway::ReferenceGrant),
    BackendTlsPolicy(policy::BackendTlsPolicy),
    Ingress(kubernetes::Ingress),
    IngressClass(kubernetes::IngressClass),
    Service(kubernetes::Service),
    EndpointSlice(kubernetes::EndpointSlice),
    Secret(kubernetes::Secret),
    ConfigMap(kubernetes::ConfigMap),
    Namespace,
    Zone(cutwater::Zone),
    EndpointContract(cutwater::EndpointContract),
    EdgePolicy(Box<edge_policy::EdgePolicy>),
}
