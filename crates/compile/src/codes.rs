//! Every diagnostic of this crate. The slugs are stable.

use model::{Code, Severity};

const fn error(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Error, meaning }
}

const fn warning(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Warning, meaning }
}

const fn note(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Note, meaning }
}

/// Declares the codes and the list of all of them.
macro_rules! codes {
    ($( $name:ident = $severity:ident($slug:literal, $meaning:literal) );* $(;)?) => {
        $( pub const $name: Code = $severity($slug, $meaning); )*

        /// For the diagnostics index.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    OTHER_CLASS = note("class-of-another-controller",
        "The class of this Gateway or Ingress names another controller, so Cutwater leaves the object alone. Name a class whose controller is Cutwater's to serve it here.");
    NO_CLASS = note("ingress-without-class",
        "The Ingress names no class and no class is the default. Cutwater serves it; in a cluster with several controllers nobody might. Set ingressClassName.");
    PROTOCOL_NOT_SERVED = error("protocol-not-served",
        "The listener's protocol is not served, so the listener is not accepted. HTTP, HTTPS, TLS, TCP and UDP are served.");
    TLS_MODE_NOT_SERVED = error("tls-mode-not-served",
        "An HTTPS listener ends TLS here; Passthrough is not served. Use mode Terminate.");
    LISTENER_CONFLICT = error("listener-conflict",
        "Two listeners cannot be told apart: equal hostname on equal port, or protocols that differ on one port (HTTPS and TLS go together, by the name in the handshake; UDP has ports of its own). Change hostname or port of one. Between two Gateways the older is served, then the first by namespace and name; within one Gateway neither is.");
    ROUTE_KIND_NOT_SERVED = error("route-kind-not-served",
        "The listener allows a kind of route that its protocol does not take: HTTP and HTTPS take HTTPRoutes and GRPCRoutes, TLS takes TLSRoutes, TCP takes TCPRoutes (as does TLS that ends here), UDP takes UDPRoutes.");
    REFERENCE_NOT_PERMITTED = error("reference-not-permitted",
        "A reference into another namespace needs a ReferenceGrant in that namespace. Add one, or move the object.");
    BAD_CERTIFICATE_REFERENCE = error("bad-certificate-reference",
        "The listener's certificate is no usable Secret of type kubernetes.io/tls, so the listener has no certificate from it.");
    LOCAL_CA = note("certificate-from-local-ca",
        "No Secret of this name exists. `up` issues a certificate from its local CA; elsewhere the listener has no certificate.");
    LOCAL_CERTIFICATE_NAMES = warning("local-certificate-names",
        "More names are served than one certificate of the local CA holds, so some have none that fits. Spread them over listeners.");
    CERTIFICATE_MISFIT = warning("certificate-does-not-cover",
        "The certificate does not cover a name that is served with it, so clients will refuse it. Use a certificate with that name.");
    CERTIFICATE_EXPIRED = warning("certificate-expired",
        "The certificate's time is over; clients refuse it. Replace it.");
    CERTIFICATE_EXPIRES = warning("certificate-expires-soon",
        "The certificate ends within 30 days, or within a third of its life where it lives less than 90 days. Renew it.");
    CERTIFICATE_NOT_YET = warning("certificate-not-yet-valid",
        "The certificate's time has not begun; clients refuse it. Check the clock, or wait.");
    PARENT_KIND = warning("parent-kind-not-served",
        "The route's parent is no Gateway. Only Gateways are served as parents.");
    ATTACHED_NOWHERE = error("route-attached-nowhere",
        "No listener takes the route from this parentRef, so it serves nothing there. The message says what does not fit.");
    ROUTE_KINDS_CONFLICT = error("route-kinds-conflict",
        "An HTTPRoute and a GRPCRoute want the same hostname of one listener. The older is served, then the first by namespace and name; the other is not.");
    NO_PARENT = warning("route-without-parent",
        "The route has no parentRefs, so no Gateway serves it.");
    LISTENER_NOT_SERVED = error("listener-not-served",
        "The route fits a listener that is itself not served. Mend the listener.");
    FILTER_NOT_SERVED = error("filter-not-served",
        "The filter is known but not served yet. The rule answers 500, because leaving the filter out could be unsafe.");
    INCOMPATIBLE_FILTERS = error("incompatible-filters",
        "These filters cannot work together in one rule. The rule answers 500.");
    BAD_FILTER = error("bad-filter",
        "The filter asks for something that cannot be served. The rule answers 500.");
    BAD_MATCH = error("bad-match",
        "The match cannot be served, so it takes no request; its rule's other matches answer 500. The message says what is wrong with it.");
    BACKEND_KIND = error("backend-kind-not-served",
        "The backend is no Service. Its share of requests answers 500.");
    BACKEND_NOT_FOUND = error("backend-not-found",
        "The backend's Service does not exist. Its share of requests answers 500.");
    BACKEND_PORT = error("backend-port-not-found",
        "The backend names no port, or one that its Service does not have. Its share of requests answers 500.");
    BACKEND_PROTOCOL = error("backend-protocol-not-served",
        "The Service's port speaks a protocol that the route cannot lead to. Its share of requests answers 500; its share of connections is closed.");
    EXTERNAL_NAME = error("external-name-refused",
        "A Service of type ExternalName may lead anywhere, also to addresses inside (CVE-2021-25740). It is refused as a backend unless an EdgePolicy for the Gateway allows the name, and for an Ingress; use a Service with an EndpointSlice.");
    NO_BACKENDS = warning("rule-without-backends",
        "The rule has no backend and no redirect, so it answers 500.");
    RULE_IDLE = warning("rule-without-effect",
        "A TLSRoute, TCPRoute or UDPRoute has one rule that takes everything: further rules lead nowhere. Join them, or write a route for each.");
    WEIGHT_ZERO = warning("weight-sum-zero",
        "All backends of the rule have weight 0, so it answers 500; a rule of a TLSRoute or TCPRoute closes connections.");
    SHADOWED = warning("shadowed-rule",
        "An earlier rule takes every request that this one could take. Remove one, or tell them apart.");
    LISTENER_IDLE = note("listener-without-routes",
        "No route is attached to the listener; it answers 404, or closes connections where it does not speak HTTP.");
    INGRESS_PORT = error("ingress-port-conflict",
        "A Gateway's listener speaks another protocol on the port that the Ingress needs (80 for HTTP, 443 for HTTPS), or has its host for TLS. The Ingress is not served there.");
    INGRESS_TLS = warning("ingress-tls-unused",
        "The tls entry names no Secret, or a host that no rule of the Ingress has. It has no effect.");
    INGRESS_EMPTY = warning("ingress-without-rules",
        "The Ingress has neither rules nor a default backend, so it serves nothing.");
    ZONE_CONFLICT = error("zone-conflict",
        "Two Zone objects have one name. The older is served, then the first by namespace and name. Join them.");
    HOST_IN_NO_ZONE = warning("host-in-no-zone",
        "The hostname is served but lies in no Zone, so its address is not answered here. Add a Zone, or keep its record elsewhere.");
    RECORD_WINS = warning("record-instead-of-entry",
        "The Zone has its own address or alias for a hostname that is served here. The record is answered, not the address of the entry.");
    BELOW_DELEGATION = warning("host-below-delegation",
        "The Zone delegates this name to other nameservers, so its address is not answered here.");
    CONTRACT_TWICE = error("contract-conflict",
        "Two contracts promise one hostname. Keep one, so that the name has one owner.");
    CONTRACT_HOST = warning("contract-host-not-served",
        "Nobody serves the hostname that the contract promises.");
    CONTRACT_BACKEND = warning("contract-names-another-backend",
        "The contract's backendService is not among the Services that the hostname leads to.");
    CONTRACT_ZONE = warning("contract-names-another-zone",
        "The contract's hostname does not lie in the zone that its dnsZone names.");
    POLICY_TARGET = error("policy-target-not-found",
        "The policy names an object, or a section of one, that is not there in its namespace. It has no effect on it.");
    POLICY_TARGET_KIND = warning("policy-target-kind-not-served",
        "Policies of this kind are not served for objects of the target's kind, so this one has no effect on it.");
    POLICY_CONFLICT = error("policy-conflict",
        "Two policies of one kind are for one target. The older counts, then the first by namespace and name; the other has no effect there.");
    PROXY_DISAGREES = error("proxy-protocol-disagrees",
        "Two listeners of one port are told different things about the PROXY protocol, whose header comes before any name is known. What the first listener is told counts for all.");
    SECTION_IDLE = warning("policy-section-without-effect",
        "The section or field speaks of what none of the policy's targets has to do with: of requests where bytes are led on, of connections where datagrams are, of clients for a Service, of TLS for a listener without it. Or it goes with a field that no policy has. Follow the message.");
    CONTRADICTION = warning("settings-contradict",
        "Settings of an EdgePolicy undo each other, or one cannot do what it is written for: a hash by a header that tells no requests apart or without the algorithm, a Service that stands in for itself, `hedgeAfter` where nothing is to be sent twice. Follow the message.");
    PORT_LIMITS = warning("port-limits-differ",
        "Two listeners of one port say different limits of connections. A connection is limited before its host is known, so the first listener that says a limit says it for the port.");
    BAD_AUTHORITY = error("bad-ca-reference",
        "A certificate authority that a BackendTLSPolicy or a Gateway's `tls.frontend` names cannot be read, or is none. Where none can be, requests to the policy's backends answer 500, and the Gateway's HTTPS listeners are not served.");
    NO_AUTHORITY = warning("ca-without-authority",
        "What a BackendTLSPolicy names as authorities is none: another one issued the certificate, and it may not sign others (basicConstraints CA:FALSE). Often it is the backend's own. None of them is an authority, so handshakes fail but for what these signed nevertheless. Put the certificate of the issuer there.");
    BAD_CLIENT_CERTIFICATE = error("bad-client-certificate-ref",
        "The certificate that a Gateway would show to backends is no usable Secret of type kubernetes.io/tls. Backends are shown none, and those that want one refuse the connection.");
    FRONTEND_TLS_IDLE = warning("frontend-tls-without-listener",
        "The Gateway's `tls.frontend.perPort` speaks of a port on which none of its listeners ends TLS, so the entry has no effect.");
    INSECURE_FALLBACK = warning("client-certificate-not-required",
        "AllowInsecureFallback lets clients in whose certificate is missing or bad; whether to answer them is left to backends. Use AllowValidOnly to turn them away.");
    TLS_WITHOUT_POLICY = warning("backend-tls-without-policy",
        "The Service's port announces TLS and no BackendTLSPolicy says whom to trust. The system's authorities are, for the name that the Service has in its cluster; few certificates hold that.");
    DISTRIBUTION_UNKNOWN = note("unknown-traffic-distribution",
        "The word of the Service's `trafficDistribution` is not known: all endpoints are used alike.");
    APP_PROTOCOL_UNKNOWN = warning("unknown-app-protocol",
        "The word of the port's `appProtocol` begins with `kubernetes.io/` and is none that Kubernetes defines, so it asks for nothing: requests go there over HTTP/1.1 in the clear. Words of other domains, and those without one, are their owners' to define and are passed over where they are not known.");
    NO_SLICE = warning("service-without-endpoints",
        "A rule leads to a Service for which there is no EndpointSlice; requests answer 503.");
    NO_PORT_ENDPOINT = warning("port-without-endpoint",
        "The Service has EndpointSlices, but none of them has an endpoint for this port; requests answer 503. Slice ports are found by the name of the Service's port.");
    NOT_READY = warning("no-ready-endpoint",
        "Endpoints exist for the Service's port, but none is ready; requests answer 503.");
}
