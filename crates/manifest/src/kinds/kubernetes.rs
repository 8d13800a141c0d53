//! Kubernetes' own kinds: Ingress, IngressClass, Service, EndpointSlice, Secret, ConfigMap.

use super::rules;
use crate::decode::{IngressHost, choice, object};
use crate::pem::{Authorities, KeyPair};
use model::facts::Hints;
use model::{Digest, Text};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

object! {
    pub struct IngressClass {
        "controller" => controller: Text,
    }
    unserved ["parameters"]
}

object! {
    pub struct Ingress {
        "ingressClassName" => class: Option<Text>,
        "defaultBackend" => default_backend: Option<IngressBackend>,
        "tls" => tls: Vec<IngressTls>,
        "rules" => rules: Vec<IngressRule>,
    }
    checked by rules::ingress
}

object! {
    pub struct IngressTls {
        "hosts" => hosts: Vec<IngressHost>,
        "secretName" => secret_name: Option<Text>,
    }
}

object! {
    pub struct IngressRule {
        "host" => host: Option<IngressHost>,
        "http" => http: Option<HttpIngressRule>,
    }
}

object! {
    pub struct HttpIngressRule {
        "paths" => paths: Vec<HttpIngressPath>,
    }
}

object! {
    pub struct HttpIngressPath {
        "path" => path: Option<Text>,
        "pathType" => path_type: IngressPathType,
        "backend" => backend: IngressBackend,
    }
    checked by rules::ingress_path
}

choice! {
    pub enum IngressPathType {
        Exact = "Exact", Prefix = "Prefix", ImplementationSpecific = "ImplementationSpecific",
    }
}

object! {
    pub struct IngressBackend {
        "service" => service: Option<IngressServiceBackend>,
    }
    unserved ["resource"]
    checked by rules::ingress_backend
}

object! {
    pub struct IngressServiceBackend {
        "name" => name: Text,
        "port" => port: ServiceBackendPort,
    }
}

object! {
    pub struct ServiceBackendPort {
        "name" => name: Option<Text>,
        "number" => number: Option<u16>,
    }
    checked by rules::service_backend_port
}

object! {
    pub struct Service {
        "type" => kind: ServiceType = ServiceType::ClusterIp,
        /// As written: the word `None` for a headless Service.
        "clusterIP" => cluster_ip: Option<Text>,
        "selector" => selector: BTreeMap<Text, Text>,
        "ports" => ports: Vec<ServicePortSpec>,
        "externalName" => external_name: Option<Text>,
        /// A word that is not known asks for nothing.
        "trafficDistribution" => traffic_distribution: Option<Text>,
    }
    ignored [
        "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "externalTrafficPolicy",
        "sessionAffinity", "sessionAffinityConfig", "externalIPs", "loadBalancerIP", "loadBalancerClass",
        "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "healthCheckNodePort",
        "publishNotReadyAddresses",
    ]
    checked by rules::service
}

choice! {
    pub enum ServiceType {
        ClusterIp = "ClusterIP", NodePort = "NodePort", LoadBalancer = "LoadBalancer", ExternalName = "ExternalName",
    }
}

object! {
    pub struct ServicePortSpec {
        "name" => name: Option<Text>,
        "port" => port: u16,
        "protocol" => protocol: IpProtocol = IpProtocol::Tcp,
        "targetPort" => target_port: Option<IntOrText>,
        "appProtocol" => app_protocol: Option<Text>,
    }
    ignored ["nodePort"]
}

choice! {
    pub enum IpProtocol { Tcp = "TCP", Udp = "UDP", Sctp = "SCTP" }
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrText {
    Int(u16),
    Text(Text),
}

/// The fields stand beside `metadata`, not in a `spec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Label `kubernetes.io/service-name`; none when the label is missing.
    pub service: Option<Text>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub name: Option<Text>,
    pub port: u16,
    pub protocol: IpProtocol,
}

/// Conditions as in the API: an absent `ready` counts as true, `serving` as `ready`, `terminating` as false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub zone: Option<Text>,
    pub node: Option<Text>,
    pub hints: Hints,
    /// `targetRef.name` of a pod.
    pub target: Option<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub kind: Text,
    /// Names of the entries, `data` and `stringData` together (the latter wins), with a digest of each value.
    pub entries: BTreeMap<Text, Digest>,
    /// For `kubernetes.io/tls`: certificate and key, checked to belong together.
    pub tls: Option<Arc<KeyPair>>,
    pub authorities: Option<Authorities>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    pub entries: BTreeMap<Text, Digest>,
    /// Of `data`.
    pub texts: BTreeMap<Text, Text>,
    pub authorities: Option<Authorities>,
}

impl crate::decode::Decode for IntOrText {
    fn decode(node: &crate::node::Node, decoder: &mut crate::decode::Decoder) -> Option<Self> {
        match &node.value {
            crate::node::Value::String(text) => Some(IntOrText::Text(text.clone())),
            _ => u16::decode(node, decoder).map(IntOrText::Int),
        }
    }
}
