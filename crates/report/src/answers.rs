//! What the edge answers itself, and limits of clients, as JSON. Pages by their length: they may be long.

use crate::plan::{backend, duration, sparse};
use model::Node;
use model::answers::{
    Answers, ConnectionLimits, ErrorPage, Maintenance, PageBody, PageContent, Rates, RequestLimits,
};
use model::front::{ListenerPolicy, RulePolicy};
use serde_json::{Value, json};

pub(crate) fn of_listener(policy: Option<&ListenerPolicy>) -> Value {
    policy.map_or(Value::Null, |policy| connection_limits(&policy.limits))
}

pub(crate) fn of_rule(policy: Option<&Node<RulePolicy>>) -> Value {
    let answers = policy.and_then(|policy| policy.answers.as_deref());
    answers.map_or(Value::Null, self::answers)
}

fn answers(answers: &Answers) -> Value {
    sparse([
        ("errorPages", answers.pages.iter().map(page).collect()),
        ("maintenance", answers.maintenance.as_ref().map_or(Value::Null, maintenance)),
        ("limits", request_limits(&answers.limits)),
    ])
}

fn page(page: &ErrorPage) -> Value {
    let statuses = page.statuses.iter().map(|range| format!("{}-{}", range.start(), range.end()));
    let (written, service) = match &page.content {
        PageContent::Body(body) => (self::body(body), Value::Null),
        PageContent::Service(service) => {
            (Value::Null, json!({"backend": backend(&service.backend), "path": &*service.path}))
        }
    };
    sparse([
        ("statuses", statuses.collect()),
        ("intercept", page.intercept.then_some(true).into()),
        ("body", written),
        ("service", service),
    ])
}

fn body(body: &PageBody) -> Value {
    json!({"contentType": &*body.content_type, "bytes": body.text.len()})
}

fn maintenance(maintenance: &Maintenance) -> Value {
    sparse([
        ("policy", json!(maintenance.policy.to_string())),
        ("retryAfterMs", duration(maintenance.retry_after)),
        ("allowedRanges", maintenance.allow.len().into()),
        ("body", maintenance.body.as_ref().map_or(Value::Null, body)),
    ])
}

fn request_limits(limits: &RequestLimits) -> Value {
    let rates = limits.rates.as_ref();
    let rate = |rate: fn(&Rates) -> Option<std::num::NonZeroU32>| {
        rates.and_then(rate).map_or(Value::Null, |rate| json!(rate))
    };
    sparse([
        ("bodyBytes", limits.body_bytes.into()),
        ("bodyTimeoutMs", duration(limits.body_timeout)),
        ("requestRate", rate(|rates| rates.request)),
        ("responseRate", rate(|rates| rates.response)),
        ("rateGraceMs", duration(rates.map(|rates| rates.grace))),
    ])
}

fn connection_limits(limits: &ConnectionLimits) -> Value {
    sparse([
        ("headers", limits.headers.into()),
        ("headBytes", limits.head_bytes.into()),
        ("targetBytes", limits.target_bytes.into()),
        ("headTimeoutMs", duration(limits.head_timeout)),
        ("idleTimeoutMs", duration(limits.idle_timeout)),
        ("streams", limits.streams.into()),
    ])
}
