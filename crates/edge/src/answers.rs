//! What the edge answers instead of an origin, made ready: which page a refused request gets, and whom maintenance
//! turns away. Not here: sending it (`page`).

use crate::refusal::{Cause, Refusal};
use crate::view::RulePlan;
use model::Text;
use model::answers::{ErrorPage, Maintenance, PageBody, PageContent, RequestLimits};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Of one rule, or of requests that no rule takes.
pub(crate) struct Answers {
    pages: Box<[Page]>,
    maintenance: Option<Box<Closed>>,
    pub limits: RequestLimits,
}

pub(crate) struct Page {
    statuses: Box<[RangeInclusive<u16>]>,
    intercept: bool,
    pub content: Content,
}

pub(crate) enum Content {
    Body(Template),
    /// None where the Service cannot be used.
    Service(Option<Box<Asked>>),
}

/// The Service that gives a page, as a rule of its own.
pub(crate) struct Asked {
    pub rule: RulePlan,
    pub path: Text,
}

/// What a page is made of, as it leaves.
pub(crate) struct Template {
    pub content_type: Text,
    text: Text,
    /// In order of place.
    spots: Box<[Spot]>,
}

/// A placeholder and where it stands.
struct Spot {
    at: usize,
    what: Placeholder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    RequestId,
    Status,
}

impl Placeholder {
    const ALL: [Placeholder; 2] = [Placeholder::RequestId, Placeholder::Status];

    fn name(self) -> &'static str {
        match self {
            Placeholder::RequestId => "{request-id}",
            Placeholder::Status => "{status}",
        }
    }
}

struct Closed {
    plan: Maintenance,
    body: Option<Page>,
    retry_after: Option<String>,
}

impl Answers {
    /// `asked` makes the rule of a page's Service.
    pub fn new(
        plan: &model::answers::Answers,
        mut asked: impl FnMut(&model::answers::PageService) -> Option<Box<Asked>>,
    ) -> Answers {
        let mut page = |page: &ErrorPage| Page {
            statuses: page.statuses.as_slice().into(),
            intercept: page.intercept,
            content: match &page.content {
                PageContent::Body(body) => Content::Body(Template::new(body)),
                PageContent::Service(service) => Content::Service(asked(service)),
            },
        };
        Answers {
            pages: plan.pages.iter().map(&mut page).collect(),
            maintenance: plan.maintenance.as_ref().map(|plan| Box::new(Closed::new(plan))),
            limits: plan.limits,
        }
    }

    /// The refusal of a client that maintenance turns away, and what it is told about another time.
    pub fn turns_away(&self, client: IpAddr) -> Option<(Refusal, Option<&str>)> {
        let closed = self.maintenance.as_deref().filter(|closed| closed.plan.is_for(client))?;
        Some((Refusal::Edge(Cause::Maintenance), closed.retry_after.as_deref()))
    }

    /// The page for a refusal, by what the client accepts.
    pub fn page(&self, refusal: Refusal, accept: &[u8]) -> Option<&Page> {
        let of_maintenance = self.maintenance.as_deref().and_then(|closed| closed.body.as_ref());
        match of_maintenance.filter(|_| refusal == Refusal::Edge(Cause::Maintenance)) {
            Some(page) => Some(page),
            None => self.page_for(refusal.status(), accept),
        }
    }

    /// Whether a response of an origin with this status gives way to a page.
    pub fn intercepts(&self, status: u16) -> bool {
        self.pages.iter().any(|page| page.intercept && page.is_for(status))
    }

    pub fn has_interceptions(&self) -> bool {
        self.pages.iter().any(|page| page.intercept)
    }

    /// The first page of the first range that Accept names with a weight other than zero (RFC 9110 section 12.5.1), or
    /// else the first; how the others are weighed is not looked at.
    fn page_for(&self, status: u16, accept: &[u8]) -> Option<&Page> {
        let pages = || self.pages.iter().filter(|page| page.is_for(status));
        let first = pages().next()?;
        let ranges = accept.split(|&b| b == b',');
        let wanted = ranges.filter_map(|range| pages().find(|page| page.is_in(range))).next();
        Some(wanted.unwrap_or(first))
    }
}

impl Page {
    fn is_for(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(&status))
    }

    /// A Service looks for itself at what the client accepts.
    fn is_in(&self, range: &[u8]) -> bool {
        match &self.content {
            Content::Body(template) => template.is_in(range),
            Content::Service(_) => true,
        }
    }
}

impl Closed {
    fn new(plan: &Maintenance) -> Closed {
        let page = |body: &PageBody| Page {
            statuses: Box::default(),
            intercept: false,
            content: Content::Body(Template::new(body)),
        };
        // A part of a second is a second: zero would ask for another request at once.
        let seconds = |time: std::time::Duration| time.as_millis().div_ceil(1_000).to_string();
        Closed {
            body: plan.body.as_ref().map(page),
            retry_after: plan.retry_after.map(seconds),
            plan: plan.clone(),
        }
    }
}

impl Template {
    pub fn new(body: &PageBody) -> Template {
        let found = Placeholder::ALL.into_iter().flat_map(|what| {
            body.text.match_indices(what.name()).map(move |(at, _)| Spot { at, what })
        });
        let mut spots: Vec<Spot> = found.collect();
        spots.sort_unstable_by_key(|spot| spot.at);
        Template {
            content_type: body.content_type.clone(),
            text: body.text.clone(),
            spots: spots.into(),
        }
    }

    /// As it is, where it has no placeholder.
    pub fn plain(&self) -> Option<&[u8]> {
        self.spots.is_empty().then_some(self.text.as_bytes())
    }

    pub fn filled(&self, id: &str, status: u16) -> Vec<u8> {
        let mut page = Vec::with_capacity(self.text.len() + 32 * self.spots.len());
        let mut from = 0;
        for Spot { at, what } in &self.spots {
            page.extend_from_slice(self.text[from..*at].as_bytes());
            match what {
                Placeholder::RequestId => page.extend_from_slice(id.as_bytes()),
                Placeholder::Status => {
                    page.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
                }
            }
            from = at + what.name().len();
        }
        page.extend_from_slice(self.text[from..].as_bytes());
        page
    }

    fn is_in(&self, range: &[u8]) -> bool {
        let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let own = self.content_type.split(';').next().unwrap_or_default().trim().as_bytes();
        let is_named = match name {
            b"*/*" => true,
            [kind @ .., b'/', b'*'] => {
                let own = own.split(|&b| b == b'/').next().unwrap_or_default();
                own.eq_ignore_ascii_case(kind)
            }
            name => own.eq_ignore_ascii_case(name),
        };
        is_named && !parts.any(crate::refusal::is_weight_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content_type: &str, text: &str) -> PageBody {
        PageBody { content_type: content_type.into(), text: text.into() }
    }

    fn page(statuses: &[RangeInclusive<u16>], content_type: &str) -> ErrorPage {
        ErrorPage {
            statuses: statuses.to_vec(),
            intercept: false,
            content: PageContent::Body(body(content_type, content_type)),
        }
    }

    fn answers(pages: Vec<ErrorPage>) -> Answers {
        let plan = model::answers::Answers { pages, ..Default::default() };
        Answers::new(&plan, |_| None)
    }

    #[test]
    fn the_first_page_that_is_accepted_or_else_the_first() {
        let answers = answers(vec![
            page(&[404..=404], "text/html; charset=utf-8"),
            page(&[400..=499, 502..=502], "application/json"),
            page(&[404..=404], "text/plain"),
        ]);
        for (status, accept, expected) in [
            (404, "", Some("text/html; charset=utf-8")),
            (404, "*/*", Some("text/html; charset=utf-8")),
            (404, "image/png", Some("text/html; charset=utf-8")),
            (404, "Application/JSON", Some("application/json")),
            (404, "text/html;q=0, application/*", Some("application/json")),
            (404, "image/png, text/plain;q=0.1", Some("text/plain")),
            (404, "TEXT/*", Some("text/html; charset=utf-8")),
            (410, "text/html", Some("application/json")),
            (502, "text/html", Some("application/json")),
            (501, "text/html", None),
        ] {
            let found =
                answers.page_for(status, accept.as_bytes()).map(|page| match &page.content {
                    Content::Body(template) => &*template.content_type,
                    Content::Service(_) => "a Service",
                });
            assert_eq!(found, expected, "{status} {accept}");
        }
    }

    #[test]
    fn placeholders_are_filled_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("plain {x}", "plain {x}"),
            ("{status}", "503"),
            ("a {request-id} b {status}{status} c", "a ID b 503503 c"),
            ("{request-id", "{request-id"),
            ("{{status}}", "{503}"),
        ] {
            let template = Template::new(&body("text/plain", text));
            assert_eq!(template.filled("ID", 503), expected.as_bytes());
            assert_eq!(template.plain().is_some(), text == expected);
        }
    }

    #[test]
    fn maintenance_has_its_own_page_and_lets_some_through() {
        let maintenance = Maintenance {
            retry_after: Some(std::time::Duration::from_millis(1_001)),
            allow: model::network::Network::parse("10.0.0.0/8").into_iter().collect(),
            body: Some(body("text/plain", "later")),
            policy: model::ObjectId::new(model::Kind::EDGE_POLICY, "n", "p"),
        };
        let plan = model::answers::Answers {
            pages: vec![page(&[503..=503], "text/html")],
            maintenance: Some(maintenance),
            ..Default::default()
        };
        let answers = Answers::new(&plan, |_| None);
        let address = |text: &str| text.parse().expect("an address");
        assert!(answers.turns_away(address("10.1.2.3")).is_none());
        let (refusal, retry_after) = answers.turns_away(address("192.0.2.1")).expect("closed");
        assert_eq!(retry_after, Some("2"));
        let text = |refusal| match &answers.page(refusal, b"text/html").expect("a page").content {
            Content::Body(template) => template.filled("", 503),
            Content::Service(_) => Vec::new(),
        };
        assert_eq!(text(refusal), b"later");
        assert_eq!(text(Refusal::Edge(Cause::NoEndpoint)), b"text/html");
    }
}
