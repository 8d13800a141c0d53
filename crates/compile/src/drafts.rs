//! Drafts of HTTPRoutes, kept between two compiles.
//!
//! A draft depends on its object, on the Services, on the ReferenceGrants and on the policies with the objects that
//! hold their authorities, and on nothing else. So it holds for as long as its object is the same (by identity: a file
//! that is read again makes new objects) and none of the others came, went or changed (by value: one that was read
//! again and says the same is no change). Of policies, those alone count that reach the route (`affected`). What is kept
//! decides nothing: the result is that of a compile from nothing.

use crate::affected::Affected;
use crate::backends::References;
use crate::classes::age;
use crate::policies;
use crate::reuse::Earlier;
use crate::routes::{self, RouteDraft};
use manifest::kinds::gateway::HttpRoute;
use manifest::{Inputs, Object};
use std::sync::Arc;

/// What a caller that compiles again and again keeps for [`crate::compile_with`].
#[derive(Clone, Debug, Default)]
pub struct Drafts {
    /// In order of age.
    routes: Vec<Kept>,
    /// Services and ReferenceGrants.
    world: Vec<Arc<Object>>,
    /// Policies, and what these refer to.
    policies: Vec<Arc<Object>>,
}

#[derive(Clone, Debug)]
struct Kept {
    object: Arc<Object>,
    draft: Box<RouteDraft>,
}

impl Drafts {
    /// A draft for each route, in the order of `routes`, which are sorted by age. Drafts of other routes are forgotten.
    pub(crate) fn of<'d>(
        &'d mut self,
        routes: &[(&Arc<Object>, &HttpRoute)],
        references: References,
        earlier: &Earlier,
    ) -> impl Iterator<Item = &'d RouteDraft> + use<'d> {
        self.forget_stale(references.inputs);
        let mut held = std::mem::take(&mut self.routes).into_iter().peekable();
        self.routes.reserve_exact(routes.len());
        for &(object, spec) in routes {
            let is_gone = |kept: &Kept| {
                !Arc::ptr_eq(&kept.object, object) && age(&kept.object) <= age(object)
            };
            while held.next_if(is_gone).is_some() {}
            let kept = held.next_if(|kept| Arc::ptr_eq(&kept.object, object));
            self.routes.push(kept.unwrap_or_else(|| Kept {
                object: Arc::clone(object),
                draft: Box::new(routes::draft(object, spec, references, earlier)),
            }));
        }
        self.routes.iter().map(|kept| &*kept.draft)
    }

    fn forget_stale(&mut self, inputs: &Inputs) {
        let world = world(inputs);
        let policies: Vec<_> = policies::world(inputs).cloned().collect();
        if !is_same(&world, &self.world) {
            self.routes.clear();
        } else if !self.routes.is_empty() && !is_same(&policies, &self.policies) {
            match Affected::between(&self.policies, &policies) {
                Some(affected) => self.routes.retain(|kept| !affected.reach(&kept.object)),
                None => self.routes.clear(),
            }
        }
        (self.world, self.policies) = (world, policies);
    }
}

fn world(inputs: &Inputs) -> Vec<Arc<Object>> {
    let services = inputs.services().map(|(object, _)| object);
    let grants = inputs.reference_grants().map(|(object, _)| object);
    services.chain(grants).cloned().collect()
}

fn is_same(a: &[Arc<Object>], b: &[Arc<Object>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}
