//! Filters of a rule or of a backend: header edits, rewrite, redirect, CORS, mirrors. A filter that is not served fails its rule, because leaving it
//! out could be unsafe.

use crate::codes;
use crate::report::Problem;
use crate::traffic;
use manifest::kinds::gateway::{
    FilterType, HeaderModifier, HttpRouteFilter, PathModifier, PathModifierType, RequestRedirect,
    Scheme, UrlRewrite,
};
use manifest::kinds::traffic::RequestMirror;
use model::edge::{
    BackendEdits, HeaderEdits, Match, PathMatch, PathRewrite, Protocol, Redirect, Rewrite,
};
use model::traffic::Cors;
use model::{HostPattern, Text};

const UNSUPPORTED: &str = "UnsupportedValue";
const INCOMPATIBLE: &str = "IncompatibleFilters";

#[derive(Default)]
pub(crate) struct Filters<'a> {
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub rewrite: Option<Rewrite>,
    pub redirect: Option<Redirect>,
    pub cors: Option<Box<Cors>>,
    /// With their place among the filters.
    pub mirrors: Vec<(usize, &'a RequestMirror)>,
}

/// `matches` decide whether a prefix can be replaced.
pub(crate) fn of_rule<'a>(
    specs: &'a [HttpRouteFilter],
    matches: &[Match],
) -> Result<Filters<'a>, Problem> {
    let mut filters = Filters::default();
    for (index, spec) in specs.iter().enumerate() {
        let is_single = spec.kind != FilterType::RequestMirror;
        let repeated = is_single && specs[..index].iter().any(|other| other.kind == spec.kind);
        let result = match repeated {
            true => Err(incompatible(format!("filter {} stands twice", spec.kind.name()))),
            false => filters.add(spec, index),
        };
        result.map_err(|problem| problem.within(&format!("filters[{index}]")))?;
    }
    filters.check(matches).map_err(|problem| problem.within("filters"))?;
    Ok(filters)
}

/// Filters at a backend: what has an effect on its share of the requests alone. None when there are no filters.
pub(crate) fn of_backend(
    specs: &[HttpRouteFilter],
    matches: &[Match],
) -> Result<Option<Box<BackendEdits>>, Problem> {
    let belongs_to_a_rule = |filter: &HttpRouteFilter| {
        use FilterType::{Cors, RequestMirror, RequestRedirect};
        matches!(filter.kind, RequestRedirect | RequestMirror | Cors)
    };
    if let Some(index) = specs.iter().position(belongs_to_a_rule) {
        let name = specs[index].kind.name();
        let message = format!("filter {name} is not served at a backend; the rule answers 500");
        let problem = Problem::new(&codes::FILTER_NOT_SERVED, UNSUPPORTED, "", message);
        return Err(problem.help("move it to the rule").within(&format!("filters[{index}]")));
    }
    let Filters { request_headers, response_headers, rewrite, .. } = of_rule(specs, matches)?;
    let rewrite = rewrite.unwrap_or_default();
    let edits = BackendEdits { request_headers, response_headers, rewrite };
    Ok((edits != BackendEdits::default()).then(|| Box::new(edits)))
}

impl<'a> Filters<'a> {
    fn add(&mut self, spec: &'a HttpRouteFilter, index: usize) -> Result<(), Problem> {
        match spec.kind {
            FilterType::RequestHeaderModifier => {
                let modifier = spec.request_header_modifier.as_ref();
                self.request_headers = header_edits(present(modifier, "requestHeaderModifier")?)?;
            }
            FilterType::ResponseHeaderModifier => {
                let modifier = spec.response_header_modifier.as_ref();
                self.response_headers = header_edits(present(modifier, "responseHeaderModifier")?)?;
            }
            FilterType::RequestRedirect => {
                let spec = present(spec.request_redirect.as_ref(), "requestRedirect")?;
                self.redirect = Some(redirect(spec)?);
            }
            FilterType::UrlRewrite => {
                let spec = present(spec.url_rewrite.as_ref(), "urlRewrite")?;
                self.rewrite = Some(rewrite(spec)?);
            }
            FilterType::RequestMirror => {
                let mirror = present(spec.request_mirror.as_deref(), "requestMirror")?;
                self.mirrors.push((index, mirror));
            }
            FilterType::Cors => {
                let cors = traffic::cors(present(spec.cors.as_deref(), "cors")?);
                self.cors = Some(Box::new(cors));
            }
            FilterType::ExternalAuth | FilterType::ExtensionRef => {
                return Err(not_served(spec.kind));
            }
        }
        Ok(())
    }

    fn check(&self, matches: &[Match]) -> Result<(), Problem> {
        if self.redirect.is_some() && self.rewrite.is_some() {
            return Err(incompatible("RequestRedirect and URLRewrite exclude each other"));
        }
        let rewrites = self.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        let redirects = self.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let replaces_prefix = [rewrites, redirects]
            .into_iter()
            .flatten()
            .any(|path| matches!(path, PathRewrite::ReplacePrefix(_)));
        let all_prefixes = matches.iter().all(|m| matches!(m.path, PathMatch::Prefix(_)));
        if replaces_prefix && !all_prefixes {
            return Err(incompatible("ReplacePrefixMatch needs matches of type PathPrefix"));
        }
        Ok(())
    }
}

/// The problem of a filter that is known and not served.
fn not_served(kind: FilterType) -> Problem {
    let message = format!("filter {} is not served yet; the rule answers 500", kind.name());
    Problem::new(&codes::FILTER_NOT_SERVED, UNSUPPORTED, "", message).help("remove the filter")
}

fn present<'a, T>(part: Option<&'a T>, name: &'static str) -> Result<&'a T, Problem> {
    part.ok_or_else(|| {
        let message = format!("the filter says nothing: `{name}` is missing");
        Problem::new(&codes::BAD_FILTER, UNSUPPORTED, "", message)
    })
}

fn incompatible(message: impl Into<String>) -> Problem {
    Problem::new(&codes::INCOMPATIBLE_FILTERS, INCOMPATIBLE, "", message)
}

/// Headers that frame a message or belong to one connection (RFC 9110 section 7.6.1): an edit could make two parties
/// disagree about where a message ends. Also what the edge itself decides (Expect, X-Request-Id): it drops such edits.
const UNTOUCHABLE: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

fn header_edits(spec: &HeaderModifier) -> Result<HeaderEdits, Problem> {
    let pairs = |headers: &[manifest::kinds::gateway::HttpHeader]| {
        headers
            .iter()
            .map(|header| Ok((header_name(&header.name)?, header_value(&header.value)?)))
            .collect::<Result<Vec<(Text, Text)>, Problem>>()
    };
    Ok(HeaderEdits {
        set: pairs(&spec.set)?,
        add: pairs(&spec.add)?,
        remove: spec.remove.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?,
    })
}

fn header_name(name: &str) -> Result<Text, Problem> {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(bad(format!("\"{name}\" is no header name (RFC 9110 section 5.6.2)")));
    }
    let lower = name.to_ascii_lowercase();
    if UNTOUCHABLE.contains(&lower.as_str()) {
        let message = format!("header {lower} belongs to the connection and cannot be edited");
        let help = if lower == "host" { "use a URLRewrite with `hostname`" } else { "remove it" };
        return Err(bad(message).help(help));
    }
    Ok(lower.into())
}

fn header_value(value: &Text) -> Result<Text, Problem> {
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(bad("a header's value holds control characters (RFC 9110 section 5.5)"));
    }
    Ok(value.clone())
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new(&codes::BAD_FILTER, UNSUPPORTED, "", message)
}

fn rewrite(spec: &UrlRewrite) -> Result<Rewrite, Problem> {
    Ok(Rewrite {
        hostname: spec.hostname.as_ref().map(exact_host).transpose()?,
        path: spec.path.as_ref().map(path_rewrite).transpose()?,
    })
}

fn redirect(spec: &RequestRedirect) -> Result<Redirect, Problem> {
    Ok(Redirect {
        scheme: spec.scheme.map(|scheme| match scheme {
            Scheme::Http => Protocol::Http,
            Scheme::Https => Protocol::Https,
        }),
        hostname: spec.hostname.as_ref().map(exact_host).transpose()?,
        port: spec.port,
        path: spec.path.as_ref().map(path_rewrite).transpose()?,
        status: spec.status_code.0,
    })
}

fn exact_host(host: &HostPattern) -> Result<Text, Problem> {
    match host {
        HostPattern::Exact(name) => Ok(name.text()),
        other => Err(bad(format!("\"{other}\" is no precise hostname"))),
    }
}

fn path_rewrite(spec: &PathModifier) -> Result<PathRewrite, Problem> {
    let (value, name) = match spec.kind {
        PathModifierType::ReplaceFullPath => (&spec.replace_full_path, "replaceFullPath"),
        PathModifierType::ReplacePrefixMatch => (&spec.replace_prefix_match, "replacePrefixMatch"),
    };
    let value = present(value.as_ref(), name)?;
    // It goes into the request's target and into Location as it is written (RFC 3986 section 3.3).
    if value.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#')) {
        let message = format!("`{name}` \"{}\" is no path of a URL", value.escape_debug());
        let help = "leave out `?` and `#`, and escape spaces and what is not ASCII, as in `%20`";
        return Err(bad(message).help(help));
    }
    Ok(match spec.kind {
        PathModifierType::ReplaceFullPath => PathRewrite::ReplaceFull(value.clone()),
        PathModifierType::ReplacePrefixMatch => PathRewrite::ReplacePrefix(value.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_a_path_as_it_is_sent() {
        for (value, expected) in [
            ("/a%20b/c", true),
            ("", true),
            ("/a?b", false),
            ("/a#b", false),
            ("/a b", false),
            ("/a\r\nb", false),
            ("/caf\u{e9}", false),
        ] {
            let spec = PathModifier {
                kind: PathModifierType::ReplaceFullPath,
                replace_full_path: Some(value.into()),
                replace_prefix_match: None,
            };
            let made = path_rewrite(&spec);
            assert_eq!(made.is_ok(), expected, "{value:?}");
            assert!(made.err().is_none_or(|problem| problem.code.slug == codes::BAD_FILTER.slug));
        }
    }
}
