//! Matches of GRPCRoutes: a call is a request for `/SERVICE/METHOD` (gRPC over HTTP/2, requests).
//!
//! Ranks order as GRPCRouteRule says: characters of the service, then of the method, then header matches. They share
//! their tables with Ingresses only (a hostname is an HTTPRoute's or a GRPCRoute's), where what names a service or a
//! method stands beside regular expressions of paths.

use crate::codes;
use crate::matches::{header_conditions, ranked_as, regex_of};
use crate::report::Problem;
use manifest::kinds::grpc::{GrpcMethodMatch, GrpcMethodMatchType, GrpcRouteMatch};
use model::edge::{Match, PathMatch, Rank};

/// The matches of a rule that can be served, and what is wrong with the others.
pub(crate) fn of_rule(specs: &[GrpcRouteMatch]) -> (Vec<Match>, Vec<Problem>) {
    if specs.is_empty() {
        let everything = PathMatch::Prefix("".into());
        return (vec![ranked_as(everything, Vec::new(), Rank([1, 0, 0, 0, 0]))], Vec::new());
    }
    let (mut matches, mut problems) = (Vec::with_capacity(specs.len()), Vec::new());
    for (index, spec) in specs.iter().enumerate() {
        match of_match(spec) {
            Ok(found) => matches.push(found),
            Err(problem) => problems.push(problem.within(&format!("matches[{index}]"))),
        }
    }
    (matches, problems)
}

fn of_match(spec: &GrpcRouteMatch) -> Result<Match, Problem> {
    let path = match &spec.method {
        Some(method) => path(method).map_err(|problem| problem.within("method"))?,
        None => PathMatch::Prefix("".into()),
    };
    let conditions = header_conditions(&spec.headers)?;
    let count = |text: Option<&str>| text.map_or(0, |text| text.chars().count() as u32);
    let part = |of: fn(&GrpcMethodMatch) -> Option<&str>| count(spec.method.as_ref().and_then(of));
    let class = if spec.method.is_some() { 2 } else { 1 };
    let rank = Rank([
        class,
        part(|method| method.service.as_deref()),
        part(|method| method.method.as_deref()),
        conditions.len() as u32,
        0,
    ]);
    Ok(ranked_as(path, conditions, rank))
}

fn path(spec: &GrpcMethodMatch) -> Result<PathMatch, Problem> {
    let (service, method) = (spec.service.as_deref(), spec.method.as_deref());
    match (spec.kind, service, method) {
        (_, None, None) => {
            let message = "a match by method names neither a service nor a method";
            let problem = Problem::new(&codes::BAD_MATCH, "UnsupportedValue", "", message);
            Err(problem.help("name one, or leave `method` away"))
        }
        (GrpcMethodMatchType::Exact, Some(service), Some(method)) => {
            Ok(PathMatch::Exact(format!("/{service}/{method}").into()))
        }
        (GrpcMethodMatchType::Exact, Some(service), None) => {
            Ok(PathMatch::Prefix(format!("/{service}").into()))
        }
        (GrpcMethodMatchType::Exact, None, Some(method)) => {
            Ok(PathMatch::Regex(format!("/[^/]+/{method}").into()))
        }
        (GrpcMethodMatchType::RegularExpression, service, method) => {
            // Each by itself first: together they could be what neither is.
            for (field, pattern) in [("service", service), ("method", method)] {
                pattern.map_or(Ok(()), |pattern| regex_of(pattern, field))?;
            }
            let part = |pattern: Option<&str>| format!("(?:{})", pattern.unwrap_or("[^/]+"));
            let whole = format!("/{}/{}", part(service), part(method));
            regex_of(&whole, "").map(|()| PathMatch::Regex(whole.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: GrpcMethodMatchType, service: &str, method: &str) -> GrpcRouteMatch {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        let method = GrpcMethodMatch { kind, service: some(service), method: some(method) };
        GrpcRouteMatch { method: Some(method), headers: Vec::new() }
    }

    #[test]
    fn a_method_is_a_path() {
        use GrpcMethodMatchType::{Exact, RegularExpression};
        for (kind, service, method, expected) in [
            (Exact, "a.B", "C", Some(PathMatch::Exact("/a.B/C".into()))),
            (Exact, "a.B", "", Some(PathMatch::Prefix("/a.B".into()))),
            (Exact, "", "C", Some(PathMatch::Regex("/[^/]+/C".into()))),
            (
                RegularExpression,
                "a|b",
                "Get.*",
                Some(PathMatch::Regex("/(?:a|b)/(?:Get.*)".into())),
            ),
            (RegularExpression, "", "C", Some(PathMatch::Regex("/(?:[^/]+)/(?:C)".into()))),
            (RegularExpression, "a(", ")C", None),
            (Exact, "", "", None),
        ] {
            let found = of_match(&spec(kind, service, method)).ok().map(|found| found.path);
            assert_eq!(found, expected, "{service} {method}");
        }
    }

    #[test]
    fn the_longer_service_comes_first_then_the_longer_method() {
        use GrpcMethodMatchType::Exact;
        let rank = |spec: GrpcRouteMatch| of_match(&spec).expect("a match").rank;
        let ordered = [
            rank(spec(Exact, "shop.Cart", "Add")),
            rank(spec(Exact, "shop.Cart", "")),
            rank(spec(Exact, "shop", "AddItemToTheCart")),
            rank(spec(Exact, "", "AddItem")),
            rank(spec(Exact, "", "Add")),
            rank(GrpcRouteMatch { method: None, headers: Vec::new() }),
        ];
        assert!(ordered.is_sorted_by(|a, b| a > b), "{ordered:?}");
    }
}
