//! gateway.networking.k8s.io: GRPCRoute. Beside its matches it says what an HTTPRoute says, and is read as one, so that
//! what is done with routes is done once.

use super::gateway::{
    FilterType, HttpBackendRef, HttpRoute, HttpRouteFilter, HttpRouteRule, HttpValueMatch,
    ParentReference,
};
use super::rules;
use super::traffic::SessionPersistence;
use crate::codes;
use crate::decode::{Decode, Decoder, choice, object};
use crate::node::Node;
use model::{HostPattern, Text};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcRoute {
    /// Its rules have no matches of their own.
    pub route: HttpRoute,
    /// By rule.
    pub matches: Vec<Vec<GrpcRouteMatch>>,
}

object! {
    pub struct GrpcRouteSpec {
        "parentRefs" => parent_refs: Vec<ParentReference>,
        "hostnames" => hostnames: Vec<HostPattern>,
        "rules" => rules: Vec<GrpcRouteRule>,
    }
    unserved ["useDefaultGateways"]
}

object! {
    pub struct GrpcRouteRule {
        "name" => name: Option<Text>,
        "matches" => matches: Vec<GrpcRouteMatch>,
        "filters" => filters: Vec<HttpRouteFilter>,
        "backendRefs" => backend_refs: Vec<HttpBackendRef>,
        "sessionPersistence" => session_persistence: Option<Box<SessionPersistence>>,
    }
    checked by rule
}

object! {
    pub struct GrpcRouteMatch {
        "method" => method: Option<GrpcMethodMatch>,
        "headers" => headers: Vec<HttpValueMatch>,
    }
}

object! {
    pub struct GrpcMethodMatch {
        "type" => kind: GrpcMethodMatchType = GrpcMethodMatchType::Exact,
        /// With its package, as in `shop.v1.Cart`; none for every service.
        "service" => service: Option<Text>,
        "method" => method: Option<Text>,
    }
    checked by method_match
}

choice! {
    /// Of the service and of the method.
    pub enum GrpcMethodMatchType { Exact = "Exact", RegularExpression = "RegularExpression" }
}

impl Decode for GrpcRoute {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let spec = GrpcRouteSpec::decode(node, decoder)?;
        let (rules, matches) = spec.rules.into_iter().map(GrpcRouteRule::split).unzip();
        let route = HttpRoute { parent_refs: spec.parent_refs, hostnames: spec.hostnames, rules };
        let grpc = GrpcRoute { route, matches };
        let count = grpc.matches.iter().map(Vec::len).sum();
        rules::route(&grpc.route, count, node, decoder);
        Some(grpc)
    }
}

impl GrpcRouteRule {
    fn split(self) -> (HttpRouteRule, Vec<GrpcRouteMatch>) {
        let rule = HttpRouteRule {
            name: self.name,
            matches: Vec::new(),
            filters: self.filters,
            backend_refs: self.backend_refs,
            timeouts: None,
            retry: None,
            session_persistence: self.session_persistence,
        };
        (rule, self.matches)
    }
}

fn rule(rule: &GrpcRouteRule, node: &Node, decoder: &mut Decoder) {
    rules::parts_of_rule(&rule.filters, node, decoder);
    filters(&rule.filters, node, decoder);
    decoder.field(node, "backendRefs", |list, decoder| {
        let mut each = rule.backend_refs.iter();
        decoder.items(list, |item, decoder| {
            each.next().map(|backend| filters(&backend.filters, item, decoder))
        })
    });
}

/// Filters that a GRPCRoute may have (GRPCRouteFilter, type).
fn filters(written: &[HttpRouteFilter], node: &Node, decoder: &mut Decoder) {
    use FilterType::{ExtensionRef, RequestHeaderModifier, RequestMirror, ResponseHeaderModifier};
    let allowed = [ResponseHeaderModifier, RequestHeaderModifier, RequestMirror, ExtensionRef];
    decoder.field(node, "filters", |list, decoder| {
        let mut each = written.iter();
        decoder.items(list, |item, decoder| {
            let kind = each.next()?.kind;
            if !allowed.contains(&kind) {
                let message = format!("a GRPCRoute has no filter of type {}", kind.name());
                let help = format!(
                    "allowed: {}; an HTTPRoute takes gRPC too",
                    allowed.map(FilterType::name).join(", ")
                );
                decoder.report_field(item, "type", &codes::BAD_VALUE, message, help);
            }
            None::<()>
        })
    });
}

fn method_match(spec: &GrpcMethodMatch, node: &Node, decoder: &mut Decoder) {
    if spec.service.is_none() && spec.method.is_none() {
        let message = "a match by method needs `service`, `method` or both";
        let help = "leave `method` away where every call is meant";
        decoder.report(&codes::MISSING_FIELD, node.span, message, help);
    }
    if spec.kind == GrpcMethodMatchType::RegularExpression {
        return;
    }
    let parts = [
        ("service", spec.service.as_deref(), '.', "a name with its package, as in `shop.v1.Cart`"),
        ("method", spec.method.as_deref(), '\0', "letters, digits and `_`, as in `AddItem`"),
    ];
    for (field, name, separator, help) in parts {
        if let Some(name) = name.filter(|name| !name.split(separator).all(is_identifier)) {
            let message = format!("`{name}` is no name of a {field}");
            decoder.report_field(node, field, &codes::BAD_VALUE, message, help);
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
