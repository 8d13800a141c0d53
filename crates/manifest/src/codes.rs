//! Every diagnostic of this crate. The slugs are stable.

use model::{Code, Severity};

const fn error(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Error, meaning }
}

const fn warning(slug: &'static str, meaning: &'static str) -> Code {
    Code { slug, severity: Severity::Warning, meaning }
}

pub const UNKNOWN_FIELD: Code = error(
    "unknown-field",
    "The kind has no field of this name. Correct the spelling, or remove it.",
);
pub const WRONG_TYPE: Code =
    error("wrong-type", "The value is of another type than the field takes.");
pub const MISSING_FIELD: Code =
    error("missing-field", "A field that the kind needs is not there. Add it.");
pub const BAD_VALUE: Code =
    error("bad-value", "The field takes one of a few words. Use one of those that are listed.");
pub const OUT_OF_RANGE: Code =
    error("out-of-range", "The number is outside what the field allows.");
pub const BAD_HOSTNAME: Code = error("bad-hostname", "The text is no hostname (RFC 1123, UTS 46).");
pub const BAD_DURATION: Code = error("bad-duration", "The text is no duration (GEP-2257).");
pub const FIELD_NOT_SERVED: Code = warning(
    "field-not-served",
    "The specification knows the field, this version does not serve it. It has no effect.",
);

/// For the diagnostics index.
pub const ALL: &[Code] = &[
    UNKNOWN_FIELD,
    WRONG_TYPE,
    MISSING_FIELD,
    BAD_VALUE,
    OUT_OF_RANGE,
    BAD_HOSTNAME,
    BAD_DURATION,
    FIELD_NOT_SERVED,
];
