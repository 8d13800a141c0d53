//! Which namespaces a listener takes routes from. A label selector is judged once a namespace.

use manifest::Inputs;
use manifest::kinds::gateway::{
    FromNamespaces, LabelExpression, LabelOperator, LabelSelector, Listener,
};
use model::Text;
use model::hash::HashMap;
use std::collections::BTreeMap;

/// Label that every namespace has, whether or not it is written.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces<'a> {
    inputs: &'a Inputs,
    /// By address of the selector, which lies in the inputs for as long as this table.
    judged: HashMap<(usize, Text), bool>,
}

impl<'a> Namespaces<'a> {
    pub fn of(inputs: &'a Inputs) -> Self {
        Namespaces { inputs, judged: HashMap::default() }
    }

    pub fn allow(&mut self, listener: &'a Listener, own: &Text, from: &Text) -> bool {
        let rule = listener.allowed_routes.as_ref().and_then(|routes| routes.namespaces.as_ref());
        match rule.map_or(FromNamespaces::Same, |rule| rule.from) {
            FromNamespaces::All => true,
            FromNamespaces::Same => own == from,
            FromNamespaces::None => false,
            FromNamespaces::Selector => rule
                .and_then(|rule| rule.selector.as_ref())
                .is_some_and(|selector| self.selected(selector, from)),
        }
    }

    /// What the listener asks for and the namespace lacks, and how to mend it.
    pub fn refusal(&self, listener: &Listener, own: &Text, from: &Text) -> (String, String) {
        let rule = listener.allowed_routes.as_ref().and_then(|routes| routes.namespaces.as_ref());
        let selector = rule.and_then(|rule| rule.selector.as_ref());
        let (name, widen) = (&listener.name, "widen `allowedRoutes` of the listener");
        match (rule.map_or(FromNamespaces::Same, |rule| rule.from), selector) {
            (FromNamespaces::Selector, Some(selector)) => {
                let namespace = self.inputs.namespace(from);
                let label = |key: &Text| match &**key {
                    NAME_LABEL => Some(from),
                    _ => namespace.and_then(|object| object.labels.get(key)),
                };
                let lacks = selector.match_labels.iter().find(|(key, v)| label(key) != Some(v));
                let (wanted, key, mend) = match lacks {
                    Some((key, value)) => (
                        format!("label {key}={value}"),
                        key,
                        format!("add the label {key}: {value} to namespace {from}, or {widen}"),
                    ),
                    None => match selector
                        .match_expressions
                        .iter()
                        .find(|e| !holds(e, label(&e.key)))
                    {
                        Some(e) => (
                            format!("label {} ({:?} {})", e.key, e.operator, e.values.join(", ")),
                            &e.key,
                            format!("change label {} of namespace {from}, or {widen}", e.key),
                        ),
                        None => (String::from("other labels"), own, widen.to_owned()),
                    },
                };
                let has = match (namespace, label(key)) {
                    (_, Some(value)) => format!("has {key}={value}"),
                    (Some(_), None) => "has no such label".to_owned(),
                    (None, None) => "is not written as an object, so it has no labels".to_owned(),
                };
                let message = format!(
                    "listener {name} takes routes of namespaces with {wanted}; namespace {from} {has}"
                );
                (message, mend)
            }
            (FromNamespaces::Same, _) => (
                format!(
                    "listener {name} takes routes of its own namespace {own} only, not of {from}"
                ),
                widen.to_owned(),
            ),
            _ => (format!("listener {name} takes routes of no namespace"), widen.to_owned()),
        }
    }

    fn selected(&mut self, selector: &'a LabelSelector, namespace: &Text) -> bool {
        let key = (std::ptr::from_ref(selector) as usize, namespace.clone());
        let inputs = self.inputs;
        *self.judged.entry(key).or_insert_with(|| {
            let labels = inputs.namespace(namespace).map(|object| &object.labels);
            selects(selector, labels, namespace)
        })
    }
}

fn selects(
    selector: &LabelSelector,
    labels: Option<&BTreeMap<Text, Text>>,
    namespace: &Text,
) -> bool {
    let value = |key: &Text| match &**key {
        NAME_LABEL => Some(namespace),
        _ => labels.and_then(|labels| labels.get(key)),
    };
    let equal = selector.match_labels.iter().all(|(key, wanted)| value(key) == Some(wanted));
    equal && selector.match_expressions.iter().all(|e| holds(e, value(&e.key)))
}

fn holds(expression: &LabelExpression, found: Option<&Text>) -> bool {
    let listed = found.is_some_and(|found| expression.values.contains(found));
    match expression.operator {
        LabelOperator::In => listed,
        LabelOperator::NotIn => !listed,
        LabelOperator::Exists => found.is_some(),
        LabelOperator::DoesNotExist => found.is_none(),
    }
}
