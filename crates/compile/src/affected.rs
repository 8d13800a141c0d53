//! Which drafts of routes a change of policies reaches: those of routes that are a target, that name a Gateway that is
//! one, or that lead to a Service that is one. Where a policy leads requests to such a Service itself, what it is for is
//! reached, too. Everything else about policies leaves a draft as it is.

use manifest::kinds::edge_policy::EdgePolicy;
use manifest::kinds::policy::PolicyTarget;
use manifest::{Object, Spec};
use model::hash::{HashMap, HashSet};
use model::{Kind, ObjectId, Text};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Targets of the policies that came, went or changed, and of those that lead to one of these.
#[derive(Default)]
pub(crate) struct Affected<'a>(HashSet<Id<'a>>);

/// Kind, namespace, name.
type Id<'a> = (&'a str, &'a str, &'a str);

impl<'a> Affected<'a> {
    /// None where every draft is to be made anew: another object than a policy changed, or the listeners that have
    /// policies are others, by whose order variants of routes are kept.
    pub fn between(old: &'a [Arc<Object>], new: &'a [Arc<Object>]) -> Option<Affected<'a>> {
        if listeners(old) != listeners(new) {
            return None;
        }
        let mut affected = Affected::default();
        let old_by_id = by_id(old);
        let new_by_id = by_id(new);
        for object in old.iter().filter(|object| !is_in(object, &new_by_id)) {
            affected.add(object)?;
        }
        for object in new.iter().filter(|object| !is_in(object, &old_by_id)) {
            affected.add(object)?;
        }
        let leading: Vec<&Object> = new
            .iter()
            .map(|object| &**object)
            .filter(|object| services(object).any(|service| affected.0.contains(&service)))
            .collect();
        for object in leading {
            affected.add(object)?;
        }
        Some(affected)
    }

    fn add(&mut self, object: &'a Object) -> Option<()> {
        let namespace = &*object.id.namespace;
        let targets = targets(object)?.iter();
        self.0.extend(targets.map(|target| (&*target.kind, namespace, &*target.name)));
        Some(())
    }

    /// True for what is no route, too: nothing is known of it.
    pub fn reach(&self, object: &Object) -> bool {
        let Spec::HttpRoute(spec) = &object.spec else { return true };
        let own = &object.id.namespace;
        let is_in = |kind: Kind, namespace: Option<&Text>, name: &Text| {
            self.0.contains(&(kind.0, namespace.unwrap_or(own), name))
        };
        let mut parents = spec.parent_refs.iter();
        let mut rules = spec.rules.iter();
        is_in(Kind::HTTP_ROUTE, None, &object.id.name)
            || parents.any(|parent| is_in(Kind::GATEWAY, parent.namespace.as_ref(), &parent.name))
            || rules.any(|rule| {
                let mut backends = rule.backend_refs.iter();
                let mirrors =
                    rule.filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
                let mut mirrors = mirrors.map(|mirror| &mirror.backend);
                backends.any(|to| is_in(Kind::SERVICE, to.namespace.as_ref(), &to.name))
                    || mirrors.any(|to| is_in(Kind::SERVICE, to.namespace.as_ref(), &to.name))
            })
    }
}

/// Services that a policy leads requests of its targets to, whether or not they can be used: what stands in for a
/// backend, and what gives pages. A default backend is in no draft.
fn services(object: &Object) -> impl Iterator<Item = Id<'_>> {
    let own = &object.id.namespace;
    let policy: Option<&EdgePolicy> = match &object.spec {
        Spec::EdgePolicy(policy) => Some(policy),
        _ => None,
    };
    let stand_ins = policy.and_then(|policy| policy.fallback.as_ref()?.backends.as_ref());
    let stand_ins = stand_ins.into_iter().flat_map(|list| &list.0);
    let pages = policy.and_then(|policy| policy.error_pages.as_ref());
    let pages =
        pages.into_iter().flat_map(|pages| &pages.0).filter_map(|page| page.service.as_ref());
    let stand_ins = stand_ins.map(move |to| (own, &to.name));
    let pages = pages.map(move |to| (to.namespace.as_ref().unwrap_or(own), &to.name));
    stand_ins.chain(pages).map(|(namespace, name)| (Kind::SERVICE.0, &**namespace, &**name))
}

/// None for what is no policy.
fn targets(object: &Object) -> Option<&[PolicyTarget]> {
    match &object.spec {
        Spec::EdgePolicy(policy) => Some(policy.target_refs()),
        Spec::BackendTlsPolicy(policy) => Some(&policy.targets),
        _ => None,
    }
}

/// Gateways and listeners that EdgePolicies are for.
fn listeners(objects: &[Arc<Object>]) -> BTreeSet<(&str, &str, Option<&str>)> {
    let policies = objects.iter().filter_map(|object| match &object.spec {
        Spec::EdgePolicy(policy) => Some((object, policy)),
        _ => None,
    });
    let each = policies.flat_map(|(object, policy)| {
        let gateways =
            policy.target_refs().iter().filter(|target| *target.kind == *Kind::GATEWAY.0);
        gateways.map(|target| (&*object.id.namespace, &*target.name, target.section.as_deref()))
    });
    each.collect()
}

fn by_id(objects: &[Arc<Object>]) -> HashMap<&ObjectId, &Arc<Object>> {
    objects.iter().map(|object| (&object.id, object)).collect()
}

fn is_in(object: &Arc<Object>, others: &HashMap<&ObjectId, &Arc<Object>>) -> bool {
    others.get(&object.id).is_some_and(|other| Arc::ptr_eq(object, other) || object == *other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies;
    use manifest::{Inputs, assemble, read_file};

    const ROUTES: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a, namespace: shop}, spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: web, port: 80}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: b, namespace: shop}, spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: api, port: 80}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: c, namespace: west}, spec: {parentRefs: [{name: h}], rules: [{backendRefs: [{name: web, namespace: shop, port: 80}]}]}}
";

    fn policy(name: &str, kind: &str, target: &str, percent: u8) -> String {
        format!(
            "---\n{{apiVersion: cutwater.dev/v1alpha1, kind: EdgePolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{targetRefs: [{{kind: {kind}, name: {target}}}], loadBalancing: {{panicPercent: {percent}}}}}}}\n"
        )
    }

    const LEADS: &str = "---
{apiVersion: cutwater.dev/v1alpha1, kind: EdgePolicy, metadata: {name: leads, namespace: shop}, spec: {targetRefs: [{kind: HTTPRoute, name: b}],
  fallback: {backendRefs: [{name: standby, port: 80}]}, errorPages: [{statuses: [503], service: {name: pages, namespace: other, port: 80}}]}}
";

    fn tls(namespace: &str, service: &str) -> String {
        format!(
            "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {{name: t, namespace: {namespace}}}, spec: {{targetRefs: [{{group: '', kind: Service, name: {service}}}], validation: {{hostname: a.test, wellKnownCACertificates: System}}}}}}\n"
        )
    }

    fn read(policies: &str) -> Inputs {
        let (name, text): (Text, Text) =
            ("a.yaml".into(), format!("{ROUTES}{policies}").as_str().into());
        let file = Arc::new(read_file(&name, &text));
        let reading = assemble(&[(name, text, file)]);
        assert!(!reading.holds_back(), "{:?}", reading.diagnostics);
        reading.inputs
    }

    fn world(inputs: &Inputs) -> Vec<Arc<Object>> {
        policies::world(inputs).cloned().collect()
    }

    /// The names of the routes that are drafted anew; None for all of them.
    fn reached(old: &str, new: &str) -> Option<String> {
        let (old, new) = (world(&read(old)), read(new));
        let policies = world(&new);
        let affected = Affected::between(&old, &policies)?;
        let routes = new.http_routes().filter(|(object, _)| affected.reach(object));
        Some(routes.map(|(object, _)| &*object.id.name).collect())
    }

    #[test]
    fn a_change_reaches_those_that_it_is_about() {
        let web = |percent| policy("p", "Service", "web", percent);
        let gateway = |percent| policy("q", "Gateway", "g", percent);
        for (old, new, expected) in [
            (web(1), web(1), Some("")),
            (web(1), web(2), Some("ac")),
            (String::new(), web(2), Some("ac")),
            (web(1), String::new(), Some("ac")),
            (web(1), policy("p", "Service", "api", 1), Some("abc")),
            (web(1), web(1) + &policy("o", "HTTPRoute", "b", 1), Some("b")),
            (gateway(1), gateway(2), Some("ab")),
            (gateway(1), gateway(1) + &web(1), Some("ac")),
            (LEADS.into(), LEADS.to_owned() + &tls("shop", "standby"), Some("b")),
            (LEADS.to_owned() + &tls("other", "pages"), LEADS.into(), Some("b")),
            (LEADS.into(), LEADS.to_owned() + &tls("shop", "pages"), Some("")),
            (LEADS.into(), LEADS.to_owned() + &tls("shop", "web"), Some("ac")),
            // The order of listeners with policies is another.
            (web(1), web(1) + &gateway(1), None),
        ] {
            assert_eq!(reached(&old, &new).as_deref(), expected, "{old}\n{new}");
        }
    }
}
