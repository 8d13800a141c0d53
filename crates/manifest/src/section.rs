//! Sections of policies: objects whose fields may all be left out, so that several levels can be laid over each other
//! (GEP-713). `section!` declares a field once; the declaration gives the decoder, the merge, the default and the
//! page of the handbook.

use crate::decode::{Decode, Decoder};
use crate::node::Node;
use model::Text;
use std::time::Duration;

/// A value that stands in a field of a section.
pub trait Field: Decode + Clone {
    /// What may be written, for the handbook.
    fn words() -> String;

    /// As it is written, for the handbook.
    fn shown(&self) -> String {
        String::new()
    }

    /// Takes over what a farther level says and this one does not. A value that has no fields says all by itself.
    fn fill_from(&mut self, _farther: &Self) {}

    /// Of a section.
    fn fields() -> Vec<FieldDoc> {
        Vec::new()
    }
}

/// One field of a section, as the handbook shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDoc {
    pub key: &'static str,
    pub about: String,
    pub words: String,
    pub default: Option<String>,
    pub fields: Vec<FieldDoc>,
}

/// The nearest level first.
pub fn merged<'a, T: Field + Default + 'a>(nearest_first: impl IntoIterator<Item = &'a T>) -> T {
    nearest_first.into_iter().fold(T::default(), |mut merged, level| {
        merged.fill_from(level);
        merged
    })
}

pub fn fill<T: Field>(near: &mut Option<T>, far: &Option<T>) {
    match (near.as_mut(), far) {
        (Some(near), Some(far)) => near.fill_from(far),
        (None, far) => near.clone_from(far),
        (Some(_), None) => {}
    }
}

/// Lines of a doc comment as one text.
pub fn about(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a section. A field with a default has a method of its name that gives the value that counts.
///
/// ```text
/// section! {
///     /// What it is.
///     pub struct Name {
///         /// What the field does.
///         "key" => field: Type,
///         /// What the other does.
///         "other" => other: Type = default,
///     }
///     checked by rules
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $name_doc:literal])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])* $key:literal => $field:ident : $type:ty $(= $default:expr)? ),* $(,)?
        }
        $(checked by $check:path)?
    ) => {
        $crate::decode::object! {
            $(#[doc = $name_doc])*
            #[derive(Default)]
            $vis struct $name {
                $( $(#[doc = $doc])* $key => $field: Option<$type> ),*
            }
            $(checked by $check)?
        }

        impl $name {
            $( $(
                pub fn $field(&self) -> $type {
                    self.$field.clone().unwrap_or_else(|| $default)
                }
            )? )*
        }

        impl $crate::section::Field for $name {
            fn words() -> String {
                "section".to_owned()
            }

            fn fill_from(&mut self, farther: &Self) {
                $( $crate::section::fill(&mut self.$field, &farther.$field); )*
            }

            fn fields() -> Vec<$crate::section::FieldDoc> {
                vec![$({
                    #[allow(unused_mut, unused_assignments)]
                    let mut default: Option<$type> = None;
                    $( default = Some($default); )?
                    $crate::section::FieldDoc {
                        key: $key,
                        about: $crate::section::about(&[$($doc),*]),
                        words: <$type as $crate::section::Field>::words(),
                        default: default.map(|value| $crate::section::Field::shown(&value)),
                        fields: <$type as $crate::section::Field>::fields(),
                    }
                }),*]
            }
        }
    };
}
pub(crate) use section;

/// A choice as a field of a section.
macro_rules! choice_field {
    ($($type:ident),*) => {
        $( impl $crate::section::Field for $type {
            fn words() -> String {
                $type::CHOICES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            }

            fn shown(&self) -> String {
                self.name().to_owned()
            }
        } )*
    };
}
pub(crate) use choice_field;

/// Declares a whole number within bounds.
macro_rules! bounded {
    ($( $(#[$meta:meta])* $name:ident($type:ty) = $low:literal..=$high:literal; )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name(pub $type);

            impl $crate::decode::Decode for $name {
                fn decode(node: &$crate::node::Node, decoder: &mut $crate::decode::Decoder) -> Option<Self> {
                    $crate::decode::integer(node, decoder, $low, $high).map(|value| $name(value as $type))
                }
            }

            impl $crate::section::Field for $name {
                fn words() -> String {
                    format!("{} to {}", $low, $high)
                }

                fn shown(&self) -> String {
                    self.0.to_string()
                }
            }
        )*
    };
}
pub(crate) use bounded;

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl Decode for Flag {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        bool::decode(node, decoder).map(Flag)
    }
}

impl Field for Flag {
    fn words() -> String {
        "true, false".to_owned()
    }

    fn shown(&self) -> String {
        self.0.to_string()
    }
}

impl Field for Text {
    fn words() -> String {
        "text".to_owned()
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Field for u16 {
    fn words() -> String {
        "port".to_owned()
    }
}

impl<T: Field> Field for Vec<T> {
    fn words() -> String {
        format!("list of {}", T::words())
    }

    fn shown(&self) -> String {
        self.iter().map(Field::shown).collect::<Vec<_>>().join(", ")
    }
}

/// The largest units first, as GEP-2257 writes it.
pub fn shown_duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if left >= milliseconds {
            text += &format!("{}{unit}", left / milliseconds);
            left %= milliseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::edge_policy::{EdgePolicy, LoadBalancing, Percent, RetrySection};
    use std::collections::HashSet;

    /// Levels that say one field, several, a section without fields, and nothing.
    fn levels() -> Vec<EdgePolicy> {
        let balancing = |percent: Option<u8>, slow_start: Option<u64>| LoadBalancing {
            panic_percent: percent.map(Percent),
            slow_start: slow_start
                .map(|s| crate::kinds::edge_policy::Period(Duration::from_secs(s))),
            ..LoadBalancing::default()
        };
        let of =
            |load_balancing, retry| EdgePolicy { load_balancing, retry, ..EdgePolicy::default() };
        vec![
            EdgePolicy::default(),
            of(Some(balancing(Some(1), None)), None),
            of(Some(balancing(Some(2), Some(2))), Some(RetrySection::default())),
            of(Some(balancing(None, Some(3))), None),
            of(Some(LoadBalancing::default()), None),
        ]
    }

    #[test]
    fn a_field_is_what_the_nearest_level_says_that_says_it() {
        for near in levels() {
            for middle in levels() {
                for far in levels() {
                    let all = merged([&near, &middle, &far]);
                    let says = |pick: fn(&LoadBalancing) -> Option<String>| {
                        let each = [&near, &middle, &far].into_iter();
                        each.flat_map(|level| &level.load_balancing).find_map(pick)
                    };
                    let percent =
                        |section: &LoadBalancing| section.panic_percent.map(|p| p.shown());
                    let slow = |section: &LoadBalancing| section.slow_start.map(|p| p.shown());
                    assert_eq!(all.load_balancing.as_ref().and_then(percent), says(percent));
                    assert_eq!(all.load_balancing.as_ref().and_then(slow), says(slow));
                    // However the levels are bracketed.
                    assert_eq!(merged([&merged([&near, &middle]), &far]), all);
                    assert_eq!(merged([&near, &merged([&middle, &far])]), all);
                }
            }
        }
    }

    #[test]
    fn every_field_of_a_policy_is_documented_once() {
        fn check(fields: &[FieldDoc], path: &str) {
            let mut keys = HashSet::new();
            for field in fields {
                assert!(keys.insert(field.key), "{path}.{}", field.key);
                assert!(field.about.ends_with('.'), "{path}.{}", field.key);
                assert!(!field.words.is_empty(), "{path}.{}", field.key);
                assert_ne!(field.default.as_deref(), Some(""), "{path}.{}", field.key);
                check(&field.fields, field.key);
            }
        }
        check(&EdgePolicy::fields(), "spec");
    }

    #[test]
    fn durations_are_shown_as_they_are_read() {
        for text in ["30s", "1m30s", "500ms", "1h", "1s5ms", "0s"] {
            let duration = model::quantity::parse_duration(text).expect("a duration");
            assert_eq!(shown_duration(duration), text);
        }
    }
}
