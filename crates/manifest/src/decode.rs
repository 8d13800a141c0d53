//! From a [`Node`] to a typed value. A type's fields are declared once, by [`object!`] or [`choice!`]; the declaration
//! gives the struct, the decoder, the list of known fields and the "did you mean". Decoding goes on after a mistake,
//! so that one reading reports all of them.

use crate::codes;
use crate::node::{Entry, Node, Span, Value};
use model::origin::path_hash;
use model::{Code, Diagnostic, HostPattern, Hostname, Text};
use std::collections::BTreeMap;
use std::time::Duration;

/// A value of an outside format. `None` means that a diagnostic has been written.
pub trait Decode: Sized {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;

    /// What stands for a field that is not written; `None` for one that must be.
    fn missing() -> Option<Self> {
        None
    }
}

/// Diagnostics and spans of one document, with the path of the value at hand.
#[derive(Debug, Default)]
pub struct Decoder {
    path: String,
    /// Hash of the path, byte span.
    pub spans: Vec<(u64, u32, u32)>,
    /// `field` and the span in `place_of` are filled; object and place are added by the caller.
    pub findings: Vec<Finding>,
}

/// A diagnostic whose place is still a byte span of its file.
#[derive(Debug)]
pub struct Finding {
    pub diagnostic: Diagnostic,
    pub span: Span,
    /// Further places of the same file.
    pub related: Vec<(String, Span)>,
}

impl Finding {
    pub fn new(diagnostic: Diagnostic, span: Span) -> Self {
        Finding { diagnostic, span, related: Vec::new() }
    }
}

impl Decoder {
    /// Decodes a part of the value at hand, whose place is `span`.
    pub fn within<T>(
        &mut self,
        step: Step<'_>,
        span: Span,
        decode: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let length = self.path.len();
        match step {
            Step::Field(name) => {
                if !self.path.is_empty() {
                    self.path.push('.');
                }
                self.path.push_str(name);
            }
            Step::Index(index) => {
                self.path.push('[');
                self.path.push_str(&index.to_string());
                self.path.push(']');
            }
        }
        self.spans.push((path_hash(&self.path), span.0, span.1));
        let value = decode(self);
        self.path.truncate(length);
        value
    }

    pub fn entry<T>(&mut self, entry: &Entry, decode: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Step::Field(&entry.key), entry.place(), decode)
    }

    /// Decodes a field of `node` if it is written.
    pub fn field<T>(
        &mut self,
        node: &Node,
        name: &str,
        decode: impl FnOnce(&Node, &mut Self) -> T,
    ) -> Option<T> {
        let entry = node.entry(name)?;
        Some(self.entry(entry, |decoder| decode(&entry.value, decoder)))
    }

    /// Reports at a field of `node`, or at `node` itself where the field is not written.
    pub fn report_field(
        &mut self,
        node: &Node,
        name: &str,
        code: &Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        match node.entry(name) {
            Some(entry) => {
                self.entry(entry, |decoder| decoder.report(code, entry.place(), message, help));
            }
            None => self.report(code, node.span, message, help),
        }
    }

    /// Decodes each item of a list; none when the node is no list. Items with mistakes are left out.
    pub fn items<T>(
        &mut self,
        node: &Node,
        mut decode: impl FnMut(&Node, &mut Self) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let Value::List(items) = &node.value else {
            self.wrong_type(node, "a list", "start each item with a dash");
            return None;
        };
        let each = items.iter().enumerate();
        let decoded = each
            .map(|(index, item)| {
                self.within(Step::Index(index), item.span, |decoder| decode(item, decoder))
            })
            .collect();
        Some(decoded)
    }

    pub fn report(
        &mut self,
        code: &Code,
        span: (u32, u32),
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let mut diagnostic = Diagnostic::new(code, message).help(help);
        diagnostic.field = self.path.clone();
        self.findings.push(Finding::new(diagnostic, span));
    }

    pub fn wrong_type(&mut self, node: &Node, wanted: &str, help: impl Into<String>) {
        let message = format!("{} must be {wanted}, not {}", self.last_step(), node.value.noun());
        self.report(&codes::WRONG_TYPE, node.span, message, help);
    }

    /// The last step of the path, as messages name the field.
    fn last_step(&self) -> String {
        if self.path.is_empty() { "the document".to_owned() } else { format!("`{}`", self.path) }
    }
}

#[derive(Clone, Copy)]
pub enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// What a struct's declaration says about its keys.
pub struct Keys {
    pub served: &'static [&'static str],
    /// Known to the specification and not served yet: a diagnostic, never silence.
    pub unserved: &'static [&'static str],
    /// Known, and nothing for us to do (`status`, `managedFields`).
    pub ignored: &'static [&'static str],
}

/// Reports keys that are unknown or not served; returns the entries.
pub fn check_keys<'a>(node: &'a Node, decoder: &mut Decoder, keys: &Keys) -> Option<&'a [Entry]> {
    let Value::Map(entries) = &node.value else {
        decoder.wrong_type(node, "a map", "");
        return None;
    };
    for entry in entries {
        let key: &str = &entry.key;
        if keys.served.contains(&key) || keys.ignored.contains(&key) {
            continue;
        }
        decoder.entry(entry, |decoder| {
            if keys.unserved.contains(&key) {
                let message = format!("`{key}` is known but not served yet; it has no effect");
                decoder.report(
                    &codes::FIELD_NOT_SERVED,
                    entry.key_span,
                    message,
                    "remove it, or accept that it does nothing",
                );
            } else {
                let known = keys.served.iter().chain(keys.unserved);
                let help = crate::suggest::did_you_mean(key, known.copied());
                decoder.report(
                    &codes::UNKNOWN_FIELD,
                    entry.key_span,
                    format!("unknown field `{key}`"),
                    help,
                );
            }
        });
    }
    Some(entries)
}

/// Decodes one declared field.
pub fn field<T: Decode>(
    node: &Node,
    entries: &[Entry],
    name: &'static str,
    decoder: &mut Decoder,
    default: Option<T>,
) -> Option<T> {
    match entries.iter().find(|entry| &*entry.key == name) {
        Some(entry) if entry.value.value != Value::Null => {
            decoder.entry(entry, |decoder| T::decode(&entry.value, decoder))
        }
        _ => default.or_else(T::missing).or_else(|| {
            let message = format!("missing field `{name}`");
            decoder.report(
                &codes::MISSING_FIELD,
                node.span,
                message,
                format!("add `{name}:` here"),
            );
            None
        }),
    }
}

/// Declares an object: its fields, their keys, defaults, the keys that are known but not served or ignored, and what
/// judges the fields together.
///
/// ```text
/// object! {
///     /// What it is.
///     pub struct Name {
///         "key" => field: Type,
///         "other" => other: Type = default,
///     }
///     unserved ["retry"] ignored ["status"] checked by rules::name
/// }
/// ```
macro_rules! object {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $key:literal => $field:ident : $type:ty $(= $default:expr)? ),* $(,)?
        }
        $(unserved [$($unserved:literal),* $(,)?])?
        $(ignored [$($ignored:literal),* $(,)?])?
        $(checked by $check:path)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::node::Node, decoder: &mut $crate::decode::Decoder) -> Option<Self> {
                const KEYS: $crate::decode::Keys = $crate::decode::Keys {
                    served: &[$($key),*],
                    unserved: &[$($($unserved),*)?],
                    ignored: &[$($($ignored),*)?],
                };
                #[allow(unused_variables)]
                let entries = $crate::decode::check_keys(node, decoder, &KEYS)?;
                $(
                    #[allow(unused_mut, unused_assignments)]
                    let mut default: Option<$type> = None;
                    $( default = Some($default); )?
                    let $field = $crate::decode::field::<$type>(node, entries, $key, decoder, default);
                )*
                let value = $name { $( $field: $field?, )* };
                $( $check(&value, node, decoder); )?
                Some(value)
            }
        }
    };
}
pub(crate) use object;

/// Declares an enumeration of strings.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            pub const CHOICES: &'static [(&'static str, $name)] = &[$(($text, $name::$variant)),*];

            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::node::Node, decoder: &mut $crate::decode::Decoder) -> Option<Self> {
                $crate::decode::choose(node, decoder, $name::CHOICES)
            }
        }
    };
}
pub(crate) use choice;

/// Picks the variant that a string names.
pub fn choose<T: Copy>(
    node: &Node,
    decoder: &mut Decoder,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let text = Text::decode(node, decoder)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == &*text) {
        return Some(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let message = format!("{} may not be \"{text}\"", decoder.last_step());
    let help = match crate::suggest::nearest(&text, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Allowed: {}", names.join(", ")),
        None => format!("allowed: {}", names.join(", ")),
    };
    decoder.report(&codes::BAD_VALUE, node.span, message, help);
    None
}

impl Decode for Text {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) => {
                decoder.wrong_type(node, "a string", "write it in quotes");
                None
            }
            Value::Bool(_) => {
                let help = "write it in quotes; Kubernetes reads yes, no, on, off, y and n as booleans too";
                decoder.wrong_type(node, "a string", help);
                None
            }
            _ => {
                decoder.wrong_type(node, "a string", "");
                None
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                decoder.wrong_type(node, "true or false", "");
                None
            }
        }
    }
}

/// An integer within bounds, or a diagnostic that names them.
pub fn integer(node: &Node, decoder: &mut Decoder, low: i64, high: i64) -> Option<i64> {
    let Value::Number(number) = &node.value else {
        let help =
            if matches!(node.value, Value::String(_)) { "write it without quotes" } else { "" };
        decoder.wrong_type(node, "a number", help);
        return None;
    };
    if is_octal_for_some(number) {
        let message =
            format!("{} begins with a zero: some read {number} as octal", decoder.last_step());
        decoder.report(&codes::BAD_VALUE, node.span, message, "write it without the zero");
        return None;
    }
    match number.parse::<i64>() {
        Ok(value) if (low..=high).contains(&value) => Some(value),
        _ => {
            let message = format!(
                "{} must be a whole number from {low} to {high}, not {number}",
                decoder.last_step()
            );
            let help = format!("write a number from {low} to {high}");
            decoder.report(&codes::OUT_OF_RANGE, node.span, message, help);
            None
        }
    }
}

/// YAML 1.1 reads `010` as eight, YAML 1.2 as ten.
fn is_octal_for_some(number: &str) -> bool {
    let digits = number.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

impl Decode for i64 {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, i64::MIN, i64::MAX)
    }
}

impl Decode for u32 {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 0, i64::from(i32::MAX)).map(|value| value as u32)
    }
}

/// A TCP or UDP port: 1 to 65535.
impl Decode for u16 {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 1, 65_535).map(|value| value as u16)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Box::new)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let decoded = decoder.items(node, T::decode)?;
        decoded.into_iter().collect()
    }

    fn missing() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: Decode> Decode for BTreeMap<Text, T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            decoder.wrong_type(node, "a map", "");
            return None;
        };
        let decoded: Vec<Option<(Text, T)>> = entries
            .iter()
            .map(|entry| {
                decoder.entry(entry, |decoder| {
                    T::decode(&entry.value, decoder).map(|value| (entry.key.clone(), value))
                })
            })
            .collect();
        decoded.into_iter().collect()
    }

    fn missing() -> Option<Self> {
        Some(BTreeMap::new())
    }
}

/// A text that must parse; `code` and `help` for when it does not.
fn parsed<T, E: std::fmt::Display>(
    node: &Node,
    decoder: &mut Decoder,
    code: &Code,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let text = Text::decode(node, decoder)?;
    match parse(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("{}: {error}", decoder.last_step());
            let help = match code.slug {
                slug if slug == codes::BAD_DURATION.slug => "write it like 30s, 1m30s or 500ms",
                _ => "write it like www.example.com, labels joined by dots",
            };
            decoder.report(code, node.span, message, help);
            None
        }
    }
}

impl Decode for Hostname {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        parsed(node, decoder, &codes::BAD_HOSTNAME, Hostname::parse)
    }
}

/// The Gateway API's form: a wildcard stands for one or more labels.
impl Decode for HostPattern {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        parsed(node, decoder, &codes::BAD_HOSTNAME, HostPattern::parse)
    }
}

/// The form of Ingress: a wildcard stands for one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressHost(pub HostPattern);

impl Decode for IngressHost {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        parsed(node, decoder, &codes::BAD_HOSTNAME, HostPattern::parse_one_label).map(IngressHost)
    }
}

impl Decode for Duration {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        parsed(node, decoder, &codes::BAD_DURATION, model::quantity::parse_duration)
    }
}

/// A field that is decoded afterwards, by whoever knows what its values depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later;

impl Decode for Later {
    fn decode(_: &Node, _: &mut Decoder) -> Option<Self> {
        Some(Later)
    }
}
