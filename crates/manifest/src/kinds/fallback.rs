//! EdgePolicy, `fallback`: what stands in for a backend that has too few endpoints.

use super::edge_policy::AnswerStatus;
use super::rules::count;
use crate::codes;
use crate::decode::{Decode, Decoder, object};
use crate::node::Node;
use crate::section::{Field, section};
use model::Text;
use std::ops::RangeInclusive;

const SERVICES: RangeInclusive<usize> = 0..=4;
/// Of a declared answer.
const BODY_BYTES: usize = 64 << 10;

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
        /// Status of the answer.
        "status" => status: AnswerStatus = AnswerStatus(503),
        /// Content-Type of the answer.
        "contentType" => content_type: Text = "text/plain; charset=utf-8".into(),
        /// As it is sent; at most 64 KiB.
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
    if section.body.as_ref().is_some_and(|body| body.len() > BODY_BYTES) {
        let message = "the body is longer than 64 KiB";
        let help = "make it shorter, or let a Service answer: name it last in `backendRefs`";
        decoder.report_field(node, "body", &codes::OUT_OF_RANGE, message, help);
    }
    let is_value = |text: &Text| !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if section.content_type.as_ref().is_some_and(|text| !is_value(text)) {
        let message = "this is no value of a header";
        let help = "write a media type like `text/html; charset=utf-8`";
        decoder.report_field(node, "contentType", &codes::BAD_VALUE, message, help);
    }
}
