//! Who a broken link belongs to. Filled from contracts, namespace labels or a team map.

use crate::Text;

/// A team, and where known its application and the contract that says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub team: Text,
    /// Owner of the application behind the name (`appOwner`).
    pub app: Option<Text>,
    /// `namespace/name` of the EndpointContract, or the hostname of a bare one.
    pub contract: Option<Text>,
    /// Where to reach the team, if a label or a map says so.
    pub escalation: Option<Text>,
}
