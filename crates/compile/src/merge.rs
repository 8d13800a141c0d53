//! Policies on their targets (GEP-713), for every kind of policy: which one is attached to what, which lose against an
//! older one, which name a target that is not there. Laying levels over each other is `manifest::section::merged`; what
//! a level is for a kind of policy stands with that kind.

use crate::classes::age;
use crate::codes;
use crate::report::{Problem, Report};
use manifest::Object;
use manifest::kinds::policy::PolicyTarget;
use model::hash::HashMap;
use model::status::{Condition, ObjectStatus, ParentStatus};
use model::{Kind, ObjectId, Text};
use std::sync::Arc;

/// What a policy may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target<'a> {
    pub kind: Kind,
    pub namespace: &'a str,
    pub name: &'a str,
    pub section: Option<&'a str>,
}

impl Target<'_> {
    pub fn id(&self) -> ObjectId {
        ObjectId::new(self.kind, self.namespace, self.name)
    }
}

/// One entry of a policy's `targetRefs`.
pub(crate) struct Claim<'a, P> {
    pub object: &'a Object,
    pub spec: &'a P,
    pub target: Target<'a>,
    /// Why it has no effect.
    pub refused: Option<Problem>,
    /// Of `targetRefs`.
    index: usize,
    /// The policy that it lost against.
    older: Option<&'a ObjectId>,
}

/// Policies of one kind.
pub(crate) struct Attached<'a, P> {
    claims: Vec<Claim<'a, P>>,
    by_target: HashMap<Target<'a>, usize>,
}

impl<P> Default for Attached<'_, P> {
    fn default() -> Self {
        Attached { claims: Vec::new(), by_target: HashMap::default() }
    }
}

impl<'a, P> Attached<'a, P> {
    /// Of two policies for one target the older counts, then the first by namespace and name. Whether a target is there
    /// decides nothing here: see [`Attached::judge`].
    pub fn of(
        policies: impl Iterator<Item = (&'a Arc<Object>, &'a P)>,
        targets: impl Fn(&'a P) -> &'a [PolicyTarget],
        kinds: &[Kind],
    ) -> Self {
        let mut policies: Vec<_> = policies.collect();
        policies.sort_by(|a, b| age(a.0).cmp(&age(b.0)));
        let mut attached = Attached::default();
        for (object, spec) in policies {
            for (index, reference) in targets(spec).iter().enumerate() {
                let known = kinds.iter().find(|kind| *kind.0 == *reference.kind);
                if let Some(target) = known.map(|kind| target(object, *kind, reference)) {
                    attached.claim(object, spec, target, index);
                }
            }
        }
        attached
    }

    fn claim(&mut self, object: &'a Object, spec: &'a P, target: Target<'a>, index: usize) {
        let older = self.by_target.get(&target).map(|at| &self.claims[*at].object.id);
        // The entry is reported where it is read.
        if older == Some(&object.id) {
            return;
        }
        let refused = older.map(|older| {
            let message =
                format!("{older} is for the same target and counts; this one has no effect on it");
            Problem::new(&codes::POLICY_CONFLICT, "Conflicted", "", message)
                .help("remove one of them, or join them in one object")
        });
        self.by_target.entry(target).or_insert(self.claims.len());
        self.claims.push(Claim { object, spec, target, refused, index, older });
    }

    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub fn claims(&self) -> &[Claim<'a, P>] {
        &self.claims
    }

    /// Number of the claim that counts for a target.
    pub fn find(&self, target: Target) -> Option<usize> {
        if self.by_target.is_empty() {
            return None;
        }
        self.by_target.get(&target).copied()
    }

    pub fn spec(&self, claim: usize) -> &'a P {
        self.claims[claim].spec
    }

    pub fn object(&self, claim: usize) -> &'a ObjectId {
        &self.claims[claim].object.id
    }

    pub fn targets(&self) -> impl Iterator<Item = (&Target<'a>, usize)> {
        self.by_target.iter().map(|(target, claim)| (target, *claim))
    }

    /// Refuses claims by what `fault` finds, and reports every refused one.
    pub fn judge(&mut self, fault: impl Fn(&Target) -> Option<Problem>, report: &mut Report) {
        for claim in &mut self.claims {
            if let Some(problem) = fault(&claim.target) {
                claim.refused = Some(problem);
            }
            let Some(problem) = &claim.refused else { continue };
            let field = format!("spec.targetRefs[{}]", claim.index);
            let problem = problem.clone().within(&field);
            let finding = report.problem(&claim.object.id, &problem);
            if let Some(older) = claim.older {
                finding.related("the policy that counts", older, "spec.targetRefs");
            }
        }
    }
}

fn target<'a>(object: &'a Object, kind: Kind, reference: &'a PolicyTarget) -> Target<'a> {
    let section = reference.section.as_deref();
    Target { kind, namespace: &object.id.namespace, name: &reference.name, section }
}

/// The problem of a target that is not there.
pub(crate) fn absent<'n>(target: &Target, names: impl Iterator<Item = &'n str>) -> Problem {
    let id = target.id();
    let help = match manifest::suggest::nearest(target.name, names) {
        Some(near) => format!("did you mean {near}? A policy is for objects of its own namespace"),
        None => {
            "write the object, or correct the name; a policy is for objects of its own namespace"
                .to_owned()
        }
    };
    let message = format!("{id} does not exist, so the policy has no effect on it");
    Problem::new(&codes::POLICY_TARGET, "TargetNotFound", "name", message).help(help)
}

/// The problem of a section that its target does not have.
pub(crate) fn absent_section<'n>(
    target: &Target,
    section: &str,
    what: &str,
    names: impl Iterator<Item = &'n str>,
) -> Problem {
    let names: Vec<&str> = names.collect();
    let message =
        format!("{} has no {what} named {section}, so the policy has no effect", target.id());
    let help = match names.is_empty() {
        true => format!("remove `sectionName`: it has no {what} with a name"),
        false => format!("its {what}s: {}", names.join(", ")),
    };
    Problem::new(&codes::POLICY_TARGET, "TargetNotFound", "sectionName", message).help(help)
}

/// Conditions of one policy, under each of its ancestors the same.
pub(crate) fn status(
    policy: &ObjectId,
    ancestors: impl Iterator<Item = (ObjectId, Option<Text>, Vec<Condition>)>,
) -> ObjectStatus {
    let parents = ancestors
        .map(|(parent, section, conditions)| ParentStatus {
            parent,
            section,
            port: None,
            conditions,
        })
        .collect();
    ObjectStatus { object: policy.clone(), conditions: Vec::new(), listeners: Vec::new(), parents }
}
