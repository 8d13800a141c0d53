//! EdgePolicy, `fallback`: the Services and the answer that stand in for a backend. A reference that leads nowhere is
//! reported at its policy, and left out.

use crate::backends::{Reached, References};
use crate::policies::Scope;
use crate::report::Report;
use manifest::kinds::fallback::{FallbackRef, FallbackSection, ResponseSection};
use model::Node;
use model::answers::PageBody;
use model::fallback::{Fallback, StaticResponse, Tier};

/// Reports references of policies that lead nowhere.
pub(crate) fn check(references: References, report: &mut Report) {
    for (object, policy) in references.inputs.edge_policies() {
        let section = policy.fallback.as_ref();
        let backends = section.and_then(|section| section.backends.as_ref());
        for (index, spec) in backends.iter().flat_map(|list| list.0.iter().enumerate()) {
            if let Err(problem) = references.of_route(None, &object.id, spec.into()) {
                let field = format!("spec.fallback.backendRefs[{index}]");
                report.problem(&object.id, &problem.within(&field));
            }
        }
    }
}

/// What stands in for a backend; none where no policy says so.
pub(crate) fn of_backend(
    references: References,
    scope: Scope,
    reached: &Reached,
) -> Option<Node<Fallback>> {
    let (policy, section) = references.policies.fallback(scope, reached)?;
    let tier = |spec: &FallbackRef| {
        let reached = references.of_route(None, policy, spec.into()).ok()?;
        let policy = references.policies.of_backend(scope, &reached).ok()?;
        Some(Tier { port: reached.port, policy })
    };
    made(reached, &section, tier, section.response.as_ref().map(response))
}

/// What stands in for a backend of bytes over TCP: Services alone, for no answer could be given.
pub(crate) fn of_stream(
    references: References,
    scope: Scope,
    reached: &Reached,
    is_passed: bool,
) -> Option<Node<Fallback>> {
    let (policy, section) = references.policies.fallback(scope, reached)?;
    let tier = |spec: &FallbackRef| {
        let reached = references.of_stream(policy, spec.into(), false).ok()?;
        let policy = references.policies.of_stream(scope, &reached, is_passed).ok()?;
        Some(Tier { port: reached.port, policy })
    };
    made(reached, &section, tier, None)
}

fn made(
    reached: &Reached,
    section: &FallbackSection,
    tier: impl FnMut(&FallbackRef) -> Option<Tier>,
    response: Option<StaticResponse>,
) -> Option<Node<Fallback>> {
    let tiers = section.backends.iter().flat_map(|list| &list.0).filter_map(tier);
    let tiers = tiers.filter(|tier| tier.port != reached.port).collect();
    let fallback = Fallback { tiers, response };
    (fallback != Fallback::default()).then(|| Node::new(fallback))
}

fn response(section: &ResponseSection) -> StaticResponse {
    StaticResponse {
        status: section.status().0,
        page: PageBody { content_type: section.content_type(), text: section.body() },
    }
}
