//! gateway.networking.k8s.io: GatewayClass, Gateway, HTTPRoute, ReferenceGrant.

use super::gateway_tls::GatewayTls;
use super::rules;
use super::traffic::{CorsFilter, HttpRouteRetry, RequestMirror, SessionPersistence};
use crate::decode::{choice, object};
use model::{HostPattern, Text};
use std::collections::BTreeMap;
use std::time::Duration;

object! {
    pub struct GatewayClass {
        "controllerName" => controller_name: Text,
        "description" => description: Option<Text>,
    }
    unserved ["parametersRef"]
    checked by rules::gateway_class
}

object! {
    pub struct Gateway {
        "gatewayClassName" => class: Text,
        "listeners" => listeners: Vec<Listener>,
        "tls" => tls: Option<Box<GatewayTls>>,
    }
    unserved ["addresses", "infrastructure", "allowedListeners", "backendTLS", "defaultScope"]
    checked by rules::gateway
}

object! {
    pub struct Listener {
        "name" => name: Text,
        /// None stands for every host.
        "hostname" => hostname: Option<HostPattern>,
        "port" => port: u16,
        "protocol" => protocol: Text,
        "tls" => tls: Option<ListenerTls>,
        "allowedRoutes" => allowed_routes: Option<AllowedRoutes>,
    }
    checked by rules::listener
}

object! {
    pub struct ListenerTls {
        "mode" => mode: TlsMode = TlsMode::Terminate,
        "certificateRefs" => certificate_refs: Vec<ObjectReference>,
    }
    unserved ["options"]
    checked by rules::listener_tls
}

choice! {
    pub enum TlsMode { Terminate = "Terminate", Passthrough = "Passthrough" }
}

object! {
    /// A reference to a Secret, or to another kind that is then reported.
    pub struct ObjectReference {
        "group" => group: Text = "".into(),
        "kind" => kind: Text = "Secret".into(),
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
    }
}

object! {
    pub struct AllowedRoutes {
        "namespaces" => namespaces: Option<RouteNamespaces>,
        "kinds" => kinds: Vec<RouteGroupKind>,
    }
}

object! {
    pub struct RouteNamespaces {
        "from" => from: FromNamespaces = FromNamespaces::Same,
        "selector" => selector: Option<LabelSelector>,
    }
    checked by rules::route_namespaces
}

choice! {
    pub enum FromNamespaces { All = "All", Same = "Same", Selector = "Selector", None = "None" }
}

object! {
    pub struct LabelSelector {
        "matchLabels" => match_labels: BTreeMap<Text, Text>,
        "matchExpressions" => match_expressions: Vec<LabelExpression>,
    }
}

object! {
    pub struct LabelExpression {
        "key" => key: Text,
        "operator" => operator: LabelOperator,
        "values" => values: Vec<Text>,
    }
    checked by rules::label_expression
}

choice! {
    pub enum LabelOperator { In = "In", NotIn = "NotIn", Exists = "Exists", DoesNotExist = "DoesNotExist" }
}

object! {
    pub struct RouteGroupKind {
        "group" => group: Text = "gateway.networking.k8s.io".into(),
        "kind" => kind: Text,
    }
}

object! {
    pub struct HttpRoute {
        "parentRefs" => parent_refs: Vec<ParentReference>,
        "hostnames" => hostnames: Vec<HostPattern>,
        /// One rule that takes every path when the field is absent.
        "rules" => rules: Vec<HttpRouteRule>,
    }
    unserved ["useDefaultGateways"]
    checked by rules::http_route
}

object! {
    pub struct ParentReference {
        "group" => group: Text = "gateway.networking.k8s.io".into(),
        "kind" => kind: Text = "Gateway".into(),
        "namespace" => namespace: Option<Text>,
        "name" => name: Text,
        "sectionName" => section_name: Option<Text>,
        "port" => port: Option<u16>,
    }
}

object! {
    pub struct HttpRouteRule {
        "name" => name: Option<Text>,
        "matches" => matches: Vec<HttpRouteMatch>,
        "filters" => filters: Vec<HttpRouteFilter>,
        "backendRefs" => backend_refs: Vec<HttpBackendRef>,
        "timeouts" => timeouts: Option<HttpRouteTimeouts>,
        "retry" => retry: Option<Box<HttpRouteRetry>>,
        "sessionPersistence" => session_persistence: Option<Box<SessionPersistence>>,
    }
    checked by rules::http_route_rule
}

object! {
    pub struct HttpRouteMatch {
        "path" => path: Option<HttpPathMatch>,
        "headers" => headers: Vec<HttpValueMatch>,
        "queryParams" => query_params: Vec<HttpValueMatch>,
        "method" => method: Option<Method>,
    }
    checked by rules::http_route_match
}

object! {
    pub struct HttpPathMatch {
        "type" => kind: PathMatchType = PathMatchType::PathPrefix,
        "value" => value: Text = "/".into(),
    }
    checked by rules::http_path_match
}

choice! {
    pub enum PathMatchType { Exact = "Exact", PathPrefix = "PathPrefix", RegularExpression = "RegularExpression" }
}

choice! {
    pub enum Method {
        Get = "GET", Head = "HEAD", Post = "POST", Put = "PUT", Delete = "DELETE", Connect = "CONNECT",
        Options = "OPTIONS", Trace = "TRACE", Patch = "PATCH",
    }
}

object! {
    /// Of a header or of a query parameter.
    pub struct HttpValueMatch {
        "type" => kind: ValueMatchType = ValueMatchType::Exact,
        "name" => name: Text,
        "value" => value: Text,
    }
    checked by rules::http_value_match
}

choice! {
    pub enum ValueMatchType { Exact = "Exact", RegularExpression = "RegularExpression" }
}

object! {
    pub struct HttpRouteFilter {
        "type" => kind: FilterType,
        "requestHeaderModifier" => request_header_modifier: Option<HeaderModifier>,
        "responseHeaderModifier" => response_header_modifier: Option<HeaderModifier>,
        "requestRedirect" => request_redirect: Option<RequestRedirect>,
        "urlRewrite" => url_rewrite: Option<UrlRewrite>,
        "requestMirror" => request_mirror: Option<Box<RequestMirror>>,
        "cors" => cors: Option<Box<CorsFilter>>,
    }
    ignored ["extensionRef", "externalAuth"]
    checked by rules::http_route_filter
}

choice! {
    /// The last two are known and not served yet: their rule answers 500.
    pub enum FilterType {
        RequestHeaderModifier = "RequestHeaderModifier",
        ResponseHeaderModifier = "ResponseHeaderModifier",
        RequestRedirect = "RequestRedirect",
        UrlRewrite = "URLRewrite",
        RequestMirror = "RequestMirror",
        Cors = "CORS",
        ExternalAuth = "ExternalAuth",
        ExtensionRef = "ExtensionRef",
    }
}

object! {
    pub struct HeaderModifier {
        "set" => set: Vec<HttpHeader>,
        "add" => add: Vec<HttpHeader>,
        "remove" => remove: Vec<Text>,
    }
    checked by rules::header_modifier
}

object! {
    pub struct HttpHeader {
        "name" => name: Text,
        "value" => value: Text,
    }
    checked by rules::http_header
}

object! {
    pub struct RequestRedirect {
        "scheme" => scheme: Option<Scheme>,
        "hostname" => hostname: Option<HostPattern>,
        "path" => path: Option<PathModifier>,
        "port" => port: Option<u16>,
        "statusCode" => status_code: RedirectStatus = RedirectStatus(302),
    }
    checked by rules::request_redirect
}

choice! {
    pub enum Scheme { Http = "http", Https = "https" }
}

/// 301, 302, 303, 307 or 308.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectStatus(pub u16);

impl crate::decode::Decode for RedirectStatus {
    fn decode(node: &crate::node::Node, decoder: &mut crate::decode::Decoder) -> Option<Self> {
        let status = crate::decode::integer(node, decoder, 301, 308)?;
        if ![301, 302, 303, 307, 308].contains(&status) {
            let message = format!("{status} is no redirect");
            decoder.report(
                &crate::codes::OUT_OF_RANGE,
                node.span,
                message,
                "use 301, 302, 303, 307 or 308",
            );
            return None;
        }
        Some(RedirectStatus(status as u16))
    }
}

object! {
    pub struct UrlRewrite {
        "hostname" => hostname: Option<HostPattern>,
        "path" => path: Option<PathModifier>,
    }
    checked by rules::url_rewrite
}

object! {
    pub struct PathModifier {
        "type" => kind: PathModifierType,
        "replaceFullPath" => replace_full_path: Option<Text>,
        "replacePrefixMatch" => replace_prefix_match: Option<Text>,
    }
    checked by rules::path_modifier
}

choice! {
    pub enum PathModifierType { ReplaceFullPath = "ReplaceFullPath", ReplacePrefixMatch = "ReplacePrefixMatch" }
}

object! {
    pub struct HttpBackendRef {
        "group" => group: Text = "".into(),
        "kind" => kind: Text = "Service".into(),
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
        "port" => port: Option<u16>,
        "weight" => weight: Weight = Weight(1),
        "filters" => filters: Vec<HttpRouteFilter>,
    }
    checked by rules::http_backend_ref
}

/// 0 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u32);

impl crate::decode::Decode for Weight {
    fn decode(node: &crate::node::Node, decoder: &mut crate::decode::Decoder) -> Option<Self> {
        crate::decode::integer(node, decoder, 0, 1_000_000).map(|weight| Weight(weight as u32))
    }
}

object! {
    pub struct HttpRouteTimeouts {
        "request" => request: Option<Duration>,
        "backendRequest" => backend_request: Option<Duration>,
    }
    checked by rules::http_route_timeouts
}

object! {
    pub struct ReferenceGrant {
        "from" => from: Vec<GrantFrom>,
        "to" => to: Vec<GrantTo>,
    }
    checked by rules::reference_grant
}

object! {
    pub struct GrantFrom {
        "group" => group: Text,
        "kind" => kind: Text,
        "namespace" => namespace: Text,
    }
}

object! {
    pub struct GrantTo {
        "group" => group: Text,
        "kind" => kind: Text,
        "name" => name: Option<Text>,
    }
}
