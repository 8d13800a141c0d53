//! What stands in for a backend that has too few endpoints: other backends, then a declared answer. Which of them takes
//! a request, `traffic` decides.

use crate::balance::Picked;
use crate::view::{Backend, Backends, EdgeView};
use crate::worker::Worker;
use model::fallback::StaticResponse;
use std::iter::once;
use traffic::{Choice, Standing, Takes, takes};

/// A fallback made ready.
pub(crate) struct Fallback {
    /// Numbers of backends.
    pub tiers: Box<[u32]>,
    pub response: Option<Box<StaticResponse>>,
}

/// Where a request goes. The place of an endpoint is among those of the backend beside it, and of no other.
#[derive(Clone, Copy)]
pub(crate) enum Way<'v> {
    /// Its session is there, and stays while that endpoint is in.
    Held {
        backend: Backend<'v>,
        share: usize,
        at: usize,
    },
    Picked(Picked<'v>),
    /// Another Service for the one at this place of the rule. It holds no sessions.
    StandIn {
        backend: Backend<'v>,
        share: usize,
    },
    /// What the rule declares for when no backend has an endpoint.
    Answer(&'v StaticResponse),
}

/// Of a request that was to go to this share of a rule; as picked where nothing is amiss with that.
pub(crate) fn instead<'v>(
    (worker, view): (&Worker, &'v EdgeView),
    backends: &'v Backends,
    picked: Picked<'v>,
) -> Way<'v> {
    let as_picked = Way::Picked(picked);
    let share = match picked {
        Picked::Backend { share, .. } | Picked::NoEndpoint { share } => share,
        Picked::InvalidBackend | Picked::NoWeight => return as_picked,
    };
    let Some(fallback) = backends.fallback(share) else { return as_picked };
    let own = backends.shares().get(share).and_then(|share| share.backend);
    let tiers = own.iter().chain(&*fallback.tiers);
    let standings = tiers.clone().map(|number| standing(worker, view, *number));
    match takes(standings) {
        // The backend itself.
        Takes::Enough(0) | Takes::Panic(0) => as_picked,
        Takes::Enough(at) | Takes::Panic(at) => {
            let backend = tiers.clone().nth(at).and_then(|number| view.backend(*number));
            backend.map_or(as_picked, |backend| Way::StandIn { backend, share })
        }
        Takes::Nobody => fallback.response.as_deref().map_or(as_picked, Way::Answer),
    }
}

/// The backend that is asked after one that could not be reached.
pub(crate) fn next<'v>(
    (worker, view): (&Worker, &'v EdgeView),
    (backends, share): (&Backends, usize),
    failed: Backend<'_>,
) -> Option<Backend<'v>> {
    let fallback = backends.fallback(share)?;
    let own = backends.shares().get(share)?.backend?;
    let mut behind = once(own)
        .chain(fallback.tiers.iter().copied())
        .skip_while(|number| *number != failed.number())
        .skip(1);
    let number = behind.find(|number| standing(worker, view, *number).used > 0)?;
    view.backend(number)
}

fn standing(worker: &Worker, view: &EdgeView, number: u32) -> Standing {
    let Some(backend) = view.backend(number) else { return Standing::default() };
    let choice = Choice {
        group: number,
        now_ms: worker.deadlines.now_ms(),
        changes: view.live().changes(),
        levels: backend.levels(),
        key: None,
        tried: &[],
    };
    let mut balancer = worker.balancer.borrow_mut();
    balancer.standing(backend.members, &backend.policy.balance, &choice)
}
