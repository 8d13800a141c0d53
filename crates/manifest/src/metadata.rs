//! `metadata`: name, namespace, labels, annotations, and when the API server made the object.

use crate::codes;
use crate::decode::{Decoder, object};
use crate::node::Node;
use crate::recognise::{Row, Scope};
use model::{Kind, Text};
use std::collections::BTreeMap;

object! {
    #[derive(Default)]
    pub struct Metadata {
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
        "labels" => labels: BTreeMap<Text, Text>,
        "annotations" => annotations: BTreeMap<Text, Text>,
        "creationTimestamp" => created: Option<Text>,
    }
    ignored [
        "generateName", "uid", "resourceVersion", "generation", "managedFields", "ownerReferences", "finalizers",
        "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
    ]
}

/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

impl Metadata {
    /// Checks the names, and gives the namespace its default.
    pub fn checked(mut self, row: &Row, node: &Node, decoder: &mut Decoder) -> Option<Metadata> {
        let is_label = [Kind::SERVICE, Kind::NAMESPACE].contains(&row.kind);
        let name = check_name(node, "name", &self.name, is_label, decoder);
        if let (Scope::Cluster, Some(namespace)) = (row.scope, &self.namespace) {
            let message = format!("{} has no namespace, `{namespace}` says one", row.kind);
            decoder.report_field(node, "namespace", &codes::CONTRADICTION, message, "remove it");
        }
        match row.scope {
            Scope::Cluster => self.namespace = Some("".into()),
            Scope::Namespaced => {
                let namespace = self.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.into());
                check_name(node, "namespace", namespace, true, decoder)?;
            }
        }
        name.map(|()| self)
    }
}

fn check_name(
    node: &Node,
    field: &'static str,
    name: &str,
    is_label: bool,
    decoder: &mut Decoder,
) -> Option<()> {
    let good = if is_label { is_label_name(name) } else { is_subdomain_name(name) };
    if good {
        return Some(());
    }
    let (message, help) = if is_label {
        (
            format!("`{name}` is no DNS label"),
            "lower-case letters, digits and inner hyphens, at most 63 characters",
        )
    } else {
        (
            format!("`{name}` is no name of an object"),
            "lower-case letters, digits, inner hyphens and dots, at most 253 characters",
        )
    };
    decoder.report_field(node, field, &codes::BAD_NAME, message, help);
    None
}

/// RFC 1123 label, as Kubernetes wants it.
pub fn is_label_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// RFC 1123 subdomain, as Kubernetes wants it.
pub fn is_subdomain_name(name: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(label)
}
