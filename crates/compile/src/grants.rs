//! ReferenceGrants as a table: may an object of this kind and namespace refer to that object of another namespace?

use manifest::Inputs;
use model::hash::{HashMap, HashSet};
use model::{Kind, ObjectId};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Of a kind that refers to others.
fn group(kind: &str) -> &'static str {
    match kind == Kind::EDGE_POLICY.0 {
        true => "cutwater.dev",
        false => GATEWAY_GROUP,
    }
}

#[derive(Default)]
pub(crate) struct Grants<'a>(HashMap<Key<'a>, Names<'a>>);

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    from_kind: &'a str,
    from_namespace: &'a str,
    to_kind: &'a str,
    to_namespace: &'a str,
}

#[derive(Default)]
struct Names<'a> {
    all: bool,
    named: HashSet<&'a str>,
}

impl<'a> Grants<'a> {
    pub fn of(inputs: &'a Inputs) -> Self {
        let mut grants = Grants::default();
        for (object, grant) in inputs.reference_grants() {
            for from in grant.from.iter().filter(|from| &*from.group == group(&from.kind)) {
                for to in grant.to.iter().filter(|to| matches!(&*to.group, "" | "core")) {
                    let key = Key {
                        from_kind: &from.kind,
                        from_namespace: &from.namespace,
                        to_kind: &to.kind,
                        to_namespace: &object.id.namespace,
                    };
                    let names = grants.0.entry(key).or_default();
                    match &to.name {
                        Some(name) => names.named.insert(name),
                        None => std::mem::replace(&mut names.all, true),
                    };
                }
            }
        }
        grants
    }

    /// Within one namespace everything is allowed.
    pub fn allow(&self, from: &ObjectId, to: &ObjectId) -> bool {
        let key = Key {
            from_kind: from.kind.0,
            from_namespace: &from.namespace,
            to_kind: to.kind.0,
            to_namespace: &to.namespace,
        };
        from.namespace == to.namespace
            || self.0.get(&key).is_some_and(|names| names.all || names.named.contains(&*to.name))
    }
}

/// The mend for a reference that is not granted, as a sentence.
pub(crate) fn mend(from: &ObjectId, to: &ObjectId) -> String {
    format!(
        "add a ReferenceGrant in namespace {} from {} of namespace {} to {}",
        to.namespace, from.kind, from.namespace, to.kind
    )
}
