//! Names of fields that the edge alone may write to a backend, in every spelling by which a backend could take them for
//! the edge's own. An underscore counts as a hyphen: whoever gets fields as variables (RFC 3875 section 4.1.18) cannot
//! tell them apart.

/// As a backend that gets variables compares names.
#[inline]
pub(crate) fn is_alike(name: &[u8], own: &[u8]) -> bool {
    let plain = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == own.len() && name.iter().zip(own).all(|(b, own)| plain(b) == plain(own))
}

/// What says where a request comes from, and who is at the other end.
#[inline]
pub(crate) fn is_edge_field(name: &[u8]) -> bool {
    let own: &[&[u8]] = match name.len() {
        9 => &[b"x-real-ip"],
        11 => &[b"client-cert"],
        12 => &[b"x-request-id"],
        15 => &[b"x-forwarded-for"],
        16 => &[b"x-forwarded-host", b"x-forwarded-port"],
        17 => &[b"x-forwarded-proto", b"client-cert-chain"],
        _ => &[],
    };
    own.iter().any(|own| is_alike(name, own))
}

/// Of those, what a certificate says (RFC 9440 section 2.4). In trailers these are dropped, too.
#[inline]
pub(crate) fn is_certificate_field(name: &[u8]) -> bool {
    is_alike(name, b"client-cert") || is_alike(name, b"client-cert-chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_edge_in_every_spelling() {
        for (name, of_edge, of_certificate) in [
            ("client-cert", true, true),
            ("Client-Cert", true, true),
            ("CLIENT_CERT", true, true),
            ("Client_Cert-Chain", true, true),
            ("client-cert-chain", true, true),
            ("X_Forwarded_For", true, false),
            ("x_forwarded-host", true, false),
            ("X_FORWARDED_PORT", true, false),
            ("x-forwarded_proto", true, false),
            ("X_Request_ID", true, false),
            ("X_Real_IP", true, false),
            ("x-real-ip", true, false),
            ("client-certs", false, false),
            ("client-cert-chai", false, false),
            ("clientxcert", false, false),
            ("x-forwarded-fox", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_edge_field(name.as_bytes()), of_edge, "{name}");
            assert_eq!(is_certificate_field(name.as_bytes()), of_certificate, "{name}");
        }
    }
}
