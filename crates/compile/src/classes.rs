//! Which Gateways and Ingresses are ours.
//!
//! A class object that names our controller makes an object ours, one that names another makes it theirs. Where the
//! class object is absent (a folder seldom holds one) the object is ours whatever the class is called. An Ingress
//! without a class belongs to the default class, and without one to us, with a note.

use crate::codes;
use crate::report::Report;
use manifest::annotations::{INGRESS_CLASS, IS_DEFAULT_CLASS};
use manifest::kinds::gateway::Gateway;
use manifest::kinds::kubernetes::{Ingress, IngressClass};
use manifest::{Inputs, Object};
use model::{ObjectId, Text};
use std::sync::Arc;

pub(crate) const GATEWAY_CONTROLLER: &str = "cutwater.dev/gateway";
pub(crate) const INGRESS_CONTROLLER: &str = "cutwater.dev/ingress";

/// The order in which the specification settles ties: older first, then by namespace and name. An object from a folder
/// has no timestamp and counts as older than one that has.
pub(crate) fn age(object: &Object) -> (Option<&Text>, &Text, &Text) {
    (object.created.as_ref(), &object.id.namespace, &object.id.name)
}

/// Our Gateways, the oldest first.
pub(crate) fn our_gateways<'a>(
    inputs: &'a Inputs,
    report: &mut Report,
) -> Vec<(&'a Arc<Object>, &'a Gateway)> {
    let mut ours: Vec<_> = inputs
        .gateways()
        .filter(|(object, gateway)| match inputs.gateway_class(&"".into(), &gateway.class) {
            Some((class, spec)) if &*spec.controller_name != GATEWAY_CONTROLLER => {
                not_ours(report, object, "spec.gatewayClassName", &class.id, &spec.controller_name);
                false
            }
            _ => true,
        })
        .collect();
    ours.sort_by(|a, b| age(a.0).cmp(&age(b.0)));
    ours
}

/// Our Ingresses, the oldest first.
pub(crate) fn our_ingresses<'a>(
    inputs: &'a Inputs,
    report: &mut Report,
) -> Vec<(&'a Arc<Object>, &'a Ingress)> {
    let default = default_class(inputs);
    let mut ours: Vec<_> = inputs
        .ingresses()
        .filter(|(object, ingress)| {
            let written = ingress.class.as_ref().map(|class| ("spec.ingressClassName", class));
            let annotation = || object.annotations.get(INGRESS_CLASS);
            let (field, class) = match written {
                Some(written) => written,
                None => match annotation() {
                    Some(class) => ("metadata.annotations", class),
                    None => return unclassed_is_ours(object, default, report),
                },
            };
            is_ours(object, field, inputs.ingress_class(&"".into(), class), report)
        })
        .collect();
    ours.sort_by(|a, b| age(a.0).cmp(&age(b.0)));
    ours
}

type Class<'a> = (&'a Arc<Object>, &'a IngressClass);

/// Of several default classes, ours, else the first by name.
fn default_class(inputs: &Inputs) -> Option<Class<'_>> {
    let is_default =
        |object: &Object| object.annotations.get(IS_DEFAULT_CLASS).is_some_and(|v| &**v == "true");
    inputs
        .ingress_classes()
        .filter(|(object, _)| is_default(object))
        .min_by_key(|(_, class)| &*class.controller != INGRESS_CONTROLLER)
}

fn unclassed_is_ours(object: &Object, default: Option<Class<'_>>, report: &mut Report) -> bool {
    if default.is_some() {
        return is_ours(object, "spec", default, report);
    }
    report
        .add(
            &codes::NO_CLASS,
            &object.id,
            "spec",
            format!("{} names no class and there is no default class; it is served", object.id),
        )
        .help("set `ingressClassName: cutwater`");
    true
}

fn is_ours(object: &Object, field: &str, class: Option<Class<'_>>, report: &mut Report) -> bool {
    match class {
        Some((class, spec)) if &*spec.controller != INGRESS_CONTROLLER => {
            not_ours(report, object, field, &class.id, &spec.controller);
            false
        }
        _ => true,
    }
}

fn not_ours(report: &mut Report, object: &Object, field: &str, class: &ObjectId, controller: &str) {
    report
        .add(
            &codes::OTHER_CLASS,
            &object.id,
            field,
            format!("{class} belongs to controller \"{controller}\"; {} is left to it", object.id),
        )
        .related("the class", class, "")
        .help("to have it served here, name a class of ours");
}
