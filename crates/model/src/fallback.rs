//! What stands in for a backend that has too few endpoints. Pure data of the plan; `traffic` decides when, `edge`
//! carries it out.

use crate::Node;
use crate::answers::PageBody;
use crate::id::ServicePort;
use crate::traffic::BackendPolicy;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fallback {
    /// In the order in which they are asked, after the backend itself.
    pub tiers: Vec<Tier>,
    /// The answer where no endpoint of any of them is in.
    pub response: Option<StaticResponse>,
}

/// A Service port as it is used in place of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    pub port: ServicePort,
    pub policy: Option<Node<BackendPolicy>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticResponse {
    /// 204, 205 and 304 have no page (RFC 9110 section 6.4.1).
    pub status: u16,
    pub page: PageBody,
}
