//! Cross-origin requests (the Fetch standard's CORS protocol, Gateway API GEP-1767): what a rule allows, made ready with
//! the view, and the field lines that say so. An edge only tells the browser; that the browser obeys is not ours.

use crate::additions::Additions;
use crate::decide::Head;
use h1::{Known, Method};
use model::Text;
use model::traffic::{self, Names, OriginPattern};
use routing::Headers;

/// A rule with CORS owns these: what an origin server says of them is left out, whether or not we say something.
const OWNED: &[&[u8]] = &[
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-expose-headers",
    b"access-control-max-age",
];

#[derive(Debug)]
pub(crate) struct Cors {
    origins: Box<[Pattern]>,
    allows_credentials: bool,
    methods: Listing,
    headers: Listing,
    /// The whole value.
    expose: Option<Box<[u8]>>,
    max_age: Box<[u8]>,
}

/// In lower case, and without the port where it is that of the scheme.
#[derive(Debug)]
enum Pattern {
    Any,
    Exact(Box<[u8]>),
    Wildcard { prefix: Box<[u8]>, suffix: Box<[u8]> },
}

#[derive(Debug)]
enum Listing {
    /// What the request asks for.
    Echo,
    Value(Box<[u8]>),
    Nothing,
}

impl Cors {
    pub fn new(plan: &traffic::Cors) -> Cors {
        let expose = match listing(&plan.expose) {
            Listing::Value(value) => Some(value),
            // With credentials the browser would take `*` for a name (Fetch, CORS protocol and credentials).
            Listing::Echo if !plan.allow_credentials => Some(b"*".as_slice().into()),
            _ => None,
        };
        let mut digits = itoa::Buffer::new();
        Cors {
            origins: plan.origins.iter().map(Pattern::new).collect(),
            allows_credentials: plan.allow_credentials,
            methods: listing(&plan.methods),
            headers: listing(&plan.headers),
            expose,
            max_age: digits.format(plan.max_age.as_secs()).as_bytes().into(),
        }
    }

    /// Writes what the response says of CORS. True when the request is a preflight, which is never forwarded.
    pub fn judge(&self, request: Head<'_>, answer: &mut Additions) -> bool {
        answer.own(OWNED);
        // Said even without an origin: a cache that kept this response would give it to others (Fetch, CORS and caches).
        answer.add(b"vary", &[b"Origin"]);
        let origin = request.find(Known::Origin);
        let wanted = origin.and_then(|_| preflight_method(request));
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            answer.add(b"access-control-allow-origin", &[origin]);
            if self.allows_credentials {
                answer.add(b"access-control-allow-credentials", &[b"true"]);
            }
            if let Some(names) = &self.expose {
                answer.add(b"access-control-expose-headers", &[names]);
            }
            if let Some(method) = wanted {
                self.allow(request, method, answer);
            }
        }
        wanted.is_some()
    }

    fn allow(&self, request: Head<'_>, method: &[u8], answer: &mut Additions) {
        let asked = request.values("access-control-request-headers").next().unwrap_or_default();
        for (name, listing, asked) in [
            (b"access-control-allow-methods", &self.methods, method),
            (b"access-control-allow-headers", &self.headers, asked),
        ] {
            match listing {
                Listing::Value(value) => answer.add(name, &[value]),
                Listing::Echo if !asked.is_empty() => answer.add(name, &[asked]),
                _ => {}
            }
        }
        answer.add(b"access-control-max-age", &[&self.max_age]);
    }

    fn allows(&self, origin: &[u8]) -> bool {
        let origin = without_default_port(origin);
        self.origins.iter().any(|pattern| pattern.takes(origin))
    }
}

/// The method of the request that is to follow a preflight (Fetch, CORS-preflight request).
fn preflight_method<'a>(request: Head<'a>) -> Option<&'a [u8]> {
    let name = b"access-control-request-method";
    let header = request.list.find_name(request.bytes, name)?;
    (request.head.method == Method::Options).then(|| header.value(request.bytes))
}

impl Pattern {
    fn new(pattern: &OriginPattern) -> Pattern {
        let lower = |text: &Text| text.to_ascii_lowercase();
        match pattern {
            OriginPattern::Any => Pattern::Any,
            OriginPattern::Exact(origin) => {
                Pattern::Exact(without_default_port(lower(origin).as_bytes()).into())
            }
            OriginPattern::Wildcard { prefix, suffix } => {
                let (prefix, suffix) = (lower(prefix), lower(suffix));
                let suffix = without_port_of(prefix.as_bytes(), suffix.as_bytes());
                Pattern::Wildcard { prefix: prefix.as_bytes().into(), suffix: suffix.into() }
            }
        }
    }

    fn takes(&self, origin: &[u8]) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Pattern::Wildcard { prefix, suffix } => {
                let Some((start, rest)) = origin.split_at_checked(prefix.len()) else {
                    return false;
                };
                let Some(at) = rest.len().checked_sub(suffix.len()) else { return false };
                let (labels, end) = rest.split_at(at);
                start.eq_ignore_ascii_case(prefix)
                    && end.eq_ignore_ascii_case(suffix)
                    && !labels.is_empty()
                    && labels.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        }
    }
}

fn without_default_port(origin: &[u8]) -> &[u8] {
    without_port_of(origin, origin)
}

fn without_port_of<'a>(scheme: &[u8], text: &'a [u8]) -> &'a [u8] {
    let is = |name: &[u8]| {
        scheme.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let port: &[u8] = match () {
        () if is(b"https:") => b":443",
        () if is(b"http:") => b":80",
        () => b"",
    };
    text.strip_suffix(port).unwrap_or(text)
}

fn listing(names: &Names) -> Listing {
    let names = match names {
        Names::Any => return Listing::Echo,
        Names::Listed(names) => names,
    };
    let names: Vec<&str> =
        names.iter().map(|name| &**name).filter(|name| h1::is_token(name.as_bytes())).collect();
    match names.is_empty() {
        true => Listing::Nothing,
        false => Listing::Value(names.join(", ").into_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::additions::ResponseEdits;
    use crate::worker::LIMITS;
    use h1::HeaderList;
    use std::time::Duration;

    fn names(names: &[&str]) -> Names {
        match names {
            ["*"] => Names::Any,
            names => Names::Listed(names.iter().map(|name| (*name).into()).collect()),
        }
    }

    fn plan(origins: &[OriginPattern]) -> traffic::Cors {
        traffic::Cors {
            origins: origins.to_vec(),
            allow_credentials: false,
            methods: names(&["GET", "OPTIONS"]),
            headers: names(&["x-1", "x-2"]),
            expose: names(&[]),
            max_age: Duration::from_secs(5),
        }
    }

    fn exact(origin: &str) -> OriginPattern {
        OriginPattern::Exact(origin.into())
    }

    fn wildcard(prefix: &str, suffix: &str) -> OriginPattern {
        OriginPattern::Wildcard { prefix: prefix.into(), suffix: suffix.into() }
    }

    /// Whether it is a preflight, and the lines but `vary`, which is always there.
    fn judged(plan: &traffic::Cors, head: &str) -> (bool, Vec<String>) {
        let bytes =
            format!("{head}\r\nhost: a\r\n\r\n").replace('\n', "\r\n").replace("\r\r", "\r");
        let mut list = HeaderList::new();
        let head = h1::parse_request(bytes.as_bytes(), &mut list, &LIMITS);
        let head = head.expect("a request").expect("a whole one");
        let request = Head { bytes: bytes.as_bytes(), head: &head, list: &list };
        let mut additions = Additions::default();
        let is_preflight = Cors::new(plan).judge(request, &mut additions);
        let edits = ResponseEdits::of(None, &additions).expect("there are lines");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let mut lines: Vec<String> =
            edits.added().map(|(name, value)| text(name) + ": " + &text(value)).collect();
        assert_eq!(lines.remove(0), "vary: Origin");
        assert!(edits.drops(b"Access-Control-Allow-Origin"));
        (is_preflight, lines)
    }

    #[test]
    fn origins_that_fit() {
        for (pattern, origin, expected) in [
            (OriginPattern::Any, "https://a.test", true),
            (OriginPattern::Any, "null", true),
            (exact("https://a.test"), "https://a.test", true),
            (exact("https://a.test"), "https://a.test:443", true),
            (exact("https://a.test:443"), "https://a.test", true),
            (exact("http://a.test:80"), "http://a.test", true),
            (exact("https://A.test"), "https://a.TEST", true),
            (exact("https://a.test"), "http://a.test", false),
            (exact("https://a.test"), "https://a.test:80", false),
            (exact("https://a.test"), "https://a.test.evil.test", false),
            (wildcard("https://", ".bar.test"), "https://www.bar.test", true),
            (wildcard("https://", ".bar.test"), "https://x.www.bar.test", true),
            (wildcard("https://", ".bar.test"), "https://bar.test", false),
            (wildcard("https://", ".bar.test"), "https://.bar.test", false),
            (wildcard("https://", ".bar.test"), "https://evil.test/x.bar.test", false),
            (wildcard("https://", ".bar.test"), "https://evil.test:1.bar.test", false),
            (wildcard("https://", ".bar.test"), "https://www.bar.test:8443", false),
            (wildcard("https://", ".bar.test"), "https://www.bar.test:443", true),
            (wildcard("https://", ".bar.test:443"), "https://www.bar.test", true),
            (wildcard("https://", ".bar.test:8443"), "https://www.bar.test:8443", true),
            (wildcard("https://", ""), "https://any.test", true),
            (wildcard("https://", ""), "https://any.test:8443", false),
            (wildcard("https://", ".bar.test"), "https://w", false),
        ] {
            let (_, lines) = judged(
                &plan(std::slice::from_ref(&pattern)),
                &format!("GET / HTTP/1.1\norigin: {origin}"),
            );
            let expected = match expected {
                true => vec![format!("access-control-allow-origin: {origin}")],
                false => vec![],
            };
            assert_eq!(lines, expected, "{pattern:?} {origin}");
        }
    }

    #[test]
    fn a_preflight_gets_what_is_allowed() {
        let asks = "OPTIONS / HTTP/1.1\norigin: https://a.test\naccess-control-request-method: PUT\n\
                    access-control-request-headers: x-9, x-8";
        let mut rule = plan(&[exact("https://a.test")]);
        rule.max_age = Duration::from_secs(3600);
        rule.allow_credentials = true;
        rule.expose = names(&["x-3", "not a token"]);
        let (is_preflight, lines) = judged(&rule, asks);
        assert!(is_preflight);
        let expected = [
            "access-control-allow-origin: https://a.test",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-3",
            "access-control-allow-methods: GET, OPTIONS",
            "access-control-allow-headers: x-1, x-2",
            "access-control-max-age: 3600",
        ];
        assert_eq!(lines, expected);
        assert_eq!(judged(&plan(&[exact("https://b.test")]), asks), (true, vec![]));
    }

    #[test]
    fn wildcards_are_what_the_request_asks_for() {
        let asks = "OPTIONS / HTTP/1.1\norigin: https://a.test\naccess-control-request-method: PUT\n\
                    access-control-request-headers: x-9, x-8";
        for credentials in [true, false] {
            let mut rule = plan(&[OriginPattern::Any]);
            rule.allow_credentials = credentials;
            (rule.methods, rule.headers, rule.expose) = (Names::Any, Names::Any, Names::Any);
            let (_, lines) = judged(&rule, asks);
            let of = |name: &str| {
                let line = lines.iter().find_map(|line| line.strip_prefix(name));
                line.map(|line| line.trim_start_matches(": "))
            };
            assert_eq!(of("access-control-allow-origin"), Some("https://a.test"));
            assert_eq!(of("access-control-allow-methods"), Some("PUT"));
            assert_eq!(of("access-control-allow-headers"), Some("x-9, x-8"));
            assert_eq!(of("access-control-allow-credentials"), credentials.then_some("true"));
            assert_eq!(of("access-control-expose-headers"), (!credentials).then_some("*"));
            let (_, lines) =
                judged(&rule, &asks.replace("\naccess-control-request-headers: x-9, x-8", ""));
            assert!(!lines.iter().any(|line| line.starts_with("access-control-allow-headers")));
        }
    }

    #[test]
    fn only_options_with_origin_and_method_is_a_preflight() {
        let rule = plan(&[OriginPattern::Any]);
        for (head, expected) in [
            ("OPTIONS / HTTP/1.1\norigin: a://b\naccess-control-request-method: GET", true),
            ("OPTIONS / HTTP/1.1\norigin: a://b", false),
            ("OPTIONS / HTTP/1.1\naccess-control-request-method: GET", false),
            ("GET / HTTP/1.1\norigin: a://b\naccess-control-request-method: GET", false),
            ("GET / HTTP/1.1", false),
        ] {
            assert_eq!(judged(&rule, head).0, expected, "{head}");
        }
    }
}
