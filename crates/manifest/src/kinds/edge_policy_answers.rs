//! The sections of an EdgePolicy about what the edge answers itself: error pages, the default backend, maintenance.
//! Not here: limits (`edge_policy_limits`).

use crate::codes;
use crate::decode::{Decode, Decoder, object};
use crate::kinds::edge_policy::{Period, StatusRange, check_path};
use crate::kinds::edge_policy_entry::Cidr;
use crate::node::{Node, Value};
use crate::section::{Field, FieldDoc, Flag, section};
use model::Text;
use std::ops::RangeInclusive;

/// The longest page, so that a refusal costs less than a request.
pub const PAGE_BYTES: usize = 64 << 10;
/// Pages of one policy.
const PAGES: usize = 64;
/// What a page is when it does not say.
const HTML: &str = "text/html; charset=utf-8";
/// Statuses of refusals.
const REFUSALS: RangeInclusive<u16> = 400..=599;

section! {
    pub struct ErrorPageSection {
        /// Statuses that the page is for, each a number or a range like `500-599`, within 400 to 599.
        "statuses" => statuses: Vec<StatusRange>,
        /// Of `body`. Of several pages for a status the client gets the first that its Accept names, else the first.
        "contentType" => content_type: Text = HTML.into(),
        /// The page, at most 64 KiB. `{request-id}` and `{status}` in it are replaced.
        "body" => body: Text,
        /// Instead of `body`: a Service that is asked for the page, as ingress-nginx asks its default backend. The
        /// status stays; where the Service fails, the answer is that of the edge.
        "service" => service: PageServiceRef,
        /// Responses of backends with these statuses are replaced too.
        "intercept" => intercept: Flag = Flag(false),
    }
    checked by error_page
}

section! {
    pub struct MaintenanceSection {
        /// Requests are answered 503.
        "enabled" => enabled: Flag = Flag(false),
        /// Sent as Retry-After, in whole seconds.
        "retryAfter" => retry_after: Period,
        /// Clients that are served all the same: addresses and networks like `10.0.0.0/8`.
        "allow" => allow: Vec<Cidr>,
        /// Of `body`.
        "contentType" => content_type: Text = HTML.into(),
        /// The page, at most 64 KiB; `{request-id}` and `{status}` in it are replaced. Without it, the error page for
        /// 503.
        "body" => body: Text,
    }
    checked by maintenance
}

object! {
    /// A Service as the answer to requests that no rule takes.
    pub struct DefaultBackendRef {
        "name" => name: Text,
        "port" => port: u16,
        "namespace" => namespace: Option<Text>,
    }
}

impl Field for DefaultBackendRef {
    fn words() -> String {
        "`name`, `port`, `namespace`".to_owned()
    }
}

object! {
    /// A Service that is asked for a page.
    pub struct PageServiceRef {
        "name" => name: Text,
        "port" => port: u16,
        "namespace" => namespace: Option<Text>,
        "path" => path: Option<Text>,
    }
    checked by page_service
}

impl Field for PageServiceRef {
    fn words() -> String {
        "`name`, `port`, `namespace`, `path`".to_owned()
    }
}

/// A policy's pages: they count as a whole, so that their order is that of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPages(pub Vec<ErrorPageSection>);

impl Decode for ErrorPages {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let pages: Vec<ErrorPageSection> = Decode::decode(node, decoder)?;
        if pages.len() > PAGES {
            let message = format!("{} pages, at most {PAGES} are taken", pages.len());
            decoder.report(
                &codes::OUT_OF_RANGE,
                node.span,
                message,
                "join pages by ranges of statuses",
            );
        }
        report_hidden(&pages, node, decoder);
        Some(ErrorPages(pages))
    }
}

impl Field for ErrorPages {
    fn words() -> String {
        "list of sections".to_owned()
    }

    fn fields() -> Vec<FieldDoc> {
        ErrorPageSection::fields()
    }
}

fn error_page(page: &ErrorPageSection, node: &Node, decoder: &mut Decoder) {
    match (&page.body, &page.service) {
        (Some(_), Some(_)) => {
            let message = "a page has a `body` or comes from a `service`, not both";
            decoder.report_field(
                node,
                "service",
                &codes::CONTRADICTION,
                message,
                "remove one of them",
            );
        }
        (None, None) => {
            let message = "the page has neither `body` nor `service`";
            decoder.report(&codes::MISSING_FIELD, node.span, message, "add one of them");
        }
        _ => {}
    }
    if page.service.is_some() && page.content_type.is_some() {
        let message = "`contentType` belongs to `body`; the Service says its own";
        decoder.report_field(node, "contentType", &codes::CONTRADICTION, message, "remove it");
    }
    check_statuses(page, node, decoder);
    check_page(page.content_type.as_deref(), page.body.as_deref(), node, decoder);
}

fn check_statuses(page: &ErrorPageSection, node: &Node, decoder: &mut Decoder) {
    let ranges = page.statuses.as_deref().unwrap_or_default();
    if ranges.is_empty() {
        let message = "the page is for no status";
        let help = "add `statuses`, such as [404, \"500-599\"]";
        decoder.report_field(node, "statuses", &codes::MISSING_FIELD, message, help);
    }
    let is_refusal = |range: &StatusRange| {
        let statuses = range.statuses();
        REFUSALS.contains(statuses.start()) && REFUSALS.contains(statuses.end())
    };
    if let Some(range) = ranges.iter().find(|range| !is_refusal(range)) {
        let message = format!("{} is not within 400 to 599", range.shown());
        let help = "pages are for refusals: leave out what is below 400";
        decoder.report_field(node, "statuses", &codes::OUT_OF_RANGE, message, help);
    }
}

fn maintenance(section: &MaintenanceSection, node: &Node, decoder: &mut Decoder) {
    check_page(section.content_type.as_deref(), section.body.as_deref(), node, decoder);
}

/// What pages of all sections have in common.
pub(super) fn check_page(
    content_type: Option<&str>,
    body: Option<&str>,
    node: &Node,
    decoder: &mut Decoder,
) {
    if let Some(bytes) = body.map(str::len).filter(|bytes| *bytes > PAGE_BYTES) {
        let message = format!("the page has {bytes} bytes, at most {PAGE_BYTES} are taken");
        let help = "shorten it, load its pictures from elsewhere, or let a Service give it";
        decoder.report_field(node, "body", &codes::OUT_OF_RANGE, message, help);
    }
    if content_type.is_some_and(|written| !is_media_type(written)) {
        let message = "this is no media type";
        let help = "write it like text/html; charset=utf-8";
        decoder.report_field(node, "contentType", &codes::BAD_VALUE, message, help);
    }
}

/// RFC 9110 section 8.3.1, as far as it is needed to pick a page and to send it.
fn is_media_type(written: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let (essence, _) = written.split_once(';').unwrap_or((written, ""));
    let is_type = essence
        .trim_end()
        .split_once('/')
        .is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    is_type && written.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

fn page_service(service: &PageServiceRef, node: &Node, decoder: &mut Decoder) {
    check_path(service.path.as_deref(), node, decoder);
}

/// A page whose every status has an earlier page of its media type is never sent.
fn report_hidden(pages: &[ErrorPageSection], node: &Node, decoder: &mut Decoder) {
    for (index, page) in pages.iter().enumerate() {
        let earlier = || pages[..index].iter().filter(|earlier| is_like(earlier, page));
        let is_taken = |status| earlier().any(|earlier| covers(earlier, status));
        let mut own = REFUSALS.filter(|status| covers(page, *status)).peekable();
        if own.peek().is_none() || !own.all(is_taken) {
            continue;
        }
        let Value::List(items) = &node.value else { return };
        let Some(item) = items.get(index) else { return };
        let message = format!("earlier pages have every status of page {}", index + 1);
        let help = "remove it, or put the page with fewer statuses first";
        decoder.within(crate::decode::Step::Index(index), item.span, |decoder| {
            decoder.report_field(item, "statuses", &codes::CONTRADICTION, message, help);
        });
    }
}

/// Accept cannot tell the one from the other.
fn is_like(earlier: &ErrorPageSection, page: &ErrorPageSection) -> bool {
    let media = |page: &ErrorPageSection| {
        page.body.as_ref().map(|_| {
            let written = page.content_type().to_ascii_lowercase();
            written.split(';').next().unwrap_or_default().trim().to_owned()
        })
    };
    media(earlier) == media(page)
}

fn covers(page: &ErrorPageSection, status: u16) -> bool {
    page.statuses.iter().flatten().any(|range| range.statuses().contains(&status))
}

#[cfg(test)]
mod tests {
    use crate::{assemble, read_file};
    use model::Text;
    use std::sync::Arc;

    fn codes(page: &str) -> Vec<&'static str> {
        let text = format!(
            "apiVersion: cutwater.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: p}}\nspec:\n  \
             targetRefs: [{{kind: Gateway, name: g}}]\n  errorPages: [{{statuses: [404], body: {page}}}]\n  \
             maintenance: {{body: {page}}}\n"
        );
        let name: Text = "p.yaml".into();
        let read = Arc::new(read_file(&name, &text));
        let reading = assemble(&[(name, text.as_str().into(), read)]);
        reading.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(codes(&"p".repeat(super::PAGE_BYTES)), Vec::<&str>::new());
        let longer = "p".repeat(super::PAGE_BYTES + 1);
        assert_eq!(codes(&longer), ["out-of-range", "out-of-range"]);
    }
}
