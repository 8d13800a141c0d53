//! Floor 1: decisions about traffic to endpoints. Events and the time go in, decisions come out: balancing, ejection,
//! health, breakers, retry budgets. Random numbers come from a seed, so that a simulation can be repeated.
//!
//! ```text
//! Endpoint   one an address, shared by all workers and routes: in or out, and why; written when something is wrong
//! Balancer   one a worker: its own load of each endpoint, and the endpoints in use of each backend
//! Backend    one a backend, shared by all workers: gauges of its limits, its retry budget
//! ```
//!
//! Not here: connections, timers, metrics (`edge`), probes (`instance`), the plan's types (`model::traffic`).
#![forbid(unsafe_code)]

mod backend;
mod balance;
mod budget;
mod census;
mod connections;
mod endpoint;
pub mod external;
mod health;
mod load;
mod maglev;
mod overflow;
mod random;
mod rates;
mod retry;
mod tier;
mod trickle;

pub use backend::{Backend, Gauge};
pub use balance::{Balancer, Choice, Members};
pub use budget::Budget;
pub use census::{Open, elsewhere};
pub use connections::Connections;
pub use endpoint::{Endpoint, Failing, Outcome, Reason, State, TakenOutFor, is_within_share};
pub use health::Checker;
pub use overflow::{LEVELS, Level, level, shares};
pub use random::{Random, hash};
pub use retry::{Attempt, Failure, Repeat, hedges, repeat};
pub use tier::{Standing, Takes, takes};
