//! What an entry asks of its clients, and gives them beside what routes say: by listener, before a request is known,
//! and by rule. Pure data of the plan; `edge` carries it out.

use crate::answers::{Answers, ConnectionLimits};

/// Of one listener. Listeners of a port that have to agree before a name is known follow the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerPolicy {
    pub limits: ConnectionLimits,
}

/// Of one rule, or of the requests to a listener that no rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RulePolicy {
    /// None is the default.
    pub answers: Option<Box<Answers>>,
}
