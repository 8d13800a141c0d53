//! From what an EdgePolicy says about clients to the plan's form: of a listener, and of a rule. Defaults stand with the
//! fields' declarations.

use crate::answers::{self, Level};
use crate::backends::References;
use crate::policies::Scope;
use manifest::kinds::edge_policy::EdgePolicy;
use model::front::{ListenerPolicy, RulePolicy};

/// Of Gateway and listener together.
pub(crate) fn listener_policy(policy: &EdgePolicy) -> ListenerPolicy {
    ListenerPolicy {
        limits: policy.limits.as_ref().map(answers::connection_limits).unwrap_or_default(),
    }
}

/// Of Gateway, listener and route together; without the route for requests that no rule takes.
pub(crate) fn rule_policy(
    policy: &EdgePolicy,
    levels: &[Level],
    references: References,
    scope: Scope,
) -> RulePolicy {
    RulePolicy { answers: answers::answers(policy, levels, references, scope) }
}
