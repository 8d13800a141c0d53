//! Backends that take a connection and cannot be used all the same: what `explain` says of them, asked of a running
//! instance. What each fault is called is tested in `edge`, what it means in `explain`.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use testkit::instance::{Instance, Plan};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: shop}
spec:
  gatewayClassName: cutwater
  listeners: [{name: http, port: 80, protocol: HTTP}]
";

const BACKEND: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: shop}
spec:
  parentRefs: [{name: main}]
  hostnames: [NAME.test]
  rules: [{backendRefs: [{name: NAME, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {ports: [{name: web, port: 80}]}
";

const SLICE: &str = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-NUMBER, namespace: shop, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: web, port: NUMBER}]
endpoints: [{addresses: [127.0.0.1]}]
";

const TLS: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: NAME, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: NAME}]
  validation:
    hostname: web.internal
    caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]
";

fn backend(name: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let slices = endpoints.iter().map(|at| SLICE.replace("NUMBER", &at.port().to_string()));
    let slices: String = slices.collect();
    format!("{BACKEND}{slices}{more}").replace("NAME", name)
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        let (der, pem) = (own.der().clone(), own.pem());
        Authority { issuer: Issuer::new(params, key), der, pem }
    }

    fn server(&self, name: &str, last_year: i32, asks_clients: bool) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("an authority");
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match asks_clients {
            true => builder.with_client_cert_verifier(clients.build().expect("a verifier")),
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        builder.with_single_cert(vec![certificate.der().clone()], key).expect("a pair")
    }
}

fn origin(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    at
}

/// To each request the same.
fn answer(mut stream: impl Read + Write, text: &str) {
    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
        if stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

fn tls_origin(config: ServerConfig) -> SocketAddr {
    let config = Arc::new(config);
    origin(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).expect("settings");
        answer(StreamOwned::new(session, stream), FINE);
    })
}

fn get(instance: &Instance, host: &str) -> u16 {
    let mut stream = TcpStream::connect(instance.bound(80)).expect("it serves");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    response.get(9..12).and_then(|status| status.parse().ok()).expect("a status")
}

fn explain(instance: &Instance, host: &str) -> Value {
    let page = format!("/explain?host=http%3A%2F%2F{host}%2F");
    let (status, body) = instance.page(&page).expect("the admin address answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("an explanation is JSON")
}

/// Asks until link 9 says so.
#[track_caller]
fn says(instance: &Instance, host: &str, broken: Option<u64>, detail: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let explanation = explain(instance, host);
        let link = &explanation["links"][8];
        let is_said = link["detail"].as_str().is_some_and(|said| said.contains(detail));
        if is_said && explanation["broken"].as_u64() == broken {
            return link.clone();
        }
        assert!(Instant::now() < end, "{host}: wanted {detail:?} in\n{explanation:#}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn start(text: &str) -> (tempfile::TempDir, Instance) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("all.yaml"), text).expect("written");
    let plan = Plan { ports: vec![80], ..Plan::new(folder.path()) };
    (folder, Instance::start(&plan).expect("it starts"))
}

#[test]
fn a_backend_that_cannot_be_used_is_broken_before_the_first_request() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let pem: String = ours.pem.lines().map(|line| format!("    {line}\n")).collect();
    let authorities = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: shop}}\ndata:\n  ca.crt: |\n{pem}"
    );
    let tls = |name: &str, config| backend(name, &[tls_origin(config)], TLS);
    let text = [
        GATEWAY.to_owned(),
        tls("good", ours.server("web.internal", 2999, false)),
        tls("name", ours.server("other.internal", 2999, false)),
        tls("time", ours.server("web.internal", 2001, false)),
        tls("authority", others.server("web.internal", 2999, false)),
        tls("client", ours.server("web.internal", 2999, true)),
        backend("closes", &[origin(drop)], ""),
        authorities,
    ];
    let (_folder, instance) = start(&text.concat());
    says(&instance, "good.test", None, "1 of 1 endpoints ready and reachable");
    for (host, detail, kind) in [
        ("name.test", "other.internal", "BackendTLSPolicy"),
        ("time.test", "expired", "EndpointSlice"),
        ("authority.test", "UnknownIssuer", "BackendTLSPolicy"),
        ("client.test", "CertificateRequired", "Gateway"),
        ("closes.test", "it closes the connection before it is asked", "EndpointSlice"),
    ] {
        let link = says(&instance, host, Some(9), detail);
        assert_eq!(link["object"]["kind"], kind, "{link:#}");
        assert!(link["help"].as_str().is_some_and(|help| !help.is_empty()), "{link:#}");
    }
    instance.stop().expect("it ends well");
}

/// What shows only where there is a request: the last ones tell, until one goes well.
#[test]
fn a_backend_that_answers_rubbish_is_broken_after_some_requests() {
    let rubbish = origin(|stream| answer(stream, "hello\r\n\r\n"));
    let text = [GATEWAY.to_owned(), backend("rubbish", &[rubbish], "")];
    let (_folder, instance) = start(&text.concat());
    says(&instance, "rubbish.test", None, "1 of 1 endpoints ready and reachable");
    for _ in 0..3 {
        assert_eq!(get(&instance, "rubbish.test"), 502);
    }
    says(&instance, "rubbish.test", Some(9), "s ago: it sent what is no response)");
    instance.stop().expect("it ends well");
}

/// An endpoint is one for all Services that have it.
#[test]
fn the_service_is_named_for_which_an_endpoint_was_taken_out() {
    let (well, ill) = (origin(|stream| answer(stream, FINE)), origin(drop));
    let both = [well, ill];
    let text = [GATEWAY.to_owned(), backend("one", &both, ""), backend("two", &both, "")];
    let (_folder, instance) = start(&text.concat());
    for _ in 0..40 {
        assert_eq!(get(&instance, "one.test"), 200);
    }
    let found = "; by what Service shop/one found, which has this endpoint too";
    says(&instance, "two.test", None, found);
    let link = says(&instance, "one.test", None, "ejected");
    assert!(!link["detail"].as_str().is_some_and(|said| said.contains("by what")), "{link:#}");
    let (line, start) = (format!("endpoint {ill} of shop/one:80 is taken out"), Instant::now());
    while !instance.printed().contains(&line) {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", instance.printed());
        thread::sleep(Duration::from_millis(50));
    }
    instance.stop().expect("it ends well");
}
