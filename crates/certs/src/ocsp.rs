//! Whether a certificate still stands, asked of the responder that it names (RFC 6960, in the narrow form of RFC 5019):
//! the question, and the judgement of an answer. Not here: how the question is sent, and when (`instance`).

use crate::der::{
    BIT_STRING, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, element,
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// Clocks of responders may be ahead of ours by this much.
const SKEW: Duration = Duration::from_secs(300);

/// A question about one certificate.
#[derive(Clone, Debug)]
pub struct OcspQuery {
    /// Where to send it, by HTTP.
    pub url: String,
    /// The body of the request, of type `application/ocsp-request`.
    pub request: Vec<u8>,
    /// Issuer's name, issuer's key, serial number: what the answer has to be about.
    subject: [Vec<u8>; 3],
    issuer: Vec<u8>,
}

/// The authority says that the certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    pub response: Vec<u8>,
    pub this_update: SystemTime,
    /// From then on it says nothing any more.
    pub next_update: SystemTime,
}

/// Why an answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspFault {
    /// No OCSP response, or not of the basic form.
    Malformed,
    /// The responder does not answer the question; its status.
    Refused(u8),
    /// The answer is about other certificates.
    OtherCertificate,
    /// The authority has taken the certificate back.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
    /// Not signed by the issuer, or by somebody whom it lets sign.
    Signature,
    /// Too old, from the future, or without an end.
    Time,
}

impl fmt::Display for OcspFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OcspFault::Malformed => "what it sent is no OCSP response",
            OcspFault::Refused(6) => "the responder does not answer us (unauthorized)",
            OcspFault::Refused(3) => "the responder says to try later",
            OcspFault::Refused(_) => "the responder does not answer the question",
            OcspFault::OtherCertificate => "the response is about another certificate",
            OcspFault::Revoked => "the certificate is revoked; replace it",
            OcspFault::Unknown => "the responder does not know the certificate",
            OcspFault::Signature => "the response is not signed by the certificate's issuer",
            OcspFault::Time => "the response is not valid at this time, or has no end",
        })
    }
}

impl std::error::Error for OcspFault {}

const SHA1_ALGORITHM: &[u8] = &[0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
const SHA1_OID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// id-pkix-ocsp-basic.
const BASIC_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

impl OcspQuery {
    /// None where the certificate names no responder, or the chain has no issuer after it. In DER, the leaf first.
    pub fn of(chain: &[impl AsRef<[u8]>]) -> Option<OcspQuery> {
        let [leaf, issuer, ..] = chain else { return None };
        let (_, leaf) = X509Certificate::from_der(leaf.as_ref()).ok()?;
        let url = responder(&leaf)?;
        let issuer_der = issuer.as_ref();
        let (_, issuer) = X509Certificate::from_der(issuer_der).ok()?;
        if leaf.issuer().as_raw() != issuer.subject().as_raw() {
            return None;
        }
        let hash = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let name = hash(issuer.subject().as_raw());
        let key = hash(&issuer.public_key().subject_public_key.data);
        let serial = leaf.raw_serial().to_vec();
        let id = element(
            SEQUENCE,
            &[
                SHA1_ALGORITHM,
                &element(OCTET_STRING, &[&name]),
                &element(OCTET_STRING, &[&key]),
                &element(INTEGER, &[&serial]),
            ],
        );
        // Request, the list of one, TBSRequest, OCSPRequest.
        let request = (0..4).fold(id, |inner, _| element(SEQUENCE, &[&inner]));
        Some(OcspQuery { url, request, subject: [name, key, serial], issuer: issuer_der.to_vec() })
    }

    /// Whether the answer may be shown to clients.
    pub fn judge(&self, response: &[u8], now: SystemTime) -> Result<Staple, OcspFault> {
        let basic = Basic::read(response)?;
        let single = basic.single(&self.subject)?;
        self.verify(&basic, now)?;
        match single.status {
            0x80 => {}
            0xa1 => return Err(OcspFault::Revoked),
            _ => return Err(OcspFault::Unknown),
        }
        let (this_update, next_update) = single.times.ok_or(OcspFault::Time)?;
        match this_update <= now + SKEW && now < next_update {
            true => Ok(Staple { response: response.to_vec(), this_update, next_update }),
            false => Err(OcspFault::Time),
        }
    }

    /// Signed by the issuer itself, or by a responder to whom the issuer gave a certificate for it (RFC 6960 section
    /// 4.2.2.2).
    fn verify(&self, basic: &Basic<'_>, now: SystemTime) -> Result<(), OcspFault> {
        let (_, issuer) =
            X509Certificate::from_der(&self.issuer).map_err(|_| OcspFault::Signature)?;
        let is_signed_by = |key: &SubjectPublicKeyInfo<'_>| {
            verifies(key, basic.algorithm, basic.data, basic.signature)
        };
        if is_signed_by(issuer.public_key()) {
            return Ok(());
        }
        let is_delegate = |der: &[u8]| {
            let Ok((_, delegate)) = X509Certificate::from_der(der) else { return false };
            may_sign(&delegate, &issuer, now) && is_signed_by(delegate.public_key())
        };
        match basic.certificates.iter().any(|der| is_delegate(der)) {
            true => Ok(()),
            false => Err(OcspFault::Signature),
        }
    }
}

/// The first that is spoken to by plain HTTP, as RFC 5019 section 5 has it.
fn responder(leaf: &X509Certificate<'_>) -> Option<String> {
    const OCSP: &str = "1.3.6.1.5.5.7.48.1";
    let access =
        leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        })?;
    access.iter().find_map(|described| match &described.access_location {
        GeneralName::URI(url)
            if described.access_method.to_id_string() == OCSP && url.starts_with("http://") =>
        {
            Some((*url).to_owned())
        }
        _ => None,
    })
}

fn may_sign(delegate: &X509Certificate<'_>, issuer: &X509Certificate<'_>, now: SystemTime) -> bool {
    let is_named = delegate.issuer().as_raw() == issuer.subject().as_raw();
    let usage = delegate.extended_key_usage().ok().flatten();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let validity = delegate.validity();
    is_named
        && usage.is_some_and(|usage| usage.value.ocsp_signing)
        && validity.not_before.timestamp() <= seconds
        && seconds <= validity.not_after.timestamp()
        && verifies(
            issuer.public_key(),
            &oid(&delegate.signature_algorithm.algorithm),
            delegate.tbs_certificate.as_ref(),
            &delegate.signature_value.data,
        )
}

fn oid(oid: &x509_parser::der_parser::oid::Oid<'_>) -> Vec<u8> {
    oid.as_bytes().to_vec()
}

/// The algorithms that authorities sign with today; nothing with SHA-1.
fn verifies(key: &SubjectPublicKeyInfo<'_>, algorithm: &[u8], data: &[u8], signed: &[u8]) -> bool {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let of_key: &[&'static dyn VerificationAlgorithm] = match algorithm.split_last() {
        Some((11, RSA)) => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        Some((12, RSA)) => &[&signature::RSA_PKCS1_2048_8192_SHA384],
        Some((13, RSA)) => &[&signature::RSA_PKCS1_2048_8192_SHA512],
        // A key of another curve does not verify.
        Some((2, ECDSA)) => {
            &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P384_SHA256_ASN1]
        }
        Some((3, ECDSA)) => {
            &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P256_SHA384_ASN1]
        }
        _ if algorithm == ED25519 => &[&signature::ED25519],
        _ => &[],
    };
    let bits = &key.subject_public_key.data;
    of_key
        .iter()
        .any(|algorithm| UnparsedPublicKey::new(*algorithm, bits).verify(data, signed).is_ok())
}

/// BasicOCSPResponse (RFC 6960 section 4.2.1).
struct Basic<'a> {
    /// ResponseData with tag and length: what is signed.
    data: &'a [u8],
    responses: &'a [u8],
    /// Of the signature, as bytes of its object identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

struct Single {
    /// The tag of CertStatus.
    status: u8,
    /// thisUpdate and nextUpdate, where both can be read.
    times: Option<(SystemTime, SystemTime)>,
}

impl<'a> Basic<'a> {
    fn read(response: &'a [u8]) -> Result<Basic<'a>, OcspFault> {
        let mut outer = Reader(Reader(response).expect(SEQUENCE).ok_or(OcspFault::Malformed)?);
        match outer.expect(ENUMERATED) {
            Some([0]) => {}
            Some([status]) => return Err(OcspFault::Refused(*status)),
            _ => return Err(OcspFault::Malformed),
        }
        Basic::within(outer).ok_or(OcspFault::Malformed)
    }

    fn within(mut outer: Reader<'a>) -> Option<Basic<'a>> {
        let mut bytes = Reader(Reader(outer.expect(0xa0)?).expect(SEQUENCE)?);
        if bytes.expect(OID)? != BASIC_OID {
            return None;
        }
        let mut basic = Reader(Reader(bytes.expect(OCTET_STRING)?).expect(SEQUENCE)?);
        let data = basic.element().filter(|found| found.tag == SEQUENCE)?;
        let algorithm = Reader(basic.expect(SEQUENCE)?).expect(OID)?;
        // All bits of the last byte count.
        let signature = basic.expect(BIT_STRING)?.strip_prefix(&[0])?;
        let certificates = match basic.optional(0xa0) {
            Some(list) => elements(Reader(list).expect(SEQUENCE)?),
            None => Vec::new(),
        };
        let mut fields = Reader(data.value);
        fields.optional(0xa0);
        // responderID by name or by key; whose the signature is, is found by verifying it.
        fields.element().filter(|found| matches!(found.tag, 0xa1 | 0xa2))?;
        fields.expect(GENERALIZED_TIME)?;
        let responses = fields.expect(SEQUENCE)?;
        Some(Basic { data: data.whole, responses, algorithm, signature, certificates })
    }

    fn single(&self, [name, key, serial]: &[Vec<u8>; 3]) -> Result<Single, OcspFault> {
        let mut responses = Reader(self.responses);
        while let Some(response) = responses.expect(SEQUENCE) {
            let mut fields = Reader(response);
            let mut id = Reader(fields.expect(SEQUENCE).ok_or(OcspFault::Malformed)?);
            let hash = id.expect(SEQUENCE).and_then(|hash| Reader(hash).expect(OID));
            let is_about = hash == Some(SHA1_OID)
                && id.expect(OCTET_STRING) == Some(name)
                && id.expect(OCTET_STRING) == Some(key)
                && id.expect(INTEGER) == Some(serial);
            if is_about {
                return single(fields).ok_or(OcspFault::Malformed);
            }
        }
        Err(OcspFault::OtherCertificate)
    }
}

fn single(mut fields: Reader<'_>) -> Option<Single> {
    let status = fields.element()?.tag;
    let this_update = time(fields.expect(GENERALIZED_TIME)?);
    let next_update = fields.optional(0xa0).and_then(|time| Reader(time).expect(GENERALIZED_TIME));
    Some(Single { status, times: this_update.zip(next_update.and_then(time)) })
}

fn elements(list: &[u8]) -> Vec<&[u8]> {
    let mut reader = Reader(list);
    std::iter::from_fn(|| reader.element()).map(|found| found.whole).collect()
}

/// `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5.2).
fn time(text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 14)?;
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = &digits[range];
        let are_digits = digits.iter().all(u8::is_ascii_digit);
        are_digits.then(|| digits.iter().fold(0, |all, digit| all * 10 + u64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    let is_date =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, counted from March so that the leap day is the last of a year.
    let shifted = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let days =
        365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month + 2) / 5 + day
            - 1;
    let days = days.checked_sub(719_468)?;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}
