//! Floor 1: which listener, route and rule take a request, why the others do not, and what a rewrite or a redirect
//! makes of a path. Match tables are built from [`model::edge::EdgePlan`] and answer without a lock and, once the
//! worker's [`Scratch`] is warm, without an allocation.
//!
//! Not here: reading requests (`h1`, `edge`), header edits and backends (`edge`), what a manifest means (`compile`).
//!
//! ```text
//! Router ── PortTable (port, protocol) ── ListenerTable (host; shared by Arc over snapshots)
//!                                           └ layers by effective host ── paths (tree, regexes) ── conditions
//! ```
#![forbid(unsafe_code)]

mod condition;
mod hosts;
mod index;
mod layer4;
mod listener;
mod paths;
mod pattern;
mod redirect;
mod request;
mod rewrite;
mod router;
mod trace;

pub use layer4::{StreamListener, StreamPort, StreamTable, TlsEntry};
pub use listener::{ListenerTable, Matched, RuleSlot, Taken};
pub use pattern::{Scratch, check_regex};
pub use redirect::{RedirectRequest, redirect_location};
pub use request::{Headers, Request};
pub use rewrite::rewrite_path;
pub use router::{PortTable, Router};
pub use trace::{
    LayerTrace, ListenerTrace, ListenerVerdict, MatchTrace, Miss, RuleTrace, RuleVerdict, Trace,
};
