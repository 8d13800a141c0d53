//! EdgePolicy, `fallback`: what stands in for a backend that has too few endpoints.

use super::edge_policy::AnswerStatus;
use super::edge_policy_answers::check_page;
use super::rules::count;
use crate::codes;
use crate::decode::{Decode, Decoder, object};
use crate::node::Node;
use crate::section::{Field, section};
use model::Text;
use std::ops::RangeInclusive;

const SERVICES: RangeInclusive<usize> = 0..=4;

section! {
    pub struct FallbackSection {
        /// Services of the policy's namespace, at most 4. The first that has enough endpoints in use takes the requests,
        /// where the backend itself has not: fewer than `loadBalancing.panicPercent`, or none.
        "backendRefs" => backends: FallbackRefs,
        /// What is answered where no endpoint of any of them is in use, or none could be reached.
        "response" => response: ResponseSection,
    }
    checked by fallback
}

section! {
    pub struct ResponseSection {
        /// Status of the answer. With 204, 205 and 304 it has no content.
        "status" => status: AnswerStatus = AnswerStatus(503),
        /// Content-Type of the answer.
        "contentType" => content_type: Text = "text/plain; charset=utf-8".into(),
        /// At most 64 KiB; `{request-id}` and `{status}` in it are replaced.
        "body" => body: Text = "Not available at the moment.\n".into(),
    }
    checked by response
}

object! {
    pub struct FallbackRef {
        "group" => group: Text = "".into(),
        "kind" => kind: Text = "Service".into(),
        "name" => name: Text,
        "port" => port: u16,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackRefs(pub Vec<FallbackRef>);

impl Decode for FallbackRefs {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        Vec::decode(node, decoder).map(FallbackRefs)
    }
}

impl Field for FallbackRefs {
    fn words() -> String {
        "list of `name`, `port`".to_owned()
    }
}

fn fallback(_: &FallbackSection, node: &Node, decoder: &mut Decoder) {
    count(node, "backendRefs", SERVICES, decoder);
}

fn response(section: &ResponseSection, node: &Node, decoder: &mut Decoder) {
    check_page(section.content_type.as_deref(), section.body.as_deref(), node, decoder);
    let status = section.status.filter(|status| matches!(status.0, 204 | 205 | 304));
    let Some(AnswerStatus(status)) = status else { return };
    for field in ["contentType", "body"] {
        if node.field(field).is_some() {
            let message = format!("an answer with status {status} has no content (RFC 9110)");
            let help = "remove it, or use another status";
            decoder.report_field(node, field, &codes::CONTRADICTION, message, help);
        }
    }
}
