//! Every diagnostic of this crate. The slugs are stable.

use model::{Code, Severity};

/// Declares the codes and the list of all of them.
macro_rules! codes {
    ($( $name:ident = $severity:ident $slug:literal, $meaning:literal; )*) => {
        $( pub const $name: Code =
            Code { slug: $slug, severity: Severity::$severity, meaning: $meaning }; )*

        /// For the diagnostics index.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    YAML_SYNTAX = Error "yaml-syntax",
        "The text is no YAML. The document that holds it is not read; mend what the message names.";
    JSON_SYNTAX = Error "json-syntax",
        "The text is no JSON. The file is not read; mend what the message names.";
    DUPLICATE_KEY = Error "duplicate-key",
        "A map holds one key twice, and only one of the values could count. Keep one of the two.";
    TOO_LARGE = Error "too-large",
        "A file or a folder is beyond a limit that protects the program. Split it.";
    NOT_A_MANIFEST = Warning "not-a-manifest",
        "The document has neither `apiVersion` nor `kind`, nor a shape that is known. It has no effect: add them, or move the file elsewhere.";
    UNKNOWN_KIND = Error "unknown-kind",
        "A group that is served has no kind of this name. Correct the spelling.";
    UNKNOWN_VERSION = Error "unknown-version",
        "The kind is served, this version of it is not. Use the version that the message names.";
    KIND_NOT_SERVED = Warning "kind-not-served",
        "The kind is known and belongs to a group that is served, but it is not served yet. The object has no effect.";
    DUPLICATE_OBJECT = Error "duplicate-object",
        "Two documents define one object. Remove one, or give it another name or namespace.";
    BAD_NAME = Error "bad-name",
        "The text is no name of an object: lower-case letters, digits, hyphens and, for most kinds, dots.";
    UNKNOWN_FIELD = Error "unknown-field",
        "The kind has no field of this name. Correct the spelling, or remove it.";
    WRONG_TYPE = Error "wrong-type",
        "The value is of another type than the field takes.";
    MISSING_FIELD = Error "missing-field",
        "A field that the kind needs is not there. Add it.";
    BAD_VALUE = Error "bad-value",
        "The value is not one that the field takes. Use one that the message names.";
    OUT_OF_RANGE = Error "out-of-range",
        "The number, or the count of items, is outside what the field allows.";
    CONTRADICTION = Error "contradiction",
        "Two fields of one object exclude each other, or one needs another that is missing. Follow the message.";
    BAD_HOSTNAME = Error "bad-hostname",
        "The text is no hostname (RFC 1123, UTS 46).";
    BAD_DURATION = Error "bad-duration",
        "The text is no duration (GEP-2257).";
    BAD_ADDRESS = Error "bad-address",
        "The text is no IP address of the family that the field takes.";
    BAD_ADDRESS_LIST = Error "bad-address-list",
        "A list of addresses that a policy names is not there, or one of its lines is no network.";
    TARGET_TWICE = Warning "target-twice",
        "A policy names one target twice. It counts once: remove the second entry, or correct it.";
    NETWORK_IDLE = Warning "network-without-effect",
        "A network is let in and kept out by one policy, and so kept out.";
    TRUSTS_EVERYBODY = Warning "trusts-everybody",
        "Every address is believed to be a proxy's, so any client may claim to be somebody else.";
    BAD_BASE64 = Error "bad-base64",
        "The value of a Secret's `data` is no base64. Encode it, or write it as plain text in `stringData`.";
    BAD_PEM = Error "bad-pem",
        "The text is no PEM, or the PEM holds no certificate or key that can be read.";
    KEY_MISMATCH = Error "key-mismatch",
        "The private key does not belong to the certificate. Put the pair together that was issued together.";
    CHAIN_ORDER = Warning "chain-order",
        "The first certificate of the chain is not followed by its issuer. Put the leaf first, then each issuer.";
    BAD_RECORD = Error "bad-record",
        "A DNS record cannot be served as written. The message says which rule it breaks.";
    RELATIVE_NAME = Warning "relative-name",
        "A name of a zone repeats the zone's own name and ends in no dot, so it stands below itself. End it with a dot, or leave the zone's name away.";
    FIELD_NOT_SERVED = Warning "field-not-served",
        "The specification knows the field, this version does not serve it. It has no effect.";
    ANNOTATION_NOT_SERVED = Warning "annotation-not-served",
        "The annotation is known, this version does not serve it. It has no effect.";
    FINDINGS_LEFT_OUT = Note "findings-left-out",
        "A file has more findings than are shown; errors are shown first. Mend those and look again.";
}
