//! From what an EdgePolicy says about clients to the plan's form: of a listener, and of a rule. Defaults stand with the
//! fields' declarations.

use manifest::kinds::edge_policy::EdgePolicy;
use model::front::{ListenerPolicy, RulePolicy};

/// Of Gateway and listener together.
pub(crate) fn listener_policy(_policy: &EdgePolicy) -> ListenerPolicy {
    ListenerPolicy {}
}

/// Of Gateway, listener and route together; without the route for requests that no rule takes.
pub(crate) fn rule_policy(_policy: &EdgePolicy) -> RulePolicy {
    RulePolicy {}
}
