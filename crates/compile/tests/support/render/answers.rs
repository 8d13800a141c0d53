//! What listeners and rules say of the edge's own answers and of limits: what is as by default is left out.

use super::target;
use model::Node;
use model::answers::{ConnectionLimits, ErrorPage, PageContent, RequestLimits};
use model::edge::Listener;
use model::front::RulePolicy;

pub fn of_listener(listener: &Listener) -> Vec<String> {
    let limits = listener.policy.as_ref().map(|policy| policy.limits);
    let limits = limits.filter(|limits| *limits != ConnectionLimits::default());
    let unmatched = of_policy(listener.unmatched.as_ref());
    limits
        .map(|limits| format!("{limits:?}"))
        .into_iter()
        .chain(unmatched.map(|line| format!("unmatched: {line}")))
        .collect()
}

pub fn of_policy(policy: Option<&Node<RulePolicy>>) -> impl Iterator<Item = String> {
    let answers = policy.and_then(|policy| policy.answers.as_ref());
    let mut lines = Vec::new();
    if let Some(answers) = answers {
        lines.extend(answers.pages.iter().map(page));
        lines.extend(answers.maintenance.as_ref().map(|maintenance| {
            format!(
                "maintenance by {}, retry after {:?}, allows {:?}, {:?}",
                maintenance.policy, maintenance.retry_after, maintenance.allow, maintenance.body
            )
        }));
        if answers.limits != RequestLimits::default() {
            lines.push(format!("{:?}", answers.limits));
        }
    }
    lines.into_iter()
}

fn page(page: &ErrorPage) -> String {
    let content = match &page.content {
        PageContent::Body(body) => format!("{} {:?}", body.content_type, body.text),
        PageContent::Service(service) => {
            format!("{} {} for {}", target(&service.backend), service.path, service.policy)
        }
    };
    let intercepts = if page.intercept { " and of origins" } else { "" };
    format!("page for {:?}{intercepts}: {content}", page.statuses)
}
