//! Active health checks: one checker an endpoint, whatever the number of routes and workers; and a watch that says
//! when an endpoint is taken out or is back. What a row of answers means is decided by `traffic`.

use crate::{handshake, http_client};
use bytes::Bytes;
use edge::{EdgeView, Live, Out};
use explain::{Failing, TakenOut};
use model::id::ServicePort;
use model::traffic::{HealthCheck, Probe};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use traffic::{Checker, Endpoint, Random, State};

pub struct Checks {
    live: Arc<Live>,
    /// By the numbers of endpoints: two of them may share an address. As long as an endpoint is held here, its number is
    /// nobody else's.
    running: HashMap<u32, Running>,
    watch: AbortHandle,
}

struct Running {
    endpoint: Arc<Endpoint>,
    check: HealthCheck,
    /// For which it is asked; another Service that has the endpoint may take its place.
    service: watch::Sender<ServicePort>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Checks {
    pub fn start(live: &Arc<Live>) -> Checks {
        let watch = tokio::spawn(look(Arc::clone(live))).abort_handle();
        Checks { live: Arc::clone(live), running: HashMap::new(), watch }
    }

    /// Checks what the view wants checked, and nothing else. A check that is the same goes on.
    pub fn follow(&mut self, view: &EdgeView) {
        self.want(view.checks());
    }

    fn want(&mut self, checks: Vec<(Arc<Endpoint>, HealthCheck, ServicePort)>) {
        let mut before = std::mem::take(&mut self.running);
        for (endpoint, check, service) in checks {
            let number = endpoint.number();
            let known = before.remove(&number).filter(|running| running.check == check);
            let running = match known {
                Some(running) => {
                    running.service.send_replace(service);
                    running
                }
                None => self.begin(endpoint, check, service),
            };
            self.running.insert(number, running);
        }
        for running in before.into_values() {
            // Nobody looks at it any more, so nothing is held against it.
            if running.endpoint.set_healthy(true, self.live.now_ms()) {
                self.live.changed();
            }
        }
    }

    fn begin(&self, endpoint: Arc<Endpoint>, check: HealthCheck, service: ServicePort) -> Running {
        let (service, told) = watch::channel(service);
        let asked = (Arc::clone(&endpoint), check.clone(), told);
        let task = tokio::spawn(ask_again(Arc::clone(&self.live), asked));
        Running { endpoint, check, service, task: task.abort_handle() }
    }
}

async fn ask_again(
    live: Arc<Live>,
    (endpoint, check, service): (Arc<Endpoint>, HealthCheck, watch::Receiver<ServicePort>),
) {
    let mut checker = Checker::default();
    let mut random = Random::new(u64::from(endpoint.address().port()) ^ live.now_ms() << 16);
    loop {
        let addresses = (endpoint.address(), endpoint.alternate());
        let answered = tokio::time::timeout(check.timeout, ask(addresses, &check)).await;
        let passed = matches!(answered, Ok(Ok(())));
        if !matches!(answered, Ok(Err(Failed::Here))) {
            let of = (&*endpoint, &check);
            if note(passed, &mut checker, of, live.now_ms()) {
                if !passed {
                    endpoint.unhealthy_for(&service.borrow());
                }
                live.changed();
            }
        }
        tokio::time::sleep(Checker::pause(&check, &mut random)).await;
    }
}

/// True where the endpoint is in or out since.
fn note(
    passed: bool,
    checker: &mut Checker,
    (endpoint, check): (&Endpoint, &HealthCheck),
    now_ms: u64,
) -> bool {
    let has_changed = endpoint.set_healthy(checker.observe(passed, check), now_ms);
    let is_ejected = matches!(endpoint.state(), State::Ejected { .. });
    let is_readmitted = checker.makes_amends(passed, is_ejected, check) && endpoint.readmit(now_ms);
    has_changed || is_readmitted
}

/// Why a question got no good answer.
#[derive(Debug)]
enum Failed {
    /// It could not be asked: that says nothing about the endpoint.
    Here,
    There,
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        if edge::is_shortage(&error) { Failed::Here } else { Failed::There }
    }
}

/// What the other end said, or did not say. The sentence is for nobody yet but a debugger: the thresholds decide.
impl From<String> for Failed {
    fn from(_: String) -> Failed {
        Failed::There
    }
}

/// One question.
async fn ask(
    (address, alternate): (SocketAddr, Option<SocketAddr>),
    check: &HealthCheck,
) -> Result<(), Failed> {
    let at_port =
        |address: SocketAddr| SocketAddr::new(address.ip(), check.port.unwrap_or(address.port()));
    let address = at_port(address);
    let alternate = alternate.map(at_port);
    let stream = edge::connect_either(address, alternate, tokio::time::sleep).await?;
    match &check.probe {
        Probe::Tcp => Ok(()),
        Probe::Grpc { service } => Ok(grpc(stream, address, service).await?),
        Probe::Http { tls, host, path, statuses } => {
            let host = host.as_deref().map_or_else(|| address.to_string(), str::to_owned);
            let status = if *tls {
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                let (session, _) = handshake::unverified(stream, name).await?;
                http(session, &host, path).await?
            } else {
                http(stream, &host, path).await?
            };
            let is_wanted = statuses.iter().any(|range| range.contains(&status));
            is_wanted.then_some(()).ok_or(Failed::There)
        }
    }
}

/// The status of the response to one GET.
async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: cutwater-health-check\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let response = http_client::response(stream, h1::Method::Get).await?;
    Ok(response.head.status)
}

/// grpc.health.v1.Health/Check over HTTP/2 with prior knowledge; SERVING is what passes.
async fn grpc(stream: TcpStream, address: SocketAddr, service: &str) -> Result<(), String> {
    let text = |error: h2::Error| error.to_string();
    let (client, connection) = h2::client::handshake(stream).await.map_err(text)?;
    let driver = tokio::spawn(connection);
    let _end = AbortOnDrop(driver.abort_handle());
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let mut client = client.ready().await.map_err(text)?;
    let (response, mut body) = client.send_request(request, false).map_err(text)?;
    body.send_data(health_request(service), true).map_err(text)?;
    let mut received = response.await.map_err(text)?.into_body();
    let mut message = Vec::new();
    while let Some(data) = received.data().await {
        let data = data.map_err(text)?;
        let _ = received.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > 4096 {
            break;
        }
    }
    is_serving(&message).then_some(()).ok_or_else(|| "not serving".to_owned())
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// HealthCheckRequest { service = 1 } in a length-prefixed message.
fn health_request(service: &str) -> Bytes {
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut message = Vec::with_capacity(name.len() + 2);
    if !name.is_empty() {
        message.extend_from_slice(&[0x0a, name.len() as u8]);
        message.extend_from_slice(name);
    }
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend_from_slice(&message);
    framed.into()
}

/// HealthCheckResponse { status = 1 }: SERVING is 1.
fn is_serving(framed: &[u8]) -> bool {
    framed.first() == Some(&0) && framed.get(5..) == Some(&[0x08, 0x01])
}

/// For an explanation: why each of these endpoints gets no requests.
pub fn out(live: &Live) -> BTreeMap<SocketAddr, TakenOut> {
    let each = live.out().into_iter().map(|out| {
        let why = sentence(&out);
        (out.address, TakenOut { why, service: out.taken_out_for.map(|port| port.service()) })
    });
    each.collect()
}

/// For an explanation: what went wrong at endpoints that do nothing but fail.
pub fn failing(live: &Live) -> BTreeMap<SocketAddr, Failing> {
    let each = live.failing().into_iter().map(|found| {
        let what = found.what.sentence().to_owned();
        (found.address, Failing { in_row: found.in_row, ago_s: found.ago_ms / 1_000, what })
    });
    each.collect()
}

fn sentence(out: &Out) -> String {
    let seconds = |ms: u64| ms.div_ceil(1_000);
    let since = seconds(out.since_ms);
    match (out.state, out.left_ms) {
        (State::Ejected { reason, .. }, Some(left)) => {
            format!("ejected {since} s ago, {} s left: it {}", seconds(left), reason.sentence())
        }
        _ => format!("its health check has failed for {since} s"),
    }
}

/// Says once who is taken out, and once who is back.
async fn look(live: Arc<Live>) {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut before = BTreeMap::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        let now: BTreeMap<SocketAddr, Out> =
            live.out().into_iter().map(|out| (out.address, out)).collect();
        for (address, out) in now.iter().filter(|(address, _)| !before.contains_key(*address)) {
            let service = out.taken_out_for.as_ref();
            let service = service.map(|port| format!(" of {port}")).unwrap_or_default();
            tracing::warn!("endpoint {address}{service} is taken out: {}", sentence(out));
        }
        for address in before.keys().filter(|address| !now.contains_key(*address)) {
            tracing::warn!("endpoint {address} is back");
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn messages_of_grpc_health() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (framed, expected) in [
            (&[0u8, 0, 0, 0, 2, 8, 1][..], true),
            (&[0, 0, 0, 0, 2, 8, 2], false),
            (&[0, 0, 0, 0, 0], false),
            (&[1, 0, 0, 0, 2, 8, 1], false),
            (&[], false),
        ] {
            assert_eq!(is_serving(framed), expected, "{framed:?}");
        }
    }

    /// Services of one family and of two may select one pod.
    #[tokio::test]
    async fn endpoints_that_share_an_address_are_each_checked() {
        let live = edge::Registry::new(1).live;
        let mut checks = Checks::start(&live);
        let address = answers("").await;
        let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
        let check = HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
        };
        let endpoints = [
            Arc::new(Endpoint::new(address, 0, 0)),
            Arc::new(Endpoint::new(address, 1, 0).or(Some(other))),
        ];
        endpoints.iter().for_each(|endpoint| _ = endpoint.set_healthy(false, 0));
        let service = ServicePort { namespace: "n".into(), name: "s".into(), port: 80 };
        let of = |endpoint: &Arc<Endpoint>| (Arc::clone(endpoint), check.clone(), service.clone());
        let wanted = || endpoints.iter().map(of);
        for _ in 0..2 {
            checks.want(wanted().collect());
            assert_eq!(checks.running.len(), 2);
        }
        let all_are_in = async {
            while !endpoints.iter().all(|endpoint| endpoint.is_in()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_are_in).await.expect("both are checked");
    }

    async fn answers(text: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn an_http_check_goes_by_the_status() {
        let probe = |statuses: std::ops::RangeInclusive<u16>| HealthCheck {
            probe: Probe::Http {
                tls: false,
                host: None,
                path: "/".into(),
                statuses: vec![statuses],
            },
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
        };
        for (text, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 503 Busy\r\n\r\n", false),
            ("HTTP/1.1 20", false),
            ("hello\r\n\r\n", false),
        ] {
            let address = answers(text).await;
            assert_eq!(ask((address, None), &probe(200..=299)).await.is_ok(), expected, "{text:?}");
        }
        let address = answers("HTTP/1.1 404 Not Found\r\n\r\n").await;
        assert!(ask((address, None), &probe(404..=404)).await.is_ok());
    }
}
