//! Every object of every source, typed, sorted by id.

use crate::kinds::cutwater::{EndpointContract, Zone};
use crate::kinds::edge_policy::EdgePolicy;
use crate::kinds::gateway::{Gateway, GatewayClass, HttpRoute, ReferenceGrant};
use crate::kinds::grpc::GrpcRoute;
use crate::kinds::kubernetes::{ConfigMap, EndpointSlice, Ingress, IngressClass, Secret, Service};
use crate::kinds::layer4::{TcpRoute, TlsRoute, UdpRoute};
use crate::kinds::policy::BackendTlsPolicy;
use crate::{Object, Spec};
use model::{Kind, ObjectId, Origins, Text};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The ground state that `compile` reads.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    pub origins: Arc<Origins>,
    /// Objects that are written, and a mistake leaves nothing of: they are there, whatever else is not known of them.
    pub unread: BTreeSet<ObjectId>,
}

impl Inputs {
    /// Of two objects with one id the later counts; the reader reports them before.
    pub fn new(objects: impl IntoIterator<Item = Arc<Object>>, origins: Arc<Origins>) -> Self {
        Inputs {
            objects: objects.into_iter().map(|object| (object.id.clone(), object)).collect(),
            origins,
            unread: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn object(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(id)
    }

    /// Objects of a kind, sorted by namespace and name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let first = ObjectId::new(kind, "", "");
        self.objects
            .range(first..)
            .take_while(move |(id, _)| id.kind == kind)
            .map(|(_, object)| object)
    }
}

/// Typed access: all of a kind, and one by namespace and name.
macro_rules! access {
    ($( $all:ident, $one:ident: $kind:ident => $variant:ident($type:ty) );* $(;)?) => {
        impl Inputs {
            $(
                pub fn $all(&self) -> impl Iterator<Item = (&Arc<Object>, &$type)> {
                    self.of(Kind::$kind).filter_map(|object| match &object.spec {
                        Spec::$variant(spec) => Some((object, Borrow::<$type>::borrow(spec))),
                        _ => None,
                    })
                }

                pub fn $one(&self, namespace: &Text, name: &Text) -> Option<(&Arc<Object>, &$type)> {
                    let id = ObjectId::new(Kind::$kind, namespace.clone(), name.clone());
                    match self.objects.get(&id) {
                        Some(object) => match &object.spec {
                            Spec::$variant(spec) => Some((object, Borrow::<$type>::borrow(spec))),
                            _ => None,
                        },
                        None => None,
                    }
                }
            )*
        }
    };
}

access! {
    gateway_classes, gateway_class: GATEWAY_CLASS => GatewayClass(GatewayClass);
    gateways, gateway: GATEWAY => Gateway(Gateway);
    http_routes, http_route: HTTP_ROUTE => HttpRoute(HttpRoute);
    grpc_routes, grpc_route: GRPC_ROUTE => GrpcRoute(GrpcRoute);
    tls_routes, tls_route: TLS_ROUTE => TlsRoute(TlsRoute);
    tcp_routes, tcp_route: TCP_ROUTE => TcpRoute(TcpRoute);
    udp_routes, udp_route: UDP_ROUTE => UdpRoute(UdpRoute);
    reference_grants, reference_grant: REFERENCE_GRANT => ReferenceGrant(ReferenceGrant);
    ingresses, ingress: INGRESS => Ingress(Ingress);
    ingress_classes, ingress_class: INGRESS_CLASS => IngressClass(IngressClass);
    services, service: SERVICE => Service(Service);
    endpoint_slices, endpoint_slice: ENDPOINT_SLICE => EndpointSlice(EndpointSlice);
    secrets, secret: SECRET => Secret(Secret);
    config_maps, config_map: CONFIG_MAP => ConfigMap(ConfigMap);
    zones, zone: ZONE => Zone(Zone);
    backend_tls_policies, backend_tls_policy: BACKEND_TLS_POLICY => BackendTlsPolicy(BackendTlsPolicy);
    edge_policies, edge_policy: EDGE_POLICY => EdgePolicy(EdgePolicy);
    endpoint_contracts, endpoint_contract: ENDPOINT_CONTRACT => EndpointContract(EndpointContract);
}

impl Inputs {
    /// HTTPRoutes, then GRPCRoutes as what they say beside their matches.
    pub fn routes(&self) -> impl Iterator<Item = (&Arc<Object>, &HttpRoute)> {
        let grpc = self.grpc_routes().map(|(object, grpc)| (object, &grpc.route));
        self.http_routes().chain(grpc)
    }

    /// One of them.
    pub fn route(&self, id: &ObjectId) -> Option<&HttpRoute> {
        match &self.objects.get(id)?.spec {
            Spec::HttpRoute(route) => Some(route),
            Spec::GrpcRoute(grpc) => Some(&grpc.route),
            _ => None,
        }
    }

    pub fn namespace(&self, name: &Text) -> Option<&Arc<Object>> {
        self.objects.get(&ObjectId::new(Kind::NAMESPACE, "", name.clone()))
    }
}
