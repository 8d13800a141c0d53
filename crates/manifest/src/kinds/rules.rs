//! What holds between the fields of one object: the ranges and the validation rules of the Gateway API's CRDs, and those
//! that the API server has for Ingress and Service. What holds between objects is judged by `compile`.

use super::gateway::{
    FilterType, FromNamespaces, Gateway, GatewayClass, HeaderModifier, HttpBackendRef, HttpHeader,
    HttpPathMatch, HttpRoute, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, HttpRouteTimeouts,
    HttpValueMatch, LabelExpression, LabelOperator, Listener, ListenerTls, PathMatchType,
    PathModifier, PathModifierType, ReferenceGrant, RequestRedirect, RouteNamespaces, TlsMode,
    UrlRewrite,
};
use super::kubernetes::{
    HttpIngressPath, Ingress, IngressBackend, IngressPathType, Service, ServiceBackendPort,
    ServiceType,
};
use crate::codes;
use crate::decode::Decoder;
use crate::metadata::is_subdomain_name;
use crate::node::{Node, Value};
use model::{HostPattern, Hostname};
use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::RangeInclusive;

const LISTENERS: RangeInclusive<usize> = 1..=64;
const CERTIFICATE_REFS: RangeInclusive<usize> = 0..=64;
pub(super) const PARENT_REFS: RangeInclusive<usize> = 0..=32;
const HOSTNAMES: RangeInclusive<usize> = 0..=16;
const RULES: RangeInclusive<usize> = 1..=16;
const MATCHES: RangeInclusive<usize> = 0..=64;
const MATCHES_OF_A_ROUTE: usize = 128;
const SIXTEEN: RangeInclusive<usize> = 0..=16;
const GRANT_SIDES: RangeInclusive<usize> = 1..=16;
const NAME_BYTES: RangeInclusive<usize> = 1..=256;
const HEADER_VALUE_BYTES: RangeInclusive<usize> = 1..=4_096;
const PATH_BYTES: RangeInclusive<usize> = 0..=1_024;

pub fn gateway_class(class: &GatewayClass, node: &Node, decoder: &mut Decoder) {
    let is_path = class
        .controller_name
        .split_once('/')
        .is_some_and(|(domain, path)| is_subdomain_name(domain) && !path.is_empty());
    if !is_path {
        let message = format!("`{}` is no name of a controller", class.controller_name);
        let help = "write a domain, a slash and a path: `cutwater.dev/gateway`";
        decoder.report_field(node, "controllerName", &codes::BAD_VALUE, message, help);
    }
}

pub fn gateway(gateway: &Gateway, node: &Node, decoder: &mut Decoder) {
    count(node, "listeners", LISTENERS, decoder);
    let listeners = &gateway.listeners;
    unique(
        node,
        "listeners",
        decoder,
        listeners.iter().map(|l| Some(l.name.clone())),
        |listener| (format!("a second listener is named `{}`", listener.name), "name"),
        listeners,
    );
    let slot = |l: &Listener| Some((l.port, l.protocol.clone(), l.hostname.clone()));
    unique(
        node,
        "listeners",
        decoder,
        listeners.iter().map(slot),
        |listener| {
            let message = format!(
                "another listener has the same port, protocol and hostname as `{}`",
                listener.name
            );
            (message, "port")
        },
        listeners,
    );
}

/// Reports each item whose key an earlier item has.
fn unique<T, K: Eq + Hash>(
    node: &Node,
    field: &str,
    decoder: &mut Decoder,
    keys: impl Iterator<Item = Option<K>>,
    message: impl Fn(&T) -> (String, &'static str),
    items: &[T],
) {
    let mut seen = HashSet::new();
    let repeated: HashSet<usize> =
        keys.enumerate().filter_map(|(index, key)| (!seen.insert(key?)).then_some(index)).collect();
    if repeated.is_empty() {
        return;
    }
    decoder.field(node, field, |list, decoder| {
        let mut each = items.iter().enumerate();
        decoder.items(list, |node, decoder| {
            let (_, item) = each.next().filter(|(index, _)| repeated.contains(index))?;
            let (message, field) = message(item);
            let help = "make them differ, or remove one";
            decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
            None::<()>
        })
    });
}

pub fn listener(listener: &Listener, node: &Node, decoder: &mut Decoder) {
    if !is_subdomain_name(&listener.name) {
        let message = format!("`{}` is no name of a listener", listener.name);
        let help = "lower-case letters, digits, inner hyphens and dots";
        decoder.report_field(node, "name", &codes::BAD_NAME, message, help);
    }
    let mode = listener.tls.as_ref().map(|tls| tls.mode);
    let (field, message, help) = match (&*listener.protocol, mode) {
        ("HTTPS", None) => {
            ("protocol", "an HTTPS listener needs `tls`", "add `tls:` with `certificateRefs`")
        }
        ("TLS", None) => ("protocol", "a TLS listener needs `tls`", "add `tls:` with its `mode`"),
        ("HTTPS", Some(TlsMode::Passthrough)) => {
            ("tls", "an HTTPS listener ends TLS itself", "use mode Terminate, or protocol TLS")
        }
        ("HTTP" | "TCP" | "UDP", Some(_)) => {
            ("tls", "`tls` belongs to the protocols HTTPS and TLS", "remove it, or use HTTPS")
        }
        ("TCP" | "UDP", None) if listener.hostname.is_some() => {
            ("hostname", "TCP and UDP know no hostname", "remove it")
        }
        _ => return,
    };
    decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
}

pub fn listener_tls(tls: &ListenerTls, node: &Node, decoder: &mut Decoder) {
    count(node, "certificateRefs", CERTIFICATE_REFS, decoder);
    let has_options = node.field("options").is_some();
    if tls.mode == TlsMode::Terminate && tls.certificate_refs.is_empty() && !has_options {
        let message = "mode Terminate needs `certificateRefs`";
        let help = "name a Secret of type kubernetes.io/tls";
        decoder.report_field(node, "certificateRefs", &codes::MISSING_FIELD, message, help);
    }
}

pub fn route_namespaces(namespaces: &RouteNamespaces, node: &Node, decoder: &mut Decoder) {
    if namespaces.from == FromNamespaces::Selector && namespaces.selector.is_none() {
        let message = "`from: Selector` needs `selector`";
        let help = "add `selector:` with `matchLabels`";
        decoder.report_field(node, "from", &codes::MISSING_FIELD, message, help);
    }
}

pub fn label_expression(expression: &LabelExpression, node: &Node, decoder: &mut Decoder) {
    let wants = matches!(expression.operator, LabelOperator::In | LabelOperator::NotIn);
    if wants == expression.values.is_empty() {
        let operator = expression.operator.name();
        let verb = if wants { "needs" } else { "takes no" };
        let message = format!("operator {operator} {verb} `values`");
        decoder.report_field(node, "values", &codes::CONTRADICTION, message, "");
    }
}

pub fn http_route(http: &HttpRoute, node: &Node, decoder: &mut Decoder) {
    let matches = http.rules.iter().map(|rule| rule.matches.len()).sum();
    route(http, matches, node, decoder);
}

/// What holds for a route with that many matches.
pub fn route(route: &HttpRoute, matches: usize, node: &Node, decoder: &mut Decoder) {
    count(node, "parentRefs", PARENT_REFS, decoder);
    count(node, "hostnames", HOSTNAMES, decoder);
    if node.field("rules").is_some() {
        count(node, "rules", RULES, decoder);
    }
    let names = route.rules.iter().map(|rule| rule.name.clone());
    let message = |rule: &HttpRouteRule| {
        let name = rule.name.as_deref().unwrap_or_default();
        (format!("a second rule is named `{name}`"), "name")
    };
    unique(node, "rules", decoder, names, message, &route.rules);
    if matches > MATCHES_OF_A_ROUTE {
        let message =
            format!("the route has {matches} matches, at most {MATCHES_OF_A_ROUTE} are allowed");
        let help = "split the route into several of the same hostnames";
        decoder.report_field(node, "rules", &codes::OUT_OF_RANGE, message, help);
    }
}

pub fn http_route_rule(rule: &HttpRouteRule, node: &Node, decoder: &mut Decoder) {
    parts_of_rule(&rule.filters, node, decoder);
    let redirects = rule.filters.iter().any(|filter| filter.kind == FilterType::RequestRedirect);
    if redirects && !rule.backend_refs.is_empty() {
        let message = "a rule that redirects sends nothing to a backend";
        let help = "remove `backendRefs`, or the filter RequestRedirect";
        decoder.report_field(node, "backendRefs", &codes::CONTRADICTION, message, help);
    }
    let replaces_prefix = rule.filters.iter().filter_map(modifier_of).any(|path| {
        path.kind == PathModifierType::ReplacePrefixMatch && path.replace_prefix_match.is_some()
    });
    if replaces_prefix && !has_one_prefix(rule) {
        let message = "ReplacePrefixMatch needs exactly one match, of path type PathPrefix";
        let help = "give the rule one match, and further ones rules of their own";
        let field = if node.field("matches").is_some() { "matches" } else { "filters" };
        decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
    }
}

/// Of every kind of route.
pub fn parts_of_rule(filters: &[HttpRouteFilter], node: &Node, decoder: &mut Decoder) {
    count(node, "matches", MATCHES, decoder);
    count(node, "filters", SIXTEEN, decoder);
    count(node, "backendRefs", SIXTEEN, decoder);
    filters_together(filters, node, decoder);
}

fn modifier_of(filter: &HttpRouteFilter) -> Option<&PathModifier> {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    redirect.or(filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()))
}

/// A rule without matches has the default one, of prefix `/`.
fn has_one_prefix(rule: &HttpRouteRule) -> bool {
    match rule.matches.as_slice() {
        [] => true,
        [one] => one.path.as_ref().is_none_or(|path| path.kind == PathMatchType::PathPrefix),
        _ => false,
    }
}

fn filters_together(filters: &[HttpRouteFilter], node: &Node, decoder: &mut Decoder) {
    let repeatable = |kind| matches!(kind, FilterType::RequestMirror | FilterType::ExtensionRef);
    let keys = filters.iter().map(|filter| (!repeatable(filter.kind)).then_some(filter.kind));
    let message = |filter: &HttpRouteFilter| {
        (format!("a second filter {} in one rule", filter.kind.name()), "type")
    };
    unique(node, "filters", decoder, keys, message, filters);
    let has = |kind| filters.iter().any(|filter| filter.kind == kind);
    if has(FilterType::RequestRedirect) && has(FilterType::UrlRewrite) {
        let message = "RequestRedirect and URLRewrite exclude each other in one rule";
        let help = "a redirect changes the URL by itself: remove URLRewrite";
        decoder.report_field(node, "filters", &codes::CONTRADICTION, message, help);
    }
}

pub fn http_route_match(_: &HttpRouteMatch, node: &Node, decoder: &mut Decoder) {
    count(node, "headers", SIXTEEN, decoder);
    count(node, "queryParams", SIXTEEN, decoder);
}

pub fn http_path_match(path: &HttpPathMatch, node: &Node, decoder: &mut Decoder) {
    length(node, "value", path.value.len(), PATH_BYTES, decoder);
    if path.kind == PathMatchType::RegularExpression {
        return;
    }
    if let Some((message, help)) = fault_of_path(&path.value) {
        let message = format!("path `{}` {message}", path.value);
        decoder.report_field(node, "value", &codes::BAD_VALUE, message, help);
    }
}

/// Why no request in normal form has this path.
fn fault_of_path(path: &str) -> Option<(&'static str, &'static str)> {
    let lower = path.to_ascii_lowercase();
    let dots =
        |dots: &str| path.contains(&format!("/{dots}/")) || path.ends_with(&format!("/{dots}"));
    Some(match () {
        () if !path.starts_with('/') => ("does not begin with a slash", "begin it with `/`"),
        () if path.contains("//") => ("holds `//`", "write one slash"),
        () if dots(".") || dots("..") => (
            "holds a dot segment",
            "requests are matched after dot segments are removed: write the path without",
        ),
        () if lower.contains("%2f") => {
            ("holds an encoded slash", "use type RegularExpression if you mean it")
        }
        () if path.contains('#') => {
            ("holds `#`", "a fragment is never sent to a server: remove it")
        }
        () if path.contains('?') => ("holds `?`", "match the query with `queryParams`"),
        () if !is_path_text(path) => {
            ("holds a character that no path has", "percent-encode it (RFC 3986 section 2.1)")
        }
        () => return None,
    })
}

/// RFC 3986 section 3.3, with slashes.
fn is_path_text(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3);
        match byte {
            b'%' if escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) => {
                at += 3
            }
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'
            | b'+' | b',' | b';' | b'=' | b':' | b'@' => at += 1,
            byte if byte.is_ascii_alphanumeric() => at += 1,
            _ => return false,
        }
    }
    true
}

pub fn http_value_match(value: &HttpValueMatch, node: &Node, decoder: &mut Decoder) {
    token(node, "name", &value.name, decoder);
    length(node, "value", value.value.len(), HEADER_VALUE_BYTES, decoder);
}

pub fn http_route_filter(filter: &HttpRouteFilter, node: &Node, decoder: &mut Decoder) {
    const FIELDS: &[(FilterType, &str)] = &[
        (FilterType::RequestHeaderModifier, "requestHeaderModifier"),
        (FilterType::ResponseHeaderModifier, "responseHeaderModifier"),
        (FilterType::RequestRedirect, "requestRedirect"),
        (FilterType::UrlRewrite, "urlRewrite"),
        (FilterType::RequestMirror, "requestMirror"),
        (FilterType::Cors, "cors"),
        (FilterType::ExternalAuth, "externalAuth"),
        (FilterType::ExtensionRef, "extensionRef"),
    ];
    let kind = filter.kind.name();
    for (owner, field) in FIELDS {
        let written = node.field(field).is_some_and(|node| node.value != Value::Null);
        if written && *owner != filter.kind {
            let message = format!("`{field}` does not belong to a filter of type {kind}");
            let help = format!("remove it, or use type {}", owner.name());
            decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
        } else if !written && *owner == filter.kind {
            let message = format!("a filter of type {kind} needs `{field}`");
            let help = format!("add `{field}:` beside `type`");
            decoder.report_field(node, "type", &codes::MISSING_FIELD, message, help);
        }
    }
}

pub fn header_modifier(_: &HeaderModifier, node: &Node, decoder: &mut Decoder) {
    for field in ["set", "add", "remove"] {
        count(node, field, SIXTEEN, decoder);
    }
    decoder.field(node, "remove", |list, decoder| {
        decoder.items(list, |item, decoder| {
            let name = item.text()?;
            if !is_token(name) {
                let message = format!("`{name}` is no name of a header");
                decoder.report(&codes::BAD_VALUE, item.span, message, TOKEN_HELP);
            }
            None::<()>
        })
    });
}

pub fn http_header(header: &HttpHeader, node: &Node, decoder: &mut Decoder) {
    token(node, "name", &header.name, decoder);
    length(node, "value", header.value.len(), HEADER_VALUE_BYTES, decoder);
    if !header.value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
        let message = "the value holds a control character, which no header can carry";
        let help = "write it on one line";
        decoder.report_field(node, "value", &codes::BAD_VALUE, message, help);
    }
}

pub fn request_redirect(redirect: &RequestRedirect, node: &Node, decoder: &mut Decoder) {
    precise_host(redirect.hostname.as_ref(), node, decoder);
}

pub fn url_rewrite(rewrite: &UrlRewrite, node: &Node, decoder: &mut Decoder) {
    precise_host(rewrite.hostname.as_ref(), node, decoder);
}

fn precise_host(hostname: Option<&HostPattern>, node: &Node, decoder: &mut Decoder) {
    if hostname.is_some_and(|hostname| !matches!(hostname, HostPattern::Exact(_))) {
        let message = "a request is led to one host, not to a pattern";
        let help = "write a name without wildcard";
        decoder.report_field(node, "hostname", &codes::BAD_HOSTNAME, message, help);
    }
}

fn modifier_fields(modifier: &PathModifier) -> [(PathModifierType, &'static str, bool); 2] {
    let (full, prefix) = (&modifier.replace_full_path, &modifier.replace_prefix_match);
    [
        (PathModifierType::ReplaceFullPath, "replaceFullPath", full.is_some()),
        (PathModifierType::ReplacePrefixMatch, "replacePrefixMatch", prefix.is_some()),
    ]
}

pub fn path_modifier(modifier: &PathModifier, node: &Node, decoder: &mut Decoder) {
    let kind = modifier.kind.name();
    for (owner, field, written) in modifier_fields(modifier) {
        if written && owner != modifier.kind {
            let message = format!("`{field}` does not belong to type {kind}");
            let help = format!("remove it, or use type {}", owner.name());
            decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
        } else if !written && owner == modifier.kind {
            let message = format!("type {kind} needs `{field}`");
            decoder.report_field(
                node,
                "type",
                &codes::MISSING_FIELD,
                message,
                "add it beside `type`",
            );
        }
        let text = node.field(field).and_then(Node::text);
        let Some(text) = text.filter(|_| written) else { continue };
        length(node, field, text.len(), PATH_BYTES, decoder);
        if !text.is_empty() && !is_path_text(text) {
            let message = format!("`{text}` holds a character that no path has");
            let help = "percent-encode it (RFC 3986 section 2.1)";
            decoder.report_field(node, field, &codes::BAD_VALUE, message, help);
        }
    }
}

/// Of a backend, whichever field names it.
pub fn check_service_port(
    (group, kind): (&str, &str),
    port: Option<u16>,
    node: &Node,
    decoder: &mut Decoder,
) {
    if group.is_empty() && kind == "Service" && port.is_none() {
        let message = "a reference to a Service needs `port`";
        let help = "add the `port` of the Service";
        decoder.report_field(node, "port", &codes::MISSING_FIELD, message, help);
    }
}

pub fn http_backend_ref(backend: &HttpBackendRef, node: &Node, decoder: &mut Decoder) {
    check_service_port((&backend.group, &backend.kind), backend.port, node, decoder);
    count(node, "filters", SIXTEEN, decoder);
    filters_together(&backend.filters, node, decoder);
}

pub fn http_route_timeouts(timeouts: &HttpRouteTimeouts, node: &Node, decoder: &mut Decoder) {
    let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request) else {
        return;
    };
    if !request.is_zero() && backend > request {
        let message = "`backendRequest` is longer than `request`, which contains it";
        let help = "make it the shorter one";
        decoder.report_field(node, "backendRequest", &codes::CONTRADICTION, message, help);
    }
}

pub fn reference_grant(_: &ReferenceGrant, node: &Node, decoder: &mut Decoder) {
    count(node, "from", GRANT_SIDES, decoder);
    count(node, "to", GRANT_SIDES, decoder);
}

pub fn ingress(ingress: &Ingress, node: &Node, decoder: &mut Decoder) {
    if ingress.rules.is_empty() && ingress.default_backend.is_none() {
        let message = "an Ingress needs `rules` or `defaultBackend`";
        decoder.report(&codes::MISSING_FIELD, node.span, message, "add one of them");
    }
}

pub fn ingress_path(path: &HttpIngressPath, node: &Node, decoder: &mut Decoder) {
    let kind = path.path_type.name();
    match &path.path {
        _ if path.path_type == IngressPathType::ImplementationSpecific => {}
        None => {
            let message = format!("pathType {kind} needs `path`");
            decoder.report_field(node, "pathType", &codes::MISSING_FIELD, message, "add `path: /`");
        }
        Some(path) => {
            if let Some((message, help)) = fault_of_path(path) {
                let message = format!("path `{path}` {message}");
                decoder.report_field(node, "path", &codes::BAD_VALUE, message, help);
            }
        }
    }
}

pub fn ingress_backend(backend: &IngressBackend, node: &Node, decoder: &mut Decoder) {
    if backend.service.is_none() && node.field("resource").is_none() {
        let message = "the backend names no `service`";
        let help = "add `service:` with `name` and `port`";
        decoder.report(&codes::MISSING_FIELD, node.span, message, help);
    }
}

pub fn service_backend_port(port: &ServiceBackendPort, node: &Node, decoder: &mut Decoder) {
    let message = match (&port.name, port.number) {
        (None, None) => "the port has neither `name` nor `number`",
        (Some(_), Some(_)) => "the port has both `name` and `number`",
        _ => return,
    };
    decoder.report(&codes::CONTRADICTION, node.span, message, "write one of the two");
}

pub fn service(service: &Service, node: &Node, decoder: &mut Decoder) {
    let headless = service.cluster_ip.as_deref() == Some("None");
    let external = service.kind == ServiceType::ExternalName;
    if external {
        let name = service.external_name.as_deref().unwrap_or_default();
        if let Err(error) = Hostname::parse(name) {
            let message = format!("type ExternalName needs a hostname in `externalName`: {error}");
            let field = if name.is_empty() { "type" } else { "externalName" };
            let help = match name.parse::<IpAddr>() {
                Ok(_) => {
                    "an address is no name: use a Service without selector and an EndpointSlice"
                }
                Err(_) => "",
            };
            decoder.report_field(node, field, &codes::BAD_HOSTNAME, message, help);
        }
    } else if service.ports.is_empty() && !headless {
        let message = "a Service needs `ports`";
        decoder.report_field(
            node,
            "ports",
            &codes::MISSING_FIELD,
            message,
            "add the port it listens on",
        );
    }
    let ports = &service.ports;
    let names = ports.iter().map(|port| port.name.clone());
    let named = |port: &super::kubernetes::ServicePortSpec| {
        (format!("a second port is named `{}`", port.name.as_deref().unwrap_or_default()), "name")
    };
    unique(node, "ports", decoder, names, named, ports);
    let numbers = ports.iter().map(|port| Some((port.port, port.protocol)));
    unique(
        node,
        "ports",
        decoder,
        numbers,
        |port| (format!("port {} stands here twice", port.port), "port"),
        ports,
    );
    if ports.len() > 1 && ports.iter().any(|port| port.name.is_none()) {
        let message = "each of several ports needs a `name`";
        decoder.report_field(
            node,
            "ports",
            &codes::MISSING_FIELD,
            message,
            "add `name:` to each port",
        );
    }
    cluster_ip(service, node, decoder);
}

fn cluster_ip(service: &Service, node: &Node, decoder: &mut Decoder) {
    let Some(address) = service.cluster_ip.as_deref() else { return };
    if !address.is_empty() && address != "None" && address.parse::<std::net::IpAddr>().is_err() {
        let message = format!("`{address}` is no IP address");
        let help = "write an address, or None for a headless Service";
        decoder.report_field(node, "clusterIP", &codes::BAD_ADDRESS, message, help);
    }
}

/// The number of items of a list.
pub(super) fn count(
    node: &Node,
    field: &str,
    allowed: RangeInclusive<usize>,
    decoder: &mut Decoder,
) {
    let items = match node.field(field).map(|node| &node.value) {
        Some(Value::List(items)) => items.len(),
        _ => 0,
    };
    if !allowed.contains(&items) {
        let (low, high) = allowed.into_inner();
        let message = format!("`{field}` holds {items} items, allowed are {low} to {high}");
        decoder.report_field(node, field, &codes::OUT_OF_RANGE, message, "");
    }
}

/// The number of bytes of a text.
fn length(
    node: &Node,
    field: &str,
    bytes: usize,
    allowed: RangeInclusive<usize>,
    decoder: &mut Decoder,
) {
    if !allowed.contains(&bytes) {
        let (low, high) = allowed.into_inner();
        let message = format!("`{field}` has {bytes} bytes, allowed are {low} to {high}");
        decoder.report_field(node, field, &codes::OUT_OF_RANGE, message, "");
    }
}

pub(super) const TOKEN_HELP: &str = "letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)";

fn token(node: &Node, field: &str, name: &str, decoder: &mut Decoder) {
    if !is_token(name) || !NAME_BYTES.contains(&name.len()) {
        let message = format!("`{name}` is no name of a header or parameter");
        decoder.report_field(node, field, &codes::BAD_VALUE, message, TOKEN_HELP);
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(name: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}
