//! Strict-Transport-Security (RFC 6797) in answers of the edge's own that no rule's changes reach: refusals. In what
//! rules forward and redirect it is among the changes that are compiled with them.

use crate::additions::Additions;
use crate::connection::Connection;
use crate::view::{EdgeView, RulePlan};
use model::edge::Protocol;

pub(crate) const NAME: &[u8] = b"strict-transport-security";

/// Over TLS alone (section 7.2). Without a rule, what the listener of the host says.
pub(crate) fn add(
    connection: &Connection,
    view: &EdgeView,
    (rule, host): (Option<&RulePlan>, &str),
    additions: &mut Additions,
) {
    if connection.tls.is_none() {
        return;
    }
    let listener = || view.router().port(connection.port, Protocol::Https)?.listener(host);
    let policy = match rule {
        Some(rule) => rule.policy.as_deref(),
        None => listener().and_then(|table| table.listener().unmatched.as_deref()),
    };
    if let Some(value) = policy.and_then(|policy| policy.strict_transport_security.as_deref()) {
        additions.set(NAME, &[value.as_bytes()]);
    }
}
