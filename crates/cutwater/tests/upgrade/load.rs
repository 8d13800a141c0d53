//! Steady traffic from clients of many kinds, each of which counts what it was answered and keeps what went wrong. No
//! client tries a request again that may have been sent: what fails once has failed.

use bytes::Bytes;
use h2::client::SendRequest;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// For any one exchange.
const PATIENCE: Duration = Duration::from_secs(10);
const DOWNLOAD_BYTES: usize = 8 << 20;

/// The hosts of the folder, and where the entry is.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    pub http: SocketAddr,
    pub dns: SocketAddr,
    /// One with an origin outside, one with `--echo`.
    pub hosts: [&'static str; 2],
}

#[derive(Debug, Default)]
pub struct Tally {
    stop: AtomicBool,
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    pub queries: AtomicU64,
    pub downloads: AtomicU64,
    pub goaways: AtomicU64,
    pub failures: Mutex<Vec<String>>,
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn judge(&self, who: &str, result: Result<(), String>) {
        if let Err(error) = result {
            self.failures.lock().expect("no panic").push(format!("{who}: {error}"));
        }
    }
}

fn raise(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub struct Load {
    pub tally: Arc<Tally>,
    targets: Targets,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(targets: Targets) -> Load {
        let mut load = Load { tally: Arc::default(), targets, clients: JoinSet::new() };
        for host in targets.hosts {
            // Without a pause, and with one in which a connection is idle.
            for pause_ms in [0, 5, 150] {
                load.run(move |tally| keep_alive(targets, host, pause_ms, tally));
            }
            load.run(move |tally| short(targets, host, tally));
            load.run(move |tally| http2(targets, host, tally));
        }
        load.run(move |tally| short(targets, targets.hosts[0], tally));
        load.run(move |tally| dns_udp(targets, tally));
        load.run(move |tally| dns_tcp(targets, tally));
        load
    }

    /// A large answer, taken slowly: it lasts two and a half seconds.
    pub fn download(&mut self, host: &'static str) {
        let targets = self.targets;
        self.run(move |tally| async move {
            tally.judge("download", within(download(targets, host)).await);
            raise(&tally.downloads);
        });
    }

    /// Waits until so many further requests and queries have had their answer.
    pub fn await_more(&self, count: u64, patience: Duration) {
        let now = || [&self.tally.requests, &self.tally.queries].map(|c| c.load(Ordering::Relaxed));
        let wanted = now().map(|before| before + count);
        let deadline = Instant::now() + patience;
        while now().iter().zip(wanted).any(|(now, wanted)| *now < wanted) {
            assert!(Instant::now() < deadline, "{:?} of {wanted:?}: {:?}", now(), self.tally);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the clients with their exchange, and gives what they counted.
    pub async fn stop(mut self) -> Arc<Tally> {
        self.tally.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client panics");
        }
        self.tally
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        client: impl FnOnce(Arc<Tally>) -> F,
    ) {
        self.clients.spawn(client(Arc::clone(&self.tally)));
    }
}

async fn keep_alive(targets: Targets, host: &'static str, pause_ms: u64, tally: Arc<Tally>) {
    let mut socket: Option<TcpStream> = None;
    while tally.goes_on() {
        let result = within(async {
            let mut stream = match socket.take() {
                Some(stream) => stream,
                None => {
                    raise(&tally.connections);
                    TcpStream::connect(targets.http).await.map_err(said)?
                }
            };
            let answer = exchange(&mut stream, host, "/bytes/2000", "keep-alive").await?;
            if !answer.closes {
                socket = Some(stream);
            }
            answer.is_whole(2_000)
        });
        tally.judge(&format!("keep-alive, {pause_ms} ms, {host}"), result.await);
        raise(&tally.requests);
        sleep(Duration::from_millis(pause_ms)).await;
    }
}

async fn short(targets: Targets, host: &'static str, tally: Arc<Tally>) {
    while tally.goes_on() {
        let result = within(async {
            let mut stream = TcpStream::connect(targets.http).await.map_err(said)?;
            exchange(&mut stream, host, "/bytes/100", "close").await?.is_whole(100)
        });
        tally.judge(&format!("short, {host}"), result.await);
        raise(&tally.connections);
        raise(&tally.requests);
        // Ports of this machine are finite.
        sleep(Duration::from_millis(1)).await;
    }
}

/// One connection for as long as it lasts. A GOAWAY ends it. A request that crossed it, which the GOAWAY says was not
/// looked at (RFC 9113 section 6.8), goes out on the next connection; every other must be answered.
async fn http2(targets: Targets, host: &'static str, tally: Arc<Tally>) {
    while tally.goes_on() {
        let connected = async {
            let stream = TcpStream::connect(targets.http).await.map_err(said)?;
            h2::client::handshake(stream).await.map_err(said)
        };
        match within(connected).await {
            Ok((sender, connection)) => {
                raise(&tally.connections);
                let connection = tokio::spawn(connection);
                let result = http2_requests(sender, host, &tally).await;
                tally.judge(&format!("http2, {host}"), result);
                let _ = timeout(PATIENCE, connection).await;
            }
            Err(error) => tally.judge("http2", Err(error)),
        }
    }
}

async fn http2_requests(
    mut sender: SendRequest<Bytes>,
    host: &str,
    tally: &Tally,
) -> Result<(), String> {
    let refused = |error: h2::Error| match error.is_go_away() || error.is_io() {
        true => {
            raise(&tally.goaways);
            Ok(())
        }
        false => Err(format!("not sent: {error}")),
    };
    while tally.goes_on() {
        sender = match sender.ready().await {
            Ok(sender) => sender,
            Err(error) => return refused(error),
        };
        let request = http::Request::get(format!("http://{host}/bytes/3000")).body(());
        let response = match sender.send_request(request.map_err(said)?, true) {
            Ok((response, _)) => response,
            Err(error) => return refused(error),
        };
        let response = match timeout(PATIENCE, response).await {
            Ok(Ok(response)) => response,
            Ok(Err(error))
                if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) =>
            {
                return refused(error);
            }
            Ok(Err(error)) => return Err(said(error)),
            Err(_) => return Err(format!("nothing within {PATIENCE:?}")),
        };
        within(http2_answer(response)).await?;
        raise(&tally.requests);
    }
    Ok(())
}

async fn http2_answer(response: http::Response<h2::RecvStream>) -> Result<(), String> {
    let (head, mut body) = response.into_parts();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data: Bytes = data.map_err(said)?;
        body.flow_control().release_capacity(data.len()).map_err(said)?;
        length += data.len();
    }
    match (head.status.as_u16(), length) {
        (200, 3_000) => Ok(()),
        other => Err(format!("status and length {other:?}")),
    }
}

async fn download(targets: Targets, host: &'static str) -> Result<(), String> {
    let mut stream = TcpStream::connect(targets.http).await.map_err(said)?;
    let path = format!("/bytes/{DOWNLOAD_BYTES}");
    stream.write_all(&request(host, &path, "close")).await.map_err(said)?;
    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut part).await.map_err(said)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&part[..read]);
        sleep(Duration::from_millis(20)).await;
    }
    let head = head_length(&answer).ok_or("no head")?;
    match answer.len() - head {
        DOWNLOAD_BYTES => Ok(()),
        length => Err(format!("{length} of {DOWNLOAD_BYTES} bytes")),
    }
}

async fn dns_udp(targets: Targets, tally: Arc<Tally>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    socket.connect(targets.dns).await.expect("an address");
    for number in 0_u16.. {
        if !tally.goes_on() {
            return;
        }
        let result = within(async {
            let query = query(number, targets.hosts[0]);
            socket.send(&query).await.map_err(said)?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).await.map_err(said)?;
            judge_answer(number, &answer[..length])
        });
        tally.judge("DNS over UDP", result.await);
        raise(&tally.queries);
        sleep(Duration::from_millis(2)).await;
    }
}

async fn dns_tcp(targets: Targets, tally: Arc<Tally>) {
    for number in 0_u16.. {
        if !tally.goes_on() {
            return;
        }
        let result = within(async {
            let mut stream = TcpStream::connect(targets.dns).await.map_err(said)?;
            let query = query(number, targets.hosts[0]);
            stream.write_u16(query.len() as u16).await.map_err(said)?;
            stream.write_all(&query).await.map_err(said)?;
            let length = stream.read_u16().await.map_err(said)?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await.map_err(said)?;
            judge_answer(number, &answer)
        });
        tally.judge("DNS over TCP", result.await);
        raise(&tally.queries);
        sleep(Duration::from_millis(10)).await;
    }
}

/// A question for an address.
fn query(number: u16, host: &str) -> Vec<u8> {
    let mut query = number.to_be_bytes().to_vec();
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn judge_answer(number: u16, answer: &[u8]) -> Result<(), String> {
    let is_ours = answer.get(..2) == Some(&number.to_be_bytes());
    let code = answer.get(3).map(|byte| byte & 15);
    let records = answer.get(7);
    match (is_ours, code, records) {
        (true, Some(0), Some(1)) => Ok(()),
        other => Err(format!("ours, code and records {other:?}")),
    }
}

struct Answer {
    status: String,
    body: usize,
    closes: bool,
}

impl Answer {
    fn is_whole(&self, length: usize) -> Result<(), String> {
        match self.status == "HTTP/1.1 200 OK" && self.body == length {
            true => Ok(()),
            false => Err(format!("{} and {} bytes", self.status, self.body)),
        }
    }
}

async fn exchange(
    stream: &mut TcpStream,
    host: &str,
    path: &str,
    connection: &str,
) -> Result<Answer, String> {
    stream.write_all(&request(host, path, connection)).await.map_err(said)?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(length) = head_length(&bytes) {
            break length;
        }
        if stream.read_buf(&mut bytes).await.map_err(said)? == 0 {
            return Err(format!("the connection ended after {} bytes of a head", bytes.len()));
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let length: usize = field("content-length: ")
        .and_then(|length| length.trim().parse().ok())
        .ok_or_else(|| format!("no length in {text}"))?;
    while bytes.len() - head < length {
        if stream.read_buf(&mut bytes).await.map_err(said)? == 0 {
            return Err("the connection ended in a body".to_owned());
        }
    }
    Ok(Answer {
        status: String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned(),
        body: bytes.len() - head,
        closes: field("connection: ").is_some_and(|value| value.contains("close")),
    })
}

fn request(host: &str, path: &str, connection: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: {connection}\r\n\r\n").into_bytes()
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

async fn within<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| Err(format!("nothing within {PATIENCE:?}")))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
