//! Secret and ConfigMap: entries by name, and the certificate of a `kubernetes.io/tls` Secret.

use super::kubernetes::{ConfigMap, Secret};
use crate::codes;
use crate::decode::{Decode, Decoder, object};
use crate::metadata::Metadata;
use crate::node::{Entry, Node, Value};
use crate::pem::{self, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{Digest, Text};
use std::collections::BTreeMap;
use std::sync::Arc;

const TLS: &str = "kubernetes.io/tls";
const OPAQUE: &str = "Opaque";
const CERTIFICATE: &str = "tls.crt";
const AUTHORITIES: &str = "ca.crt";
const KEY: &str = "tls.key";

object! {
    struct WrittenSecret {
        "type" => kind: Text = OPAQUE.into(),
        "data" => data: BTreeMap<Text, Base64>,
        "stringData" => string_data: BTreeMap<Text, Text>,
        "immutable" => immutable: Option<bool>,
    }
    ignored ["apiVersion", "kind", "metadata", "status"]
}

object! {
    struct WrittenConfigMap {
        "data" => data: BTreeMap<Text, Text>,
        "binaryData" => binary_data: BTreeMap<Text, Base64>,
        "immutable" => immutable: Option<bool>,
    }
    ignored ["apiVersion", "kind", "metadata", "status"]
}

/// Decoded bytes. No `Debug`: they may be a key.
#[derive(Clone, PartialEq, Eq)]
struct Base64(Vec<u8>);

impl std::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Decode for Base64 {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if node.value == Value::Null {
            return Some(Base64(Vec::new()));
        }
        let text = Text::decode(node, decoder)?;
        let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match STANDARD.decode(compact) {
            Ok(bytes) => Some(Base64(bytes)),
            Err(_) => {
                let message = "this is no base64 (RFC 4648 section 4)";
                let help = "encode it with `base64 -w0`, or write it plainly under `stringData`";
                decoder.report(&codes::BAD_BASE64, node.span, message, help);
                None
            }
        }
    }
}

impl Secret {
    pub fn decode(node: &Node, _: &Metadata, decoder: &mut Decoder) -> Option<Self> {
        let WrittenSecret { kind, data, string_data, .. } = WrittenSecret::decode(node, decoder)?;
        let mut values: BTreeMap<Text, Vec<u8>> =
            data.into_iter().map(|(name, value)| (name, value.0)).collect();
        values.extend(string_data.into_iter().map(|(name, text)| (name, text.as_bytes().into())));
        let tls = if &*kind == TLS { Some(key_pair(node, &values, decoder)?) } else { None };
        let authorities = values.get(AUTHORITIES).map(|pem| pem::authorities(pem));
        Some(Secret { kind, entries: digests(values), tls, authorities })
    }
}

impl ConfigMap {
    pub fn decode(node: &Node, _: &Metadata, decoder: &mut Decoder) -> Option<Self> {
        let WrittenConfigMap { data, binary_data, .. } = WrittenConfigMap::decode(node, decoder)?;
        let mut values: BTreeMap<Text, Vec<u8>> =
            binary_data.into_iter().map(|(name, value)| (name, value.0)).collect();
        for (name, text) in &data {
            if values.insert(name.clone(), text.as_bytes().into()).is_some() {
                let message = format!("`{name}` stands in `data` and in `binaryData`");
                let help = "keep one of the two";
                decoder.report_field(node, "binaryData", &codes::CONTRADICTION, message, help);
            }
        }
        let authorities = values.get(AUTHORITIES).map(|pem| pem::authorities(pem));
        Some(ConfigMap { entries: digests(values), texts: data, authorities })
    }
}

fn digests(values: BTreeMap<Text, Vec<u8>>) -> BTreeMap<Text, Digest> {
    values.into_iter().map(|(name, value)| (name, Digest::of_bytes(&value))).collect()
}

/// The pair of a TLS Secret. Each fault is reported at the entry that holds it.
fn key_pair(
    node: &Node,
    values: &BTreeMap<Text, Vec<u8>>,
    decoder: &mut Decoder,
) -> Option<Arc<KeyPair>> {
    for name in [CERTIFICATE, KEY] {
        if !values.contains_key(name) {
            let message = format!("a Secret of type {TLS} needs the entry `{name}`");
            let help = format!("add `{name}` under `data` or `stringData`");
            decoder.report_field(node, "type", &codes::MISSING_FIELD, message, help);
        }
    }
    let (chain, key) = (values.get(CERTIFICATE)?, values.get(KEY)?);
    let parsed = KeyPair::parse(chain, key);
    let faults = match &parsed {
        Ok((_, None)) => Vec::new(),
        Ok((_, Some(warning))) => vec![warning],
        Err(fault) => vec![fault],
    };
    for fault in faults {
        let name = if fault.in_key { KEY } else { CERTIFICATE };
        report_entry(node, name, fault.code, &fault.message, fault.help, decoder);
    }
    parsed.ok().map(|(pair, _)| Arc::new(pair))
}

fn report_entry(
    node: &Node,
    name: &str,
    code: &model::Code,
    message: &str,
    help: &str,
    decoder: &mut Decoder,
) {
    // `stringData` counts where both hold the entry.
    for field in ["stringData", "data"] {
        let Some(entry) = node.field(field).and_then(|map| map.entry(name)) else { continue };
        let Entry { key_span, .. } = entry;
        decoder.field(node, field, |_, decoder| {
            decoder.entry(entry, |decoder| decoder.report(code, *key_span, message, help));
        });
        return;
    }
}
