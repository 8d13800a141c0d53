//! The one table of annotation keys that are recognised. Every other annotation passes in silence: it is somebody
//! else's.

use crate::codes;
use crate::decode::Decoder;
use crate::node::{Node, Value};
use model::Kind;

/// A key, or all keys with a prefix, on the kinds where it would mean something.
struct Row {
    key: Key,
    kinds: &'static [Kind],
    served: bool,
}

enum Key {
    Exact(&'static str),
    Prefix(&'static str),
}

const ENTRIES: &[Kind] =
    &[Kind::INGRESS, Kind::GATEWAY, Kind::HTTP_ROUTE, Kind::GRPC_ROUTE, Kind::SERVICE];

const ROWS: &[Row] = &[
    Row { key: Key::Exact(INGRESS_CLASS), kinds: &[Kind::INGRESS], served: true },
    Row { key: Key::Exact(IS_DEFAULT_CLASS), kinds: &[Kind::INGRESS_CLASS], served: true },
    Row { key: Key::Prefix("nginx.ingress.kubernetes.io/"), kinds: ENTRIES, served: false },
    Row { key: Key::Prefix("alb.ingress.kubernetes.io/"), kinds: ENTRIES, served: false },
    Row { key: Key::Prefix("cert-manager.io/"), kinds: ENTRIES, served: false },
    Row { key: Key::Prefix("external-dns."), kinds: ENTRIES, served: false },
];

/// The class of an Ingress before `ingressClassName` existed.
pub const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
/// `"true"` makes an IngressClass the default.
pub const IS_DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Reports the annotations of `metadata` that are known and not served yet.
pub fn check(metadata: &Node, kind: Kind, decoder: &mut Decoder) {
    let Some(annotations) = metadata.field("annotations") else { return };
    let Value::Map(entries) = &annotations.value else { return };
    for entry in entries {
        let known = ROWS.iter().find(|row| row.kinds.contains(&kind) && row.key.is(&entry.key));
        if known.is_none_or(|row| row.served) {
            continue;
        }
        decoder.field(metadata, "annotations", |_, decoder| {
            decoder.entry(entry, |decoder| {
                decoder.report(
                    &codes::ANNOTATION_NOT_SERVED,
                    entry.key_span,
                    format!(
                        "annotation `{}` is known but not served yet; it has no effect",
                        entry.key
                    ),
                    "remove it, or accept that it does nothing",
                );
            });
        });
    }
}

impl Key {
    fn is(&self, key: &str) -> bool {
        match self {
            Key::Exact(exact) => key == *exact,
            Key::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}
