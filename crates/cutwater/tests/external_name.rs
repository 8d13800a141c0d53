//! A Service of type ExternalName: its name is asked for at a nameserver of the test, and requests go where it leads;
//! never to a loopback address, and on to the last good answer when the nameserver is gone.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testkit::instance::{Instance, Plan};

const FOLDER: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: main, namespace: infra}
spec:
  gatewayClassName: cutwater
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: cutwater.dev/v1alpha1
kind: EdgePolicy
metadata: {name: main, namespace: infra}
spec:
  targetRefs: [{kind: Gateway, name: main}]
  externalName: {allow: ['*.example.com']}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {type: ExternalName, externalName: api.example.com, ports: [{port: PORT}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{name: main, namespace: infra}]
  hostnames: [shop.test]
  rules: [{backendRefs: [{name: api, port: PORT}]}]
";

/// An address of this machine that is no loopback address; none where it has no route to anywhere.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing: it asks which address would be the sender's.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Answers every question of type A with the address, and others with nothing, while there is one.
fn nameserver(address: &Arc<Mutex<Option<Ipv4Addr>>>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at = socket.local_addr().expect("bound");
    let address = Arc::clone(address);
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let Some(address) = *address.lock().expect("whole") else { continue };
            let _ = socket.send_to(&answer(&question[..length], address), from);
        }
    });
    at
}

/// RFC 1035 section 4.1: the question again, and one record that lives for a second.
fn answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 5;
    let is_a = query[end - 4..end - 2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend_from_slice(&query[12..end]);
    if is_a {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    answer
}

fn origin(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let at = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
                }
            });
        }
    });
    at
}

fn status(instance: &Instance) -> u16 {
    let mut stream = TcpStream::connect(instance.bound(80)).expect("it serves");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    response.get(9..12).and_then(|status| status.parse().ok()).expect("a status")
}

fn eventually(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "in time");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn requests_go_where_the_name_leads_and_never_inside() {
    let Some(IpAddr::V4(outside)) = own_address() else {
        // Every address that this machine has is one that no name may lead to.
        return;
    };
    let origin = origin(outside.into());
    let leads_to = Arc::new(Mutex::new(Some(outside)));
    let nameserver = nameserver(&leads_to);
    let folder = tempfile::tempdir().expect("a folder");
    let text = FOLDER.replace("PORT", &origin.port().to_string());
    fs::write(folder.path().join("all.yaml"), text).expect("written");
    let flags = vec!["--resolver".to_owned(), nameserver.to_string()];
    let plan = Plan { ports: vec![80], flags, ..Plan::new(folder.path()) };
    let instance = Instance::start(&plan).expect("it starts");
    assert_eq!(status(&instance), 200, "the first answer was waited for");
    // Nobody answers any more: the last good answer stands, long after its second.
    *leads_to.lock().expect("whole") = None;
    thread::sleep(Duration::from_secs(7));
    assert_eq!(status(&instance), 200);
    // It leads inside: nothing goes there.
    *leads_to.lock().expect("whole") = Some(Ipv4Addr::LOCALHOST);
    eventually(|| status(&instance) == 503);
    *leads_to.lock().expect("whole") = Some(outside);
    eventually(|| status(&instance) == 200);
}

/// Of a name that leads inside, link 9 says so and not that an EndpointSlice is missing.
#[test]
fn it_is_explained_why_a_name_leads_nowhere() {
    let leads_to = Arc::new(Mutex::new(Some(Ipv4Addr::LOCALHOST)));
    let nameserver = nameserver(&leads_to);
    let folder = tempfile::tempdir().expect("a folder");
    let text = FOLDER.replace("PORT", "80");
    fs::write(folder.path().join("all.yaml"), text).expect("written");
    let flags = vec!["--resolver".to_owned(), nameserver.to_string()];
    let plan = Plan { ports: vec![80], flags, ..Plan::new(folder.path()) };
    let instance = Instance::start(&plan).expect("it starts");
    assert_eq!(status(&instance), 503);
    let (_, page) = instance.page("/explain?host=http%3A%2F%2Fshop.test%2F").expect("a page");
    let explanation: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(explanation["broken"], 9, "{explanation:#}");
    let link = &explanation["links"][8];
    let detail = link["detail"].as_str().unwrap_or_default();
    let why = "api.example.com leads to 127.0.0.1, which is a loopback address";
    assert!(detail.ends_with(why), "{detail}");
    assert_eq!(link["object"]["kind"], "Service", "{link:#}");
}

/// Without an answer the record is not what is to be mended.
#[test]
fn nobody_who_answers_is_named_as_such() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("all.yaml"), FOLDER.replace("PORT", "80")).expect("written");
    let address = silent.local_addr().expect("bound").to_string();
    let flags = vec!["--resolver".to_owned(), address];
    let plan = Plan { ports: vec![80], flags, ..Plan::new(folder.path()) };
    let instance = Instance::start(&plan).expect("it starts");
    let (_, page) = instance.page("/explain?host=http%3A%2F%2Fshop.test%2F").expect("a page");
    let explanation: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(explanation["broken"], 9, "{explanation:#}");
    let link = &explanation["links"][8];
    let detail = link["detail"].as_str().unwrap_or_default();
    assert!(detail.ends_with("no nameserver has answered"), "{detail}");
    assert!(link["help"].as_str().is_some_and(|help| help.contains("--resolver")), "{link:#}");
}
