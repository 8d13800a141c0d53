//! From what an EdgePolicy says about clients to the plan's form: of a listener, and of a rule. Defaults stand with the
//! fields' declarations.

use crate::entry_settings;
use manifest::kinds::edge_policy::EdgePolicy;
use model::front::{ListenerPolicy, RulePolicy};

/// Of Gateway and listener together.
pub(crate) fn listener_policy(policy: &EdgePolicy) -> ListenerPolicy {
    ListenerPolicy {
        client_address: entry_settings::client_address(policy),
        proxy_protocol: entry_settings::accept_proxy(policy),
        ..ListenerPolicy::default()
    }
}

/// Of Gateway, listener and route together; without the route for requests that no rule takes.
pub(crate) fn rule_policy(_policy: &EdgePolicy) -> RulePolicy {
    RulePolicy::default()
}
