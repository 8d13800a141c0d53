//! Which namespaces a listener takes routes from. A label selector is judged once a namespace.

use manifest::Inputs;
use manifest::kinds::gateway::{FromNamespaces, LabelOperator, LabelSelector, Listener};
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
    equal
        && selector.match_expressions.iter().all(|expression| {
            let found = value(&expression.key);
            let listed = found.is_some_and(|found| expression.values.contains(found));
            match expression.operator {
                LabelOperator::In => listed,
                LabelOperator::NotIn => !listed,
                LabelOperator::Exists => found.is_some(),
                LabelOperator::DoesNotExist => found.is_none(),
            }
        })
}
