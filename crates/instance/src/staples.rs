//! Asks responders whether the certificates that are served still stand, and gives what they say to the edge (RFC 6066
//! section 8). In the background: a responder that is slow, silent or wrong costs clients nothing but the staple.

use crate::http_client;
use certs::{OcspFault, OcspQuery, Staple};
use edge::{KeyTable, ServedKey};
use model::certificates::Source;
use model::{ObjectId, Snapshot};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use traffic::Random;
use traffic::external::forbidden;

/// For one question, from the name of the responder to the last byte of its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// After the first question that failed; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// However near the end of what is shown is.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// However short the life of a response is.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// More is no OCSP response.
const RESPONSE_BYTES: usize = 64 << 10;

/// One task a certificate that names a responder.
#[derive(Default)]
pub struct Staples {
    running: HashMap<ObjectId, Running>,
    /// Addresses of the API server.
    api_servers: watch::Sender<Vec<IpAddr>>,
    counts: Arc<Counts>,
}

/// For `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Questions by what came of them, as [`RESULTS`] names them.
    asked: [AtomicU64; RESULTS.len()],
    /// Certificates that name a responder: those that clients are shown a response for now, and the others.
    pub held: AtomicU64,
    pub missing: AtomicU64,
}

pub const RESULTS: [&str; 4] = ["good", "revoked", "unusable", "unreachable"];

impl Counts {
    pub fn asked(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.asked.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn note(&self, asked: &Result<Staple, Silence>) {
        let result = match asked {
            Ok(_) => 0,
            Err(Silence::Judged(OcspFault::Revoked)) => 1,
            Err(Silence::Judged(_)) => 2,
            Err(Silence::Unreachable(_)) => 3,
        };
        self.asked[result].fetch_add(1, Ordering::Relaxed);
    }
}

/// One certificate among those that are counted, for as long as this lives.
struct Counted {
    counts: Arc<Counts>,
    is_held: bool,
}

impl Counted {
    fn begin(counts: Arc<Counts>) -> Counted {
        counts.missing.fetch_add(1, Ordering::Relaxed);
        Counted { counts, is_held: false }
    }

    fn place(&self) -> &AtomicU64 {
        if self.is_held { &self.counts.held } else { &self.counts.missing }
    }

    fn hold(&mut self, is_held: bool) {
        self.place().fetch_sub(1, Ordering::Relaxed);
        self.is_held = is_held;
        self.place().fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.place().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no response to show.
#[derive(Debug)]
enum Silence {
    /// The responder did not answer, or with no answer of its kind.
    Unreachable(String),
    Judged(OcspFault),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::Unreachable(why) => why.fmt(f),
            Silence::Judged(fault) => fault.fmt(f),
        }
    }
}

struct Running {
    key: Weak<ServedKey>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Staples {
    pub fn new(counts: Arc<Counts>) -> Staples {
        Staples { counts, ..Staples::default() }
    }

    /// Asks about the certificates of the snapshot, and about no others. For one that did not change nothing begins
    /// anew. `api_servers` are not asked, whatever a certificate says.
    pub fn follow(&mut self, snapshot: &Snapshot, keys: &KeyTable, api_servers: Vec<IpAddr>) {
        self.api_servers.send_replace(api_servers);
        let mut before = std::mem::take(&mut self.running);
        for certificate in &snapshot.certificates.certificates {
            let Source::Secret(_) = certificate.source else { continue };
            let Some(key) = keys.served(&certificate.secret) else { continue };
            let known = before.remove(&certificate.secret);
            let is_same = |running: &Running| running.key.as_ptr() == Arc::as_ptr(key);
            let running = known.filter(is_same).or_else(|| self.begin(&certificate.secret, key));
            if let Some(running) = running {
                self.running.insert(certificate.secret.clone(), running);
            }
        }
    }

    /// None where the certificate names no responder.
    fn begin(&self, secret: &ObjectId, key: &Arc<ServedKey>) -> Option<Running> {
        let query = OcspQuery::of(key.chain())?;
        let key = Arc::downgrade(key);
        let subject = (secret.clone(), Weak::clone(&key), query);
        let counted = Counted::begin(Arc::clone(&self.counts));
        let keep = keep(subject, self.api_servers.subscribe(), counted);
        Some(Running { key, task: tokio::spawn(keep).abort_handle() })
    }
}

async fn keep(
    (secret, key, query): (ObjectId, Weak<ServedKey>, OcspQuery),
    api_servers: watch::Receiver<Vec<IpAddr>>,
    mut counted: Counted,
) {
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(now_ms.as_nanos() as u64);
    let mut held = Held::default();
    loop {
        let asked = tokio::time::timeout(PATIENCE, judged(&query, &api_servers)).await;
        let asked =
            asked.unwrap_or_else(|_| Err(Silence::Unreachable("it does not answer".to_owned())));
        counted.counts.note(&asked);
        let Some(key) = key.upgrade() else { return };
        if let Err(why) = &asked
            && held.failures == 0
        {
            tracing::warn!("{secret}: no OCSP response from {}: {why}", query.url);
        }
        let (change, wait) = held.next(asked.ok(), SystemTime::now());
        if let Some(response) = change {
            counted.hold(response.is_some());
            key.staple(response);
        }
        drop(key);
        // Spread, so that responders are not asked by all at once; never later, for what is shown has an end.
        tokio::time::sleep(wait.mul_f64(0.9 + 0.1 * random.share()).max(SHORTEST_WAIT)).await;
    }
}

/// What is shown now, and how often asking has failed since.
#[derive(Default)]
struct Held {
    until: Option<SystemTime>,
    failures: u32,
}

impl Held {
    /// What is shown from now on, if that changes, and when to ask again: at half of a response's life, and
    /// later and later after failures. What has ended is shown no longer.
    fn next(
        &mut self,
        got: Option<Staple>,
        now: SystemTime,
    ) -> (Option<Option<Vec<u8>>>, Duration) {
        if let Some(staple) = got {
            let life = staple.next_update.duration_since(staple.this_update).unwrap_or_default();
            let half = staple.this_update + life / 2;
            *self = Held { until: Some(staple.next_update), failures: 0 };
            let wait = half.duration_since(now).unwrap_or_default().max(SHORTEST_LIFE);
            let left = staple.next_update.duration_since(now).unwrap_or_default();
            return (Some(Some(staple.response)), wait.min(left));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        match self.until {
            Some(until) if until <= now => {
                self.until = None;
                (Some(None), wait)
            }
            Some(until) => (None, wait.min(until.duration_since(now).unwrap_or_default())),
            None => (None, wait),
        }
    }
}

async fn judged(
    query: &OcspQuery,
    api_servers: &watch::Receiver<Vec<IpAddr>>,
) -> Result<Staple, Silence> {
    let body = ask(&query.url, &query.request, api_servers).await.map_err(Silence::Unreachable)?;
    query.judge(&body, SystemTime::now()).map_err(Silence::Judged)
}

/// What the responder says.
async fn ask(
    url: &str,
    question: &[u8],
    api_servers: &watch::Receiver<Vec<IpAddr>>,
) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    let uri: http::Uri = url.parse().map_err(|_| "its address cannot be read".to_owned())?;
    let host = uri.host().ok_or("its address has no host")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let at = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
    let found = lookup_host(at).await.map_err(text)?;
    let permitted = permitted(found, &api_servers.borrow())?;
    let mut stream = TcpStream::connect(&*permitted).await.map_err(text)?;
    // Of HTTP/1.0, so that the body of the answer comes as it is.
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: {authority}\r\ncontent-type: application/ocsp-request\r\n\
         content-length: {}\r\n\r\n",
        question.len()
    );
    stream.write_all(&[head.as_bytes(), question].concat()).await.map_err(text)?;
    let response = http_client::response(stream, h1::Method::Post).await?;
    match response.head.status {
        200 => response.body(RESPONSE_BYTES).await,
        status => Err(format!("status {status}")),
    }
}

/// Where a responder may be asked. Whoever writes a certificate writes this name, and could have us send requests to what
/// is not theirs.
fn permitted(
    found: impl Iterator<Item = SocketAddr>,
    api_servers: &[IpAddr],
) -> Result<Vec<SocketAddr>, String> {
    let mut refused = None;
    let mut permitted: Vec<SocketAddr> = found.collect();
    permitted.retain(|address| {
        let why = forbidden(address.ip(), api_servers);
        refused = why.map(|why| (address.ip(), why)).or(refused);
        why.is_none()
    });
    match (permitted.is_empty(), refused) {
        (false, _) => Ok(permitted),
        (true, None) => Err("its name has no address".to_owned()),
        (true, Some((address, why))) => {
            Err(format!("its address is {address}, which is {why}: nothing is asked there"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Kind;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn staple(this_update: u64, next_update: u64) -> Staple {
        let (this_update, next_update) = (at(this_update), at(next_update));
        Staple { response: vec![1], this_update, next_update }
    }

    #[test]
    fn a_response_is_shown_to_its_end_and_renewed_at_half_of_its_life() {
        let mut held = Held::default();
        let (change, wait) = held.next(Some(staple(0, 10_000)), at(100));
        assert_eq!((change, wait), (Some(Some(vec![1])), Duration::from_secs(4_900)));
        // Failures leave it as it is, wait longer and longer, and not beyond its end.
        for (now, expected) in [(5_000, 30), (5_030, 60), (5_090, 120), (9_990, 10)] {
            let (change, wait) = held.next(None, at(now));
            assert_eq!((change, wait), (None, Duration::from_secs(expected)), "{now}");
        }
        let (change, wait) = held.next(None, at(10_000));
        assert_eq!((change, wait), (Some(None), Duration::from_secs(480)));
        assert_eq!(held.next(None, at(11_000)), (None, Duration::from_secs(960)));
        let (change, wait) = held.next(Some(staple(11_000, 11_010)), at(11_000));
        assert_eq!((change, wait), (Some(Some(vec![1])), Duration::from_secs(10)));
        assert_eq!(held.next(None, at(11_010)), (Some(None), FIRST_WAIT));
    }

    #[test]
    fn waits_have_an_end() {
        let mut held = Held::default();
        let waits: Vec<Duration> = (0..40).map(|_| held.next(None, at(0)).1).collect();
        assert_eq!(waits[0], FIRST_WAIT);
        assert!(waits.is_sorted() && waits[39] == LONGEST_WAIT);
    }

    #[test]
    fn no_certificate_leads_to_what_is_not_its_writers() {
        let servers: Vec<IpAddr> = vec![[10, 96, 0, 1].into()];
        let check = |found: &[&str]| {
            let found = found.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 80));
            permitted(found, &servers)
                .map(|left| left.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(" "))
        };
        for (found, expected) in [
            (&["192.0.2.1", "2001:db8::1"][..], Ok("192.0.2.1 2001:db8::1")),
            (&["127.0.0.1", "192.0.2.1", "::1"], Ok("192.0.2.1")),
            (&["169.254.169.254"], Err("the metadata service of a cloud")),
            (&["10.96.0.1"], Err("the API server")),
            (&["fe80::1"], Err("a link-local address")),
            (&["::1", "127.0.0.1"], Err("a loopback address")),
            (&[], Err("its name has no address")),
        ] {
            match (check(found), expected) {
                (Ok(left), Ok(expected)) => assert_eq!(left, expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
                other => panic!("{found:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn each_certificate_is_counted_where_it_stands_and_no_more_when_it_is_gone() {
        let counts = Arc::new(Counts::default());
        let stands =
            || (counts.held.load(Ordering::Relaxed), counts.missing.load(Ordering::Relaxed));
        let mut one = Counted::begin(Arc::clone(&counts));
        let other = Counted::begin(Arc::clone(&counts));
        assert_eq!(stands(), (0, 2));
        one.hold(true);
        one.hold(true);
        assert_eq!(stands(), (1, 1));
        drop(other);
        assert_eq!(stands(), (1, 0));
        one.hold(false);
        assert_eq!(stands(), (0, 1));
        drop(one);
        assert_eq!(stands(), (0, 0));
        for asked in [
            Ok(staple(0, 1)),
            Err(Silence::Judged(OcspFault::Revoked)),
            Err(Silence::Judged(OcspFault::Time)),
            Err(Silence::Judged(OcspFault::Refused(6))),
            Err(Silence::Unreachable("refused".to_owned())),
        ] {
            counts.note(&asked);
        }
        let asked: Vec<_> = counts.asked().collect();
        assert_eq!(asked, [("good", 1), ("revoked", 1), ("unusable", 2), ("unreachable", 1)]);
    }

    /// Its responder is at a loopback address, where nothing is asked.
    #[tokio::test]
    async fn a_question_that_fails_is_counted() {
        const LEAF: &[u8] = include_bytes!("../../certs/tests/ocsp/leaf.der");
        const ISSUER: &[u8] = include_bytes!("../../certs/tests/ocsp/ca.der");
        let query = OcspQuery::of(&[LEAF, ISSUER]).expect("it names a responder");
        let secret = ObjectId::new(Kind::SECRET, "a", "b");
        let counts = Arc::new(Counts::default());
        let servers = watch::Sender::new(Vec::new());
        // The certificate is gone when the answer comes.
        let subject = (secret, Weak::new(), query);
        keep(subject, servers.subscribe(), Counted::begin(Arc::clone(&counts))).await;
        assert_eq!(counts.asked().last(), Some(("unreachable", 1)));
        assert_eq!(counts.missing.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn nothing_is_sent_to_where_no_responder_may_be() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let url = format!("http://localhost:{}/ocsp", address.port());
        let servers = watch::Sender::new(Vec::new());
        let refused = ask(&url, b"question", &servers.subscribe()).await.expect_err("a refusal");
        assert!(refused.contains("a loopback address"), "{refused}");
        let came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(came.is_err(), "somebody connected");
    }
}
