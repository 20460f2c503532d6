//! Object identifiers, kept as the octets that DER writes.

use super::error::{Fault, VerifyError};

/// An object identifier's content octets (X.690 section 8.19).
pub(super) type Oid<'a> = &'a [u8];

/// 2.16.840.1.101.3.4.2.1
pub(super) const SHA256: Oid<'_> = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// 2.16.840.1.101.3.4.2.2
pub(super) const SHA384: Oid<'_> = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
/// 2.16.840.1.101.3.4.2.3
pub(super) const SHA512: Oid<'_> = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
/// 1.2.840.113549.1.1.1
pub(super) const RSA: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// 1.2.840.113549.1.1.11
pub(super) const RSA_SHA256: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
/// 1.2.840.113549.1.1.12
pub(super) const RSA_SHA384: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
/// 1.2.840.113549.1.1.13
pub(super) const RSA_SHA512: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
/// 1.2.840.10045.4.3.2
pub(super) const ECDSA_SHA256: Oid<'_> = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.10045.4.3.3
pub(super) const ECDSA_SHA384: Oid<'_> = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.7.2, signedData of RFC 5652.
pub(super) const SIGNED_DATA: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// 1.2.840.113549.1.9.3, contentType of RFC 5652.
pub(super) const CONTENT_TYPE: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
/// 1.2.840.113549.1.9.4, messageDigest of RFC 5652.
pub(super) const MESSAGE_DIGEST: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// 1.2.840.113549.1.9.16.1.4, TSTInfo of RFC 3161.
pub(super) const TST_INFO: Oid<'_> = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
/// 1.2.840.113549.1.9.16.2.47, signingCertificateV2 of RFC 5035.
pub(super) const SIGNING_CERTIFICATE_V2: Oid<'_> =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 47];
/// 2.5.29.15
pub(super) const KEY_USAGE: Oid<'_> = &[0x55, 0x1d, 0x0f];
/// 2.5.29.19
pub(super) const BASIC_CONSTRAINTS: Oid<'_> = &[0x55, 0x1d, 0x13];
/// 2.5.29.32
pub(super) const CERTIFICATE_POLICIES: Oid<'_> = &[0x55, 0x1d, 0x20];
/// 2.5.29.37
pub(super) const EXTENDED_KEY_USAGE: Oid<'_> = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.5.5.7.3.3, codeSigning of RFC 5280.
pub(super) const CODE_SIGNING: Oid<'_> = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// 1.3.6.1.5.5.7.3.8, timeStamping of RFC 5280.
pub(super) const TIME_STAMPING: Oid<'_> = &[0x2b, 6, 1, 5, 5, 7, 3, 8];
/// 1.3.6.1.4.1.311.76.57.1.11, which Microsoft's signer of Exchange mitigations carries.
pub(super) const MICROSOFT_EXCHANGE_XML: Oid<'_> =
    &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x4c, 0x39, 1, 0x0b];

/// Reads an object identifier written with dots.
///
/// # Errors
///
/// [`Fault::Configuration`] when it is none.
pub(super) fn from_dotted(text: &str) -> Result<Vec<u8>, VerifyError> {
    parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        let words = format!("'{shown}' is no object identifier: write one like 1.3.6.1.5.5.7.3.3");
        VerifyError::new(Fault::Configuration, words)
    })
}

fn parse(text: &str) -> Option<Vec<u8>> {
    let mut arcs = text.split('.').map(|arc| match arc {
        // A sign is no digit, though parse() would take one.
        _ if !arc.bytes().all(|octet| octet.is_ascii_digit()) => None,
        _ => arc.parse::<u32>().ok(),
    });
    let (first, second) = (arcs.next()??, arcs.next()??);
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut octets = Vec::new();
    push(&mut octets, u64::from(first) * 40 + u64::from(second));
    for arc in arcs {
        push(&mut octets, u64::from(arc?));
    }
    Some(octets)
}

/// Appends a number in groups of seven bits, all but the last marked.
fn push(octets: &mut Vec<u8>, number: u64) {
    let groups = (u64::BITS - number.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let bits = (number >> (7 * group)) as u8 & 0x7f;
        octets.push(if group == 0 { bits } else { bits | 0x80 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_text() {
        for (text, octets) in [
            ("1.3.6.1.5.5.7.3.3", CODE_SIGNING),
            ("1.3.6.1.5.5.7.3.8", TIME_STAMPING),
            ("1.3.6.1.4.1.311.76.57.1.11", MICROSOFT_EXCHANGE_XML),
            ("2.16.840.1.101.3.4.2.1", SHA256),
            ("1.2.840.113549.1.9.16.2.47", SIGNING_CERTIFICATE_V2),
            ("2.5.29.0", &[0x55, 0x1d, 0]),
            ("2.999", &[0x88, 0x37]),
        ] {
            assert_eq!(parse(text).as_deref(), Some(octets), "{text}");
        }
        for text in [
            "",
            "1",
            "1.",
            ".1",
            "3.1",
            "1.40",
            "1.2.x",
            "1.2.-3",
            "1.2.+3",
            "1.2.4294967296",
        ] {
            let error = from_dotted(text).expect_err(text);
            assert_eq!(error.fault(), Fault::Configuration, "{text}");
        }
    }
}
