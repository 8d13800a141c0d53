//! The little of DER (X.690) that OCSP needs and `x509-parser` does not read: elements one after the other. Any bytes
//! may come: what is no element is none, and nothing is read beyond the input.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;

/// What is left of a value that holds elements.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub tag: u8,
    pub value: &'a [u8],
    /// With tag and length.
    pub whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn element(&mut self) -> Option<Element<'a>> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // More than four bytes of length are more than anybody sends.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag: *tag, value, whole })
    }

    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().filter(|found| found.tag == tag).map(|found| found.value)
    }

    /// The next element if it has the tag; else it stays.
    pub fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.expect(tag) } else { None }
    }
}

/// An element of these parts. Lengths up to 65,535 bytes: what is built here is short.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(len <= usize::from(u16::MAX));
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend([0x81, len as u8]),
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 127, 128, 255, 256, 40_000] {
            let value = vec![7; len];
            let written = element(OCTET_STRING, &[&value, &[]]);
            let mut reader = Reader(&written);
            let found = reader.element().expect("an element");
            assert_eq!((found.tag, found.value.len(), found.whole.len()), (4, len, written.len()));
            assert!(reader.element().is_none());
        }
    }

    #[test]
    fn what_is_cut_off_is_no_element() {
        let written = element(OCTET_STRING, &[&[7; 300]]);
        for len in 0..written.len() {
            assert!(Reader(&written[..len]).element().is_none(), "{len}");
        }
        for bytes in
            [&[4, 0x80, 0, 0][..], &[4, 0x85, 0, 0, 0, 0, 0], &[4, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(Reader(bytes).element().is_none(), "{bytes:?}");
        }
    }
}
