//! Names of objects. An id never changes while the object lives, so live state may be keyed by it.

use crate::Text;
use std::fmt;

/// A recognised kind, by the name that manifests use (`HTTPRoute`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub &'static str);

impl Kind {
    pub const GATEWAY_CLASS: Kind = Kind("GatewayClass");
    pub const GATEWAY: Kind = Kind("Gateway");
    pub const HTTP_ROUTE: Kind = Kind("HTTPRoute");
    pub const GRPC_ROUTE: Kind = Kind("GRPCRoute");
    pub const TLS_ROUTE: Kind = Kind("TLSRoute");
    pub const TCP_ROUTE: Kind = Kind("TCPRoute");
    pub const UDP_ROUTE: Kind = Kind("UDPRoute");
    pub const REFERENCE_GRANT: Kind = Kind("ReferenceGrant");
    pub const INGRESS: Kind = Kind("Ingress");
    pub const INGRESS_CLASS: Kind = Kind("IngressClass");
    pub const SERVICE: Kind = Kind("Service");
    pub const ENDPOINT_SLICE: Kind = Kind("EndpointSlice");
    pub const SECRET: Kind = Kind("Secret");
    pub const CONFIG_MAP: Kind = Kind("ConfigMap");
    pub const NAMESPACE: Kind = Kind("Namespace");
    pub const ZONE: Kind = Kind("Zone");
    pub const BACKEND_TLS_POLICY: Kind = Kind("BackendTLSPolicy");
    pub const EDGE_POLICY: Kind = Kind("EdgePolicy");
    pub const ENDPOINT_CONTRACT: Kind = Kind("EndpointContract");
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Kind, namespace and name. The namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub kind: Kind,
    pub namespace: Text,
    pub name: Text,
}

impl ObjectId {
    pub fn new(kind: Kind, namespace: impl Into<Text>, name: impl Into<Text>) -> Self {
        ObjectId { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `HTTPRoute shop/cart`, or `GatewayClass cutwater` for a cluster-scoped kind.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// One port of one Service: what endpoints, pools and balancing are keyed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    pub namespace: Text,
    pub name: Text,
    pub port: u16,
}

impl ServicePort {
    pub fn service(&self) -> ObjectId {
        ObjectId::new(Kind::SERVICE, self.namespace.clone(), self.name.clone())
    }
}

/// `shop/cart:8080`
impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

/// A listener of a Gateway, or the entry that an Ingress makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId {
    pub object: ObjectId,
    /// `sectionName` of a Gateway's listener; `http` or `https` for an Ingress.
    pub section: Text,
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listener {}", self.object, self.section)
    }
}

/// A rule of a route, stable as long as its route keeps its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    pub object: ObjectId,
    pub index: u32,
    /// The rule's own name, where it has one.
    pub name: Option<Text>,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} rule {} ({name})", self.object, self.index),
            None => write!(f, "{} rule {}", self.object, self.index),
        }
    }
}
