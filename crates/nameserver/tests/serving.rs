//! Sockets on loopback: both transports, the fall back from one to the other, limits, changes and the end.

use model::dns::{DnsPlan, RecordData, RecordSet, Soa, Zone};
use model::hostname::DnsName;
use model::{Hostname, Kind, Node, ObjectId};
use nameserver::probe::{self, Family, ProbeError};
use nameserver::{Counters, Error, Service, Sockets};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use zone::client::Inquiry;
use zone::{Rcode, RecordType, Zones};

const LIMIT: Duration = Duration::from_secs(5);

struct Server {
    address: SocketAddr,
    cell: publish::Cell<Zones>,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    running: nameserver::Running,
}

fn start() -> Server {
    let sockets =
        Sockets::bind(&[([127, 0, 0, 1], 0).into()], 2).expect("loopback has a free port");
    let address = sockets.addresses()[0];
    let cell = publish::Cell::new(Arc::new(zones([192, 0, 2, 1], 1)));
    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(false);
    let service = Service::new(cell.clone(), Arc::clone(&counters), stopped);
    let running = sockets.serve(&service).expect("the sockets fit the runtime");
    Server { address, cell, counters, stop, running }
}

fn zones(www: [u8; 4], serial: u32) -> Zones {
    let many = (0..200).map(Ipv4Addr::from_bits).collect();
    let set = |owner, data| RecordSet { name: name(owner), ttl: 300, data };
    let zone = Zone {
        id: ObjectId::new(Kind::ZONE, "dns", "example"),
        name: Hostname::parse("example.test").expect("name"),
        soa: Soa {
            primary: name("ns.example.test"),
            mailbox: name("hostmaster.example.test"),
            refresh: 1,
            retry: 1,
            expire: 1,
            negative_ttl: 60,
            ttl: 60,
        },
        sets: vec![
            set("alias.example.test", RecordData::Cname(name("www.example.test"))),
            set("big.example.test", RecordData::A(many)),
            set("www.example.test", RecordData::A(vec![www.into()])),
        ],
    };
    Zones::build(&DnsPlan { zones: vec![Node::new(zone)] }, &|_, _| serial, &[], None)
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text).expect("name")
}

fn inquiry(id: u16, text: &str) -> Inquiry {
    Inquiry::new(id, &name(text), RecordType::A)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&length.to_be_bytes(), message].concat()
}

async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes less than five seconds")
}

#[tokio::test]
async fn probes_see_addresses_chains_and_refusals() {
    let server = start();
    let ask = async |text: &str, family| {
        probe::query(server.address, &name(text), family, LIMIT).await.expect("an answer")
    };
    let www = ask("www.example.test", Family::A).await;
    assert_eq!((www.rcode, www.authoritative, www.ttl), (Rcode::NO_ERROR, true, Some(300)));
    assert_eq!(www.addresses, [IpAddr::from([192, 0, 2, 1])]);
    let alias = ask("alias.example.test", Family::A).await;
    assert_eq!(
        (alias.addresses, alias.chain),
        (www.addresses, vec!["www.example.test".to_owned()])
    );
    let nodata = ask("www.example.test", Family::Aaaa).await;
    assert_eq!((nodata.rcode, nodata.addresses.len(), nodata.ttl), (Rcode::NO_ERROR, 0, None));
    assert_eq!(ask("missing.example.test", Family::A).await.rcode, Rcode::NX_DOMAIN);
    let refused = ask("www.elsewhere.test", Family::A).await;
    assert_eq!((refused.rcode, refused.authoritative), (Rcode::REFUSED, false));
}

#[tokio::test]
async fn what_does_not_fit_comes_over_tcp_and_everything_is_counted() {
    let server = start();
    let big = name("big.example.test");
    let big = probe::query(server.address, &big, Family::A, LIMIT).await.expect("an answer");
    assert_eq!(big.addresses.len(), 200);
    let counters = &server.counters;
    assert_eq!(counters.truncated.load(Ordering::Relaxed), 1);
    assert_eq!((counters.udp.total(), counters.tcp.total()), (1, 1));
    let of_zone = (Hostname::parse("example.test").expect("name"), 2);
    assert_eq!(counters.zones(), [of_zone]);
}

#[tokio::test]
async fn malformed_datagrams_cost_nothing_else() {
    let server = start();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    socket.connect(server.address).await.expect("connect");
    let question = inquiry(7, "www.example.test");
    let mut response = question.bytes().to_vec();
    response[2] |= 0x80;
    for message in [&b"short"[..], &response, &[0xff; 5000], question.bytes()] {
        socket.send(message).await.expect("send");
    }
    let mut buffer = [0; 2048];
    let length = in_time(socket.recv(&mut buffer)).await.expect("an answer");
    // The 5000 bytes of 0xff are a response too, so the first answer is that of the good query.
    let reply = question.read(&buffer[..length]).expect("the good query's answer");
    assert_eq!(reply.addresses.len(), 1);
    assert_eq!(server.counters.dropped_short.load(Ordering::Relaxed), 1);
    assert_eq!(server.counters.dropped_responses.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn tcp_answers_pipelined_and_split_queries_in_order() {
    let server = start();
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    let names = ["www.example.test", "big.example.test", "missing.example.test"];
    let inquiries: Vec<Inquiry> =
        (0..300).map(|id| inquiry(id, names[usize::from(id) % 3])).collect();
    let bytes: Vec<u8> = inquiries.iter().flat_map(|inquiry| framed(inquiry.bytes())).collect();
    let (mut input, mut output) = stream.split();
    let writing = async {
        for part in bytes.chunks(1_001) {
            output.write_all(part).await.expect("write");
        }
    };
    let reading = async {
        for (inquiry, count) in inquiries.iter().zip([1, 200, 0].into_iter().cycle()) {
            let mut message = vec![0; usize::from(input.read_u16().await.expect("length"))];
            input.read_exact(&mut message).await.expect("message");
            let reply = inquiry.read(&message).expect("the answer to this query");
            assert_eq!(reply.addresses.len(), count);
        }
    };
    in_time(async { tokio::join!(writing, reading) }).await;
    // A message that is no query ends the connection, after the answers before it.
    let last = [framed(inquiries[0].bytes()), framed(b"short")].concat();
    stream.write_all(&last).await.expect("write");
    in_time(read_framed(&mut stream)).await.expect("the last answer");
    assert!(in_time(read_framed(&mut stream)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn tcp_closes_a_connection_without_a_whole_query_in_time() {
    let server = start();
    for part in [&b""[..], &b"\0"[..], &b"\0\x20half"[..]] {
        let mut stream = TcpStream::connect(server.address).await.expect("connect");
        stream.write_all(part).await.expect("write");
        assert_eq!(stream.read(&mut [0; 8]).await.expect("closed in order"), 0);
    }
    assert_eq!(server.counters.tcp_timeouts.load(Ordering::Relaxed), 3);
    assert_eq!(server.counters.tcp_connections.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn tcp_closes_a_connection_whose_client_does_not_read() {
    let server = start();
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    // 32 MiB of answers: more than the buffers of both sockets hold.
    let queries = framed(inquiry(7, "big.example.test").bytes()).repeat(10_000);
    // The server may close before it has read them all.
    let _ = stream.write_all(&queries).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(server.counters.tcp_timeouts.load(Ordering::Relaxed), 1);
    assert_eq!(server.counters.tcp_connections.load(Ordering::Relaxed), 0);
    assert!(server.counters.tcp.total() < 10_000);
}

#[tokio::test]
async fn tcp_connections_have_a_limit() {
    let server = start();
    let mut streams = Vec::new();
    for _ in 0..model::limits::DNS_TCP_CONNECTIONS {
        streams.push(TcpStream::connect(server.address).await.expect("connect"));
    }
    let mut one_more = TcpStream::connect(server.address).await.expect("connect");
    let closed = in_time(one_more.read(&mut [0; 8])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(server.counters.tcp_refused.load(Ordering::Relaxed), 1);
    // The others are served.
    let question = inquiry(7, "www.example.test");
    let last = streams.last_mut().expect("connections");
    last.write_all(&framed(question.bytes())).await.expect("write");
    let answer = in_time(read_framed(last)).await.expect("an answer");
    assert_eq!(question.read(&answer).expect("our answer").addresses.len(), 1);
}

#[tokio::test]
async fn new_zones_are_acknowledged_and_served_on_both_transports() {
    let server = start();
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    let question = inquiry(7, "www.example.test");
    stream.write_all(&framed(question.bytes())).await.expect("write");
    in_time(read_framed(&mut stream)).await.expect("an answer");
    let generation = server.cell.set(Arc::new(zones([192, 0, 2, 2], 2)));
    let progress = server.cell.acknowledged(generation, LIMIT).await;
    // Two UDP sockets and the TCP listener.
    assert_eq!((progress.done, progress.of), (3, 3));
    let expected = [IpAddr::from([192, 0, 2, 2])];
    let www = name("www.example.test");
    for _ in 0..8 {
        let answer = probe::query(server.address, &www, Family::A, LIMIT).await.expect("an answer");
        assert_eq!(answer.addresses, expected);
    }
    stream.write_all(&framed(question.bytes())).await.expect("write");
    let answer = in_time(read_framed(&mut stream)).await.expect("an answer");
    assert_eq!(question.read(&answer).expect("our answer").addresses, expected);
}

#[tokio::test]
async fn a_stop_ends_everything_and_frees_the_port() {
    let server = start();
    let mut idle = TcpStream::connect(server.address).await.expect("connect");
    let question = inquiry(7, "www.example.test");
    idle.write_all(&framed(question.bytes())).await.expect("write");
    in_time(read_framed(&mut idle)).await.expect("an answer");
    server.stop.send_replace(true);
    in_time(server.running.finished()).await;
    assert_eq!(in_time(idle.read(&mut [0; 8])).await.expect("closed in order"), 0);
    let www = name("www.example.test");
    let short = Duration::from_millis(200);
    let gone = probe::query(server.address, &www, Family::A, short).await;
    assert!(matches!(gone, Err(ProbeError::Io { .. } | ProbeError::Timeout { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = start();
    let error = Sockets::bind(&[server.address], 1).expect_err("the port is taken");
    let Error::Bind { address, .. } = &error;
    assert_eq!(*address, server.address);
    assert!(error.to_string().contains("end the program that holds the port"), "{error}");
}

#[test]
fn sockets_are_shared_out_among_workers() {
    let sockets = Sockets::bind(&[([127, 0, 0, 1], 0).into()], 3).expect("a free port");
    let address = sockets.addresses()[0];
    let shares = sockets.split(2);
    assert_eq!(shares.len(), 2);
    assert!(shares.iter().all(|share| share.addresses() == [address]));
}

#[tokio::test]
async fn dig_agrees() {
    let server = start();
    let port = server.address.port().to_string();
    let dig = async |arguments: &[&str]| {
        let mut command = std::process::Command::new("dig");
        command.args(["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+time=3"]).args(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic")
    };
    let Ok(short) = dig(&["alias.example.test"]).await else {
        eprintln!("skipped: `dig` (package dnsutils) is not installed");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&short.stdout), "www.example.test.\n192.0.2.1\n");
    let big = dig(&["big.example.test"]).await.expect("dig runs");
    assert_eq!(String::from_utf8_lossy(&big.stdout).lines().count(), 200);
}
