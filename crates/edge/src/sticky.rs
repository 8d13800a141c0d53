//! Sessions that stay at their endpoint (Gateway API GEP-1619): which endpoint a request's session names, and what the
//! response says so that the next request comes back to it. Pure but for the randomness of a seal; what is picked when
//! there is no session is `balance`'s.
//!
//! A token is opaque to the client: address, service, beginning and last use of the session, sealed with the key of the
//! registry. The name of the cookie or header is sealed in: a token is worth nothing under another name. Why it is sealed
//! and not only signed is told in `docs/decisions/0007-session-tokens-are-sealed.md`.

use crate::additions::Additions;
use crate::decide::Head;
use crate::edits::is_editable;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::id::ServicePort;
use model::traffic::{self, Carrier};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const VERSION: u8 = 1;
/// Version, address, port, service, beginning, last use.
const PLAIN_BYTES: usize = 1 + 16 + 2 + 8 + 8 + 8;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = NONCE_LEN + PLAIN_BYTES + TAG_BYTES;
const TOKEN_BYTES: usize = (SEALED_BYTES * 4).div_ceil(3);

pub const SESSION_KEY_BYTES: usize = 32;

/// Seals sessions; one for all views and workers.
pub(crate) struct Sealer(RandomizedNonceKey);

impl Sealer {
    pub fn new(key: &[u8; SESSION_KEY_BYTES]) -> Sealer {
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, key);
        Sealer(key.expect("the key has the length that the algorithm asks for"))
    }

    pub fn random() -> Sealer {
        let mut key = [0; SESSION_KEY_BYTES];
        aws_lc_rs::rand::fill(&mut key).expect("a system without randomness serves no TLS either");
        Sealer::new(&key)
    }

    /// None when there is no randomness: then there is no session.
    fn seal(&self, session: &Session, name: &[u8]) -> Option<[u8; TOKEN_BYTES]> {
        let (mut sealed, mut token) = ([0; SEALED_BYTES], [0; TOKEN_BYTES]);
        let (nonce, rest) = sealed.split_at_mut(NONCE_LEN);
        let (plain, tag) = rest.split_at_mut(PLAIN_BYTES);
        plain.copy_from_slice(&session.to_bytes());
        let (used, made) = self.0.seal_in_place_separate_tag(Aad::from(name), plain).ok()?;
        nonce.copy_from_slice(used.as_ref());
        tag.copy_from_slice(made.as_ref());
        BASE64.encode_slice(sealed, &mut token).ok()?;
        Some(token)
    }

    fn open(&self, token: &[u8], name: &[u8]) -> Option<Session> {
        let mut sealed = [0; SEALED_BYTES + 2];
        let length = BASE64.decode_slice(token, &mut sealed).ok()?;
        let (nonce, rest) = sealed[..length].split_first_chunk::<NONCE_LEN>()?;
        let (nonce, mut rest) = (*nonce, <[u8; PLAIN_BYTES + TAG_BYTES]>::try_from(rest).ok()?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.0.open_in_place(nonce, Aad::from(name), &mut rest).ok()?;
        Session::from_bytes(plain.as_ref().try_into().ok()?)
    }
}

/// A session as its token says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub endpoint: SocketAddr,
    /// Of the backend's service: an address may be another service's by now.
    pub service: ServiceTag,
    /// Seconds since 1970.
    began: u64,
    used: u64,
}

impl Session {
    fn to_bytes(self) -> [u8; PLAIN_BYTES] {
        let mut bytes = [0; PLAIN_BYTES];
        let ip = match self.endpoint.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let parts: [&[u8]; 6] = [
            &[VERSION],
            &ip.octets(),
            &self.endpoint.port().to_be_bytes(),
            &self.service.0,
            &self.began.to_be_bytes(),
            &self.used.to_be_bytes(),
        ];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; PLAIN_BYTES]) -> Option<Session> {
        let (version, rest) = bytes.split_first()?;
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (service, rest) = rest.split_first_chunk::<8>()?;
        let (began, used) = rest.split_first_chunk::<8>()?;
        let ip = IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical();
        (*version == VERSION).then_some(Session {
            endpoint: SocketAddr::new(ip, u16::from_be_bytes(*port)),
            service: ServiceTag(*service),
            began: u64::from_be_bytes(*began),
            used: u64::from_be_bytes(used.try_into().ok()?),
        })
    }
}

/// Says which service, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceTag([u8; 8]);

impl ServiceTag {
    pub fn of(service: &ServicePort) -> ServiceTag {
        let ServicePort { namespace, name, port } = service;
        let hash = digest(&SHA256, format!("{namespace}/{name}:{port}").as_bytes());
        let (tag, _) = hash.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        ServiceTag(*tag)
    }
}

/// One request of a rule with sessions.
pub(crate) struct Visit<'v> {
    sticky: &'v Sticky,
    session: Option<Session>,
    now: u64,
    /// How many lines the response gets without that of the session.
    lines: usize,
    /// The place of the backend that takes the request.
    pub share: usize,
}

impl<'v> Visit<'v> {
    pub fn new(sticky: &'v Sticky, request: Head<'_>, lines: usize) -> Visit<'v> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        Visit { sticky, session: sticky.session(request, now), now, lines, share: 0 }
    }

    /// See [`Sticky::wanted`].
    pub fn wanted(
        &self,
        position: impl Fn(usize, SocketAddr) -> Option<usize>,
    ) -> Option<(usize, usize)> {
        self.sticky.wanted(self.session.as_ref()?, position)
    }

    /// No endpoint of the session's Service answers.
    pub fn forget(&self, answer: &mut Additions) {
        answer.truncate(self.lines);
    }

    /// To be called with each endpoint that is tried: the last one's line is replaced.
    pub fn keep(&self, endpoint: SocketAddr, is_secure: bool, answer: &mut Additions) {
        self.forget(answer);
        let (session, to) = (self.session.as_ref(), (self.share, endpoint));
        self.sticky.keep(session, to, (self.now, is_secure), answer);
    }
}

/// What a rule says about sessions, made ready.
pub(crate) struct Sticky {
    sealer: Arc<Sealer>,
    carrier: Carrier,
    /// As written.
    name: Box<[u8]>,
    absolute: Option<u64>,
    idle: Option<u64>,
    /// By the backend's place in the rule; none for one that is not valid.
    services: Box<[Option<ServiceTag>]>,
}

impl Sticky {
    /// None for a name that can stand in no head, or that says where a message ends.
    pub fn new(
        plan: &traffic::Persistence,
        sealer: Arc<Sealer>,
        services: impl Iterator<Item = Option<ServiceTag>>,
    ) -> Option<Sticky> {
        let seconds = |time: Duration| time.as_secs().max(1);
        is_editable(&plan.name.to_ascii_lowercase().into_bytes()).then(|| Sticky {
            sealer,
            carrier: plan.carrier,
            name: plan.name.as_bytes().into(),
            absolute: plan.absolute_timeout.map(seconds),
            idle: plan.idle_timeout.map(seconds),
            services: services.collect(),
        })
    }

    /// The session that the request belongs to, if it lasts still.
    pub fn session(&self, request: Head<'_>, now: u64) -> Option<Session> {
        let open = |token| self.sealer.open(token, &self.name).filter(|s| self.lasts(s, now));
        match self.carrier {
            Carrier::Header => {
                let header = request.list.find_name(request.bytes, &self.name)?;
                open(header.value(request.bytes))
            }
            Carrier::SessionCookie | Carrier::PermanentCookie => {
                cookies(request).filter(|(name, _)| *name == &*self.name).find_map(|(_, v)| open(v))
            }
        }
    }

    /// Where the session wants to be: the backend's place in the rule and the endpoint's in it. Weights do not count,
    /// not even zero (GEP-1619, traffic splitting).
    pub fn wanted(
        &self,
        session: &Session,
        position: impl Fn(usize, SocketAddr) -> Option<usize>,
    ) -> Option<(usize, usize)> {
        let shares = self.services.iter().enumerate();
        let mut shares = shares.filter(|(_, service)| **service == Some(session.service));
        shares.find_map(|(share, _)| Some((share, position(share, session.endpoint)?)))
    }

    /// Has the client keep that its session is at `endpoint` of the backend at place `share`; nothing when it knows.
    pub fn keep(
        &self,
        session: Option<&Session>,
        (share, endpoint): (usize, SocketAddr),
        (now, is_secure): (u64, bool),
        answer: &mut Additions,
    ) {
        let Some(service) = self.services.get(share).copied().flatten() else { return };
        let kept = session.filter(|s| s.endpoint == endpoint && s.service == service);
        if kept.is_some_and(|session| !self.is_to_be_renewed(session, now)) {
            return;
        }
        let began = kept.map_or(now, |session| session.began);
        let session = Session { endpoint, service, began, used: now };
        let Some(token) = self.sealer.seal(&session, &self.name) else { return };
        match self.carrier {
            Carrier::Header => answer.set(&self.name, &[&token]),
            carrier => {
                let left = (began.saturating_add(self.absolute.unwrap_or(0))).saturating_sub(now);
                let mut digits = itoa::Buffer::new();
                let age: [&[u8]; 2] = match (carrier, self.absolute) {
                    (Carrier::PermanentCookie, Some(_)) => {
                        [b"; Max-Age=", digits.format(left).as_bytes()]
                    }
                    _ => [b"", b""],
                };
                let secure: &[u8] = if is_secure { b"; Secure" } else { b"" };
                let fixed = b"; Path=/; HttpOnly; SameSite=Lax";
                let parts: [&[u8]; 7] = [&self.name, b"=", &token, fixed, secure, age[0], age[1]];
                answer.add(b"set-cookie", &parts);
            }
        }
    }

    fn lasts(&self, session: &Session, now: u64) -> bool {
        let within = |since: u64, limit: Option<u64>| {
            limit.is_none_or(|limit| now.saturating_sub(since) < limit)
        };
        within(session.began, self.absolute) && within(session.used, self.idle)
    }

    /// Only the idle time moves, and only now and then: a response that sets a cookie is kept by few caches. Early
    /// enough that a session in use never runs out for it.
    fn is_to_be_renewed(&self, session: &Session, now: u64) -> bool {
        self.idle.is_some_and(|idle| now.saturating_sub(session.used) >= idle.div_ceil(4))
    }
}

/// Names and values of all cookies (RFC 6265 section 5.4).
pub(crate) fn cookies(request: Head<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
    let fields = request.list.iter().filter(|header| header.known == h1::Known::Cookie);
    let pairs = fields.flat_map(move |header| header.value(request.bytes).split(|&b| b == b';'));
    pairs.filter_map(|pair| {
        let at = pair.iter().position(|&b| b == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::additions::ResponseEdits;
    use crate::worker::LIMITS;
    use h1::HeaderList;

    const NOW: u64 = 1_800_000_000;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 1, 2, 3], port))
    }

    fn tag(name: &str) -> ServiceTag {
        ServiceTag::of(&ServicePort { namespace: "n".into(), name: name.into(), port: 80 })
    }

    fn sticky(carrier: Carrier, absolute: Option<u64>, idle: Option<u64>) -> Sticky {
        let plan = traffic::Persistence {
            carrier,
            name: "Sess".into(),
            absolute_timeout: absolute.map(Duration::from_secs),
            idle_timeout: idle.map(Duration::from_secs),
        };
        let services = [Some(tag("stable")), None, Some(tag("canary"))];
        let sealer = Arc::new(Sealer::new(&[7; SESSION_KEY_BYTES]));
        Sticky::new(&plan, sealer, services.into_iter()).expect("a name that can stand")
    }

    fn session_of(sticky: &Sticky, lines: &str, now: u64) -> Option<Session> {
        let bytes = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
        let mut list = HeaderList::new();
        let head = h1::parse_request(bytes.as_bytes(), &mut list, &LIMITS);
        let head = head.expect("a request").expect("a whole one");
        sticky.session(Head { bytes: bytes.as_bytes(), head: &head, list: &list }, now)
    }

    /// The line that is added, as text.
    fn kept(
        sticky: &Sticky,
        session: Option<&Session>,
        to: (usize, u16),
        now: u64,
    ) -> Option<String> {
        let mut additions = Additions::default();
        sticky.keep(session, (to.0, address(to.1)), (now, false), &mut additions);
        let edits = ResponseEdits::of(None, &additions)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        edits.added().map(|(name, value)| text(name) + ": " + &text(value)).next()
    }

    fn cookie(line: &str) -> String {
        let pair = line.strip_prefix("set-cookie: ").expect("a cookie");
        let pair = pair.split(';').next().expect("a pair");
        format!("Cookie: a=b; {pair}; c=d\r\n")
    }

    #[test]
    fn a_session_comes_back_as_it_went() {
        for endpoint in ["10.1.2.3:80", "[2001:db8::1]:65535"] {
            let sealer = Sealer::new(&[1; SESSION_KEY_BYTES]);
            let endpoint = endpoint.parse().expect("an address");
            let session = Session { endpoint, service: tag("a"), began: NOW, used: NOW + 1 };
            let token = sealer.seal(&session, b"name").expect("sealed");
            assert_eq!(sealer.open(&token, b"name"), Some(session));
            assert_eq!(sealer.open(&token, b"other"), None);
            assert_eq!(Sealer::new(&[2; SESSION_KEY_BYTES]).open(&token, b"name"), None);
            assert_ne!(sealer.seal(&session, b"name"), Some(token), "tokens tell nothing");
            for at in 0..TOKEN_BYTES {
                let mut changed = token;
                changed[at] = if token[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(sealer.open(&changed, b"name"), None, "byte {at}");
                assert_eq!(sealer.open(&token[..at], b"name"), None, "{at} bytes");
            }
            assert_eq!(sealer.open(&[b'A'; 500], b"name"), None);
        }
    }

    #[test]
    fn cookies_and_headers_carry_sessions() {
        let by_cookie = sticky(Carrier::SessionCookie, None, None);
        let line = kept(&by_cookie, None, (0, 1), NOW).expect("a new session");
        assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{line}");
        let session = session_of(&by_cookie, &cookie(&line), NOW).expect("the session");
        assert_eq!((session.endpoint, session.service), (address(1), tag("stable")));
        let two = format!("Cookie: Sess=bad; sess=x; Sess\r\n{}", cookie(&line));
        assert_eq!(session_of(&by_cookie, &two, NOW), Some(session));
        for lines in ["", "Cookie: Sess=\r\n", "Cookie: Sess=%%%\r\n", "Sess: x\r\n"] {
            assert_eq!(session_of(&by_cookie, lines, NOW), None, "{lines}");
        }
        let by_header = sticky(Carrier::Header, None, None);
        let line = kept(&by_header, None, (0, 1), NOW).expect("a new session");
        assert!(line.starts_with("Sess: "), "{line}");
        let session = session_of(&by_header, &format!("{}\r\n", line.to_lowercase()), NOW);
        assert_eq!(session, None, "a token keeps its case");
        let session = session_of(&by_header, &format!("{}\r\n", line.replace("Sess", "sess")), NOW);
        assert_eq!(session.map(|session| session.endpoint), Some(address(1)));
    }

    #[test]
    fn sessions_end_and_are_renewed_in_time() {
        let sticky = sticky(Carrier::SessionCookie, Some(100), Some(20));
        let line = kept(&sticky, None, (0, 1), NOW).expect("a new session");
        let at = |now| session_of(&sticky, &cookie(&line), now);
        assert!(at(NOW + 19).is_some() && at(NOW + 20).is_none());
        assert!(at(NOW - 5).is_some(), "a clock that went back ends no session");
        let first = at(NOW + 4).expect("it lasts");
        assert_eq!(kept(&sticky, Some(&first), (0, 1), NOW + 4), None);
        let line = kept(&sticky, Some(&first), (0, 1), NOW + 5).expect("renewed");
        let mut session = session_of(&sticky, &cookie(&line), NOW + 24).expect("it lasts");
        for now in (NOW + 10..NOW + 100).step_by(10) {
            let line = kept(&sticky, Some(&session), (0, 1), now).expect("renewed");
            session = session_of(&sticky, &cookie(&line), now).expect("it lasts");
            assert!(session_of(&sticky, &cookie(&line), NOW + 100).is_none(), "absolute");
        }
    }

    #[test]
    fn a_permanent_cookie_lives_as_long_as_its_session() {
        let sticky = sticky(Carrier::PermanentCookie, Some(3600), Some(60));
        let line = kept(&sticky, None, (0, 1), NOW).expect("a new session");
        assert!(line.ends_with("; Max-Age=3600"), "{line}");
        let session = session_of(&sticky, &cookie(&line), NOW + 50).expect("it lasts");
        let line = kept(&sticky, Some(&session), (0, 1), NOW + 50).expect("renewed");
        assert!(line.ends_with("; Max-Age=3550"), "{line}");
        let mut additions = Additions::default();
        sticky.keep(None, (0, address(1)), (NOW, true), &mut additions);
        let edits = ResponseEdits::of(None, &additions).expect("a line");
        let (_, value) = edits.added().next().expect("a line");
        assert!(value.ends_with(b"; Secure; Max-Age=3600"));
    }

    #[test]
    fn a_session_is_where_its_endpoint_is() {
        let sticky = sticky(Carrier::SessionCookie, None, None);
        let line = kept(&sticky, None, (2, 7), NOW).expect("a new session");
        let session = session_of(&sticky, &cookie(&line), NOW).expect("the session");
        let (stable, canary) = ([address(7), address(8)], [address(6), address(7)]);
        let at = |among: &[SocketAddr], address| among.iter().position(|one| *one == address);
        let endpoints = |share, to| at(if share == 2 { &canary } else { &stable }, to);
        assert_eq!(sticky.wanted(&session, endpoints), Some((2, 1)));
        assert_eq!(
            sticky.wanted(&session, |_, to| at(&stable[1..], to)),
            None,
            "its endpoint is gone"
        );
        let elsewhere = |share, to| at(if share == 2 { &[] } else { &stable }, to);
        assert_eq!(sticky.wanted(&session, elsewhere), None, "another service has its address");
        let line = kept(&sticky, Some(&session), (0, 8), NOW + 9).expect("it moved");
        let moved = session_of(&sticky, &cookie(&line), NOW + 9).expect("a session");
        assert_eq!((moved.endpoint, moved.began), (address(8), NOW + 9));
        assert_eq!(kept(&sticky, Some(&session), (1, 7), NOW), None, "not a valid backend");
    }
}
