//! What is read of an X.509 certificate beside what webpki reads.

use super::der::{
    self, BIT_STRING, BOOLEAN, DerError, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader,
    SEQUENCE, context,
};
use super::oid::{self, Oid};
use crate::model::UnixTime;

/// A version 3 certificate (RFC 5280 section 4.1), not verified in any way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificate<'a> {
    /// The signed part, as written.
    pub(super) signed: &'a [u8],
    pub(super) serial: &'a [u8],
    /// The issuer's name, as written.
    pub(super) issuer: &'a [u8],
    /// The subject's name, as written.
    pub(super) subject: &'a [u8],
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) signature: &'a [u8],
    extensions: Reader<'a>,
}

/// One extension (RFC 5280 section 4.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) oid: Oid<'a>,
    pub(super) is_critical: bool,
    pub(super) value: &'a [u8],
}

/// A bit of the key usage extension (RFC 5280 section 4.2.1.3), as the number of the bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KeyUsage {
    DigitalSignature = 0,
    ContentCommitment = 1,
    KeyCertSign = 5,
}

impl<'a> Certificate<'a> {
    pub(super) fn read(octets: &'a [u8]) -> der::Result<Self> {
        let mut outer = Reader::new(octets);
        let mut certificate = outer.sequence()?;
        outer.end()?;
        let signed = certificate.expect(SEQUENCE)?;
        let algorithm = certificate.expect(SEQUENCE)?;
        let signature = certificate.expect(BIT_STRING)?;
        certificate.end()?;
        let Some((0, signature)) = signature.content.split_first().map(|(n, s)| (*n, s)) else {
            return Err(DerError::new(
                "a signature that is no whole number of octets",
            ));
        };

        let mut fields = signed.inside();
        fields.expect(context(0))?;
        let serial = fields.expect(INTEGER)?.content;
        if fields.expect(SEQUENCE)?.encoding != algorithm.encoding {
            return Err(DerError::new("two signature algorithms in one certificate"));
        }
        let issuer = fields.expect(SEQUENCE)?.encoding;
        let mut validity = fields.sequence()?;
        let not_before = der::time(validity.any()?)?;
        let not_after = der::time(validity.any()?)?;
        validity.end()?;
        let subject = fields.expect(SEQUENCE)?.encoding;
        fields.expect(SEQUENCE)?;
        // Unique identifiers have long been out of use.
        fields.optional(context(1) & !0x20)?;
        fields.optional(context(2) & !0x20)?;
        let extensions = match fields.optional(context(3))? {
            Some(wrapped) => wrapped.inside().sequence()?,
            None => Reader::new(&[]),
        };
        fields.end()?;
        Ok(Self {
            signed: signed.encoding,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            signature,
            extensions,
        })
    }

    /// Every extension, in order.
    pub(super) fn extensions(&self) -> der::Result<Vec<Extension<'a>>> {
        let mut reader = self.extensions;
        let mut extensions: Vec<Extension<'_>> = Vec::new();
        while !reader.is_empty() {
            let mut fields = reader.sequence()?;
            let oid = fields.expect(OBJECT_IDENTIFIER)?.content;
            let critical = fields.optional(BOOLEAN)?;
            let value = fields.expect(OCTET_STRING)?.content;
            fields.end()?;
            if extensions.iter().any(|extension| extension.oid == oid) {
                return Err(DerError::new("an extension that is there twice"));
            }
            extensions.push(Extension {
                oid,
                is_critical: critical.is_some_and(|critical| critical.content != [0]),
                value,
            });
        }
        Ok(extensions)
    }

    /// The purposes of the extended key usage extension; none when the extension is absent.
    pub(super) fn extended_key_usages(&self) -> der::Result<Vec<Oid<'a>>> {
        let Some(value) = self.extension(oid::EXTENDED_KEY_USAGE)? else {
            return Ok(Vec::new());
        };
        let mut outer = Reader::new(value);
        let mut purposes = outer.sequence()?;
        outer.end()?;
        let mut found = Vec::new();
        while !purposes.is_empty() {
            found.push(purposes.expect(OBJECT_IDENTIFIER)?.content);
        }
        Ok(found)
    }

    /// Whether the key may be used so: always when the key usage extension is absent.
    pub(super) fn allows(&self, usage: KeyUsage) -> der::Result<bool> {
        let Some(value) = self.extension(oid::KEY_USAGE)? else {
            return Ok(true);
        };
        let mut outer = Reader::new(value);
        let bits = outer.expect(BIT_STRING)?.content;
        outer.end()?;
        let number = usage as usize;
        // The first octet counts unused bits at the end.
        let octet = bits.get(1 + number / 8).copied().unwrap_or(0);
        Ok(octet & (0x80 >> (number % 8)) != 0)
    }

    /// Whether the basic constraints extension says that this is an authority.
    pub(super) fn is_authority(&self) -> der::Result<bool> {
        let Some(value) = self.extension(oid::BASIC_CONSTRAINTS)? else {
            return Ok(false);
        };
        let flag = Reader::new(value).sequence()?.optional(BOOLEAN)?;
        Ok(flag.is_some_and(|flag| flag.content == [0xff]))
    }

    fn extension(&self, oid: Oid<'_>) -> der::Result<Option<&'a [u8]>> {
        let found = self
            .extensions()?
            .into_iter()
            .find(|extension| extension.oid == oid);
        Ok(found.map(|extension| extension.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &[u8] = include_bytes!("../../rules/trust/microsoft-root-2011.der");

    #[test]
    fn reads_a_root() {
        let root = Certificate::read(ROOT).unwrap();
        assert_eq!(root.issuer, root.subject);
        assert_eq!(root.not_before.to_string(), "2011-03-22T22:05:28Z");
        assert_eq!(root.not_after.to_string(), "2036-03-22T22:13:04Z");
        assert!(root.is_authority().unwrap());
        assert!(root.allows(KeyUsage::KeyCertSign).unwrap());
        assert!(!root.allows(KeyUsage::ContentCommitment).unwrap());
        assert!(root.extended_key_usages().unwrap().is_empty());
    }

    #[test]
    fn mutated_certificates_never_panic() {
        for at in 0..ROOT.len() {
            for value in [0, 1, 0x1f, 0x30, 0x80, 0x84, 0xff] {
                let mut octets = ROOT.to_vec();
                octets[at] = value;
                if let Ok(certificate) = Certificate::read(&octets) {
                    let _ = certificate.extended_key_usages();
                    let _ = certificate.allows(KeyUsage::DigitalSignature);
                    let _ = certificate.is_authority();
                }
            }
            assert!(Certificate::read(&ROOT[..at]).is_err());
        }
    }
}
