//! The one request that is judged: a host, or a URL.

use model::Hostname;
use model::edge::Protocol;
use std::fmt;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub host: Hostname,
    /// None: HTTPS where a listener serves it, else HTTP.
    pub scheme: Option<Protocol>,
    /// As written in the URL, if at all.
    pub port: Option<u16>,
    pub path: String,
    pub query: Option<String>,
    pub method: String,
    /// The client's address. None: nobody in particular.
    pub from: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQuestion(String);

impl fmt::Display for BadQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadQuestion {}

impl Question {
    /// `shop.example.test`, or `https://shop.example.test:8443/cart?id=1`.
    pub fn parse(text: &str, method: &str) -> Result<Question, BadQuestion> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                (Some(Protocol::Https), rest)
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                (Some(Protocol::Http), rest)
            }
            Some((other, _)) => {
                return Err(BadQuestion(format!(
                    "scheme `{other}` is not served; use http or https"
                )));
            }
            None => (None, text),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        let (host, port) =
            match authority.rsplit_once(':') {
                Some((host, port)) => {
                    let port = port.parse().ok().filter(|port| *port != 0);
                    (
                        host,
                        Some(port.ok_or_else(|| {
                            BadQuestion(format!("`{authority}` has no valid port"))
                        })?),
                    )
                }
                None => (authority, None),
            };
        let host = Hostname::parse(host)
            .map_err(|error| BadQuestion(format!("`{text}` has no valid host: {error}")))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let is_token = !method.is_empty()
            && method.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            return Err(BadQuestion(format!("`{method}` is no method")));
        }
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Question { host, scheme, port, path, query, method: method.to_owned(), from: None })
    }

    /// As a client with this address asks.
    pub fn from(self, address: Option<IpAddr>) -> Question {
        Question { from: address.map(|address| address.to_canonical()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_urls() {
        for (text, expected) in [
            ("shop.example.test", Some((None, None, "/", None))),
            ("https://shop.example.test", Some((Some(Protocol::Https), None, "/", None))),
            (
                "http://shop.example.test:8080/a/b?c=d#e",
                Some((Some(Protocol::Http), Some(8080), "/a/b", Some("c=d"))),
            ),
            ("shop.example.test?x", Some((None, None, "/", Some("x")))),
            ("HTTPS://shop.example.test", Some((Some(Protocol::Https), None, "/", None))),
            ("https://[::1]/", None),
            ("https://user:pw@shop.example.test/", None),
            ("ftp://shop.example.test", None),
            ("https://", None),
            ("shop.example.test:0", None),
            ("bad_host!", None),
        ] {
            let parsed = Question::parse(text, "GET").ok();
            let shown =
                parsed.as_ref().map(|q| (q.scheme, q.port, q.path.as_str(), q.query.as_deref()));
            assert_eq!(shown, expected, "{text}");
        }
        assert!(Question::parse("shop.example.test", "BAD METHOD").is_err());
    }
}
