//! EdgePolicy, `fallback`: the Services and the answer that stand in for a backend. A reference that leads nowhere is
//! reported at its policy, and left out.

use crate::backends::{Reached, References};
use crate::policies::Scope;
use crate::report::Report;
use manifest::kinds::fallback::{FallbackRef, ResponseSection};
use model::answers::PageBody;
use model::fallback::{Fallback, StaticResponse, Tier};
use model::{Node, ObjectId};

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
    let specs = section.backends.iter().flat_map(|list| &list.0);
    let tiers = specs.filter_map(|spec| tier(references, scope, policy, spec));
    let fallback = Fallback {
        tiers: tiers.filter(|tier| tier.port != reached.port).collect(),
        response: section.response.as_ref().map(response),
    };
    (fallback != Fallback::default()).then(|| Node::new(fallback))
}

fn tier(
    references: References,
    scope: Scope,
    policy: &ObjectId,
    spec: &FallbackRef,
) -> Option<Tier> {
    let reached = references.of_route(None, policy, spec.into()).ok()?;
    let policy = references.policies.of_backend(scope, &reached).ok()?;
    Some(Tier { port: reached.port, policy })
}

fn response(section: &ResponseSection) -> StaticResponse {
    StaticResponse {
        status: section.status().0,
        page: PageBody { content_type: section.content_type(), text: section.body() },
    }
}
