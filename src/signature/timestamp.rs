//! Verifies an RFC 3161 timestamp: a CMS signature (RFC 5652) by an authority over a digest and a time.

use super::algorithm::{self, Hash, sha256};
use super::anchors::TrustAnchors;
use super::certificate::Certificate;
use super::chain::Chain;
use super::der::{
    self, DerError, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE,
    SET, Value, context,
};
use super::error::VerifyError;
use super::oid::{self, Oid};
use super::profile::CERTIFICATES;
use crate::model::UnixTime;

/// Proves that an authority saw `stamped`, and returns when.
///
/// `others` are certificates that came beside the token.
pub(super) fn verify(
    token: &[u8],
    stamped: &[u8],
    others: &[Vec<u8>],
    roots: &TrustAnchors,
) -> Result<UnixTime, VerifyError> {
    let token = Token::read(token).map_err(malformed)?;
    let stamp = Stamp::read(token.content).map_err(malformed)?;
    let certificates: Vec<&[u8]> = token
        .certificates
        .iter()
        .copied()
        .chain(others.iter().map(Vec::as_slice))
        .collect();
    let authority = check_signature(&token, &certificates)?;
    if !stamp.hash.matches(stamped, stamp.digest) {
        return Err(VerifyError::timestamp(
            "the timestamp belongs to another signature",
        ));
    }
    check_authority(authority, &certificates, roots, stamp.time)?;
    Ok(stamp.time)
}

/// Finds the certificate that signed the token, and proves that it did.
fn check_signature<'a>(
    token: &Token<'_>,
    certificates: &[&'a [u8]],
) -> Result<&'a [u8], VerifyError> {
    let signer = &token.signer;
    let attributes = Attributes::read(signer.attributes).map_err(malformed)?;
    // The authority signed the attributes, which hold the digest of the content.
    if attributes.content_type != oid::TST_INFO
        || !signer
            .hash
            .matches(token.content, attributes.message_digest)
    {
        return Err(VerifyError::timestamp(
            "the timestamp was changed after it was made",
        ));
    }
    let authority = certificates
        .iter()
        .copied()
        .find(|octets| signer.is_named_by(octets))
        .ok_or_else(|| {
            VerifyError::timestamp("the timestamp authority's certificate is missing")
        })?;
    let is_bound = attributes
        .certificate_hash
        .matches(authority, attributes.certificate_digest);
    let signed = signer.signed_octets();
    match is_bound
        && algorithm::is_signed_by(authority, signer.algorithms, &signed, signer.signature)
    {
        true => Ok(authority),
        false => Err(VerifyError::timestamp(
            "the timestamp was not signed by its authority",
        )),
    }
}

/// Proves that the authority may make timestamps, and could at this time.
fn check_authority(
    authority: &[u8],
    certificates: &[&[u8]],
    roots: &TrustAnchors,
    at: UnixTime,
) -> Result<(), VerifyError> {
    let others: Vec<&[u8]> = certificates
        .iter()
        .copied()
        .filter(|other| *other != authority)
        .collect();
    let chain = Chain {
        leaf: authority,
        others: &others,
        roots,
        at,
        purposes: &[oid::TIME_STAMPING],
    };
    chain.verify().map_err(|error| {
        let digest = sha256(authority);
        let words =
            format!("the timestamp authority (certificate {digest}) is not trusted at {at}");
        VerifyError::timestamp(words).caused_by(error)
    })?;
    let purposes = Certificate::read(authority)
        .and_then(|authority| authority.extended_key_usages())
        .map_err(malformed)?;
    // RFC 3161 section 2.3: this purpose and no other. It wants the extension critical as well; Microsoft's is not.
    match purposes == [oid::TIME_STAMPING] {
        true => Ok(()),
        false => Err(VerifyError::timestamp(
            "the timestamp authority's certificate is not made for timestamps alone",
        )),
    }
}

fn malformed(error: DerError) -> VerifyError {
    VerifyError::timestamp("the timestamp is malformed").caused_by(error)
}

/// A TimeStampToken: CMS SignedData with one signer.
struct Token<'a> {
    /// The TSTInfo as it was digested.
    content: &'a [u8],
    certificates: Vec<&'a [u8]>,
    signer: Signer<'a>,
}

impl<'a> Token<'a> {
    fn read(octets: &'a [u8]) -> der::Result<Self> {
        let mut outer = Reader::new(octets);
        let mut content_info = outer.sequence()?;
        // Microsoft pads its tokens with zeros.
        if outer.rest().iter().any(|octet| *octet != 0) {
            return Err(DerError::new("octets after the token"));
        }
        if content_info.expect(OBJECT_IDENTIFIER)?.content != oid::SIGNED_DATA {
            return Err(DerError::new("a token that is no signed data"));
        }
        let mut signed_data = content_info.expect(context(0))?.inside().sequence()?;
        signed_data.expect(INTEGER)?;
        signed_data.expect(SET)?;
        let mut encapsulated = signed_data.sequence()?;
        if encapsulated.expect(OBJECT_IDENTIFIER)?.content != oid::TST_INFO {
            return Err(DerError::new("a token that holds no timestamp"));
        }
        let content = encapsulated
            .expect(context(0))?
            .inside()
            .expect(OCTET_STRING)?
            .content;
        let certificates = match signed_data.optional(context(0))? {
            Some(set) => certificates(set)?,
            None => Vec::new(),
        };
        signed_data.optional(context(1))?;
        let mut signers = signed_data.expect(SET)?.inside();
        signed_data.end()?;
        let signer = Signer::read(signers.sequence()?)?;
        signers.end()?;
        Ok(Self {
            content,
            certificates,
            signer,
        })
    }
}

/// The X.509 certificates of a CertificateSet; Microsoft adds an attribute certificate, which is passed over.
fn certificates(set: Value<'_>) -> der::Result<Vec<&[u8]>> {
    let mut reader = set.inside();
    let mut found = Vec::new();
    while !reader.is_empty() {
        let certificate = reader.any()?;
        if certificate.tag == SEQUENCE {
            found.push(certificate.encoding);
        }
        if found.len() > CERTIFICATES {
            return Err(DerError::new("too many certificates"));
        }
    }
    Ok(found)
}

/// A SignerInfo that names its certificate by issuer and serial number.
struct Signer<'a> {
    issuer: &'a [u8],
    serial: &'a [u8],
    hash: Hash,
    attributes: Value<'a>,
    algorithms: &'static [&'static dyn rustls_pki_types::SignatureVerificationAlgorithm],
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    fn read(mut fields: Reader<'a>) -> der::Result<Self> {
        const UNSUPPORTED: DerError = DerError::new("an algorithm that is not accepted");
        fields.expect(INTEGER)?;
        let mut name = fields.sequence()?;
        let issuer = name.expect(SEQUENCE)?.encoding;
        let serial = name.expect(INTEGER)?.content;
        let hash = Hash::from_oid(fields.algorithm()?).ok_or(UNSUPPORTED)?;
        let attributes = fields.expect(context(0))?;
        let algorithms = algorithm::of_signer(fields.algorithm()?, hash).ok_or(UNSUPPORTED)?;
        let signature = fields.expect(OCTET_STRING)?.content;
        Ok(Self {
            issuer,
            serial,
            hash,
            attributes,
            algorithms,
            signature,
        })
    }

    fn is_named_by(&self, certificate: &[u8]) -> bool {
        Certificate::read(certificate).is_ok_and(|certificate| {
            certificate.issuer == self.issuer && certificate.serial == self.serial
        })
    }

    /// The attributes as they were signed: with the tag of a set (RFC 5652 section 5.4).
    fn signed_octets(&self) -> Vec<u8> {
        let mut octets = self.attributes.encoding.to_vec();
        octets[0] = SET;
        octets
    }
}

/// The signed attributes that must be there; others are passed over.
struct Attributes<'a> {
    content_type: Oid<'a>,
    message_digest: &'a [u8],
    /// The digest of the signer's certificate (RFC 5035), which keeps another certificate from standing in for it.
    certificate_digest: &'a [u8],
    certificate_hash: Hash,
}

impl<'a> Attributes<'a> {
    fn read(attributes: Value<'a>) -> der::Result<Self> {
        let (mut content_type, mut message_digest, mut certificate) = (None, None, None);
        let mut reader = attributes.inside();
        while !reader.is_empty() {
            let mut attribute = reader.sequence()?;
            let slot = match attribute.expect(OBJECT_IDENTIFIER)?.content {
                oid::CONTENT_TYPE => &mut content_type,
                oid::MESSAGE_DIGEST => &mut message_digest,
                oid::SIGNING_CERTIFICATE_V2 => &mut certificate,
                _ => continue,
            };
            if slot.replace(attribute.expect(SET)?.inside()).is_some() {
                return Err(DerError::new("a signed attribute that is there twice"));
            }
        }
        const MISSING: DerError = DerError::new("a signed attribute that is missing");
        let content_type = content_type
            .ok_or(MISSING)?
            .expect(OBJECT_IDENTIFIER)?
            .content;
        let message_digest = message_digest.ok_or(MISSING)?.expect(OCTET_STRING)?.content;
        // SigningCertificateV2, its list, and the first ESSCertIDv2 in it, which is the signer's own.
        let mut identifier = certificate
            .ok_or(MISSING)?
            .sequence()?
            .sequence()?
            .sequence()?;
        let certificate_hash = match identifier.optional(SEQUENCE)? {
            None => Hash::Sha256,
            Some(algorithm) => {
                Hash::from_oid(algorithm.inside().expect(OBJECT_IDENTIFIER)?.content)
                    .ok_or(DerError::new("an algorithm that is not accepted"))?
            }
        };
        let certificate_digest = identifier.expect(OCTET_STRING)?.content;
        Ok(Self {
            content_type,
            message_digest,
            certificate_digest,
            certificate_hash,
        })
    }
}

/// What a TSTInfo says (RFC 3161 section 2.4.2).
struct Stamp<'a> {
    hash: Hash,
    digest: &'a [u8],
    time: UnixTime,
}

impl<'a> Stamp<'a> {
    fn read(octets: &'a [u8]) -> der::Result<Self> {
        let mut outer = Reader::new(octets);
        let mut fields = outer.sequence()?;
        outer.end()?;
        if fields.expect(INTEGER)?.content != [1] {
            return Err(DerError::new("a timestamp of another version"));
        }
        fields.expect(OBJECT_IDENTIFIER)?;
        let mut imprint = fields.sequence()?;
        let hash = Hash::from_oid(imprint.algorithm()?)
            .ok_or(DerError::new("an algorithm that is not accepted"))?;
        let digest = imprint.expect(OCTET_STRING)?.content;
        imprint.end()?;
        fields.expect(INTEGER)?;
        let time = der::time(fields.expect(GENERALIZED_TIME)?)?;
        // Accuracy, ordering, nonce and the authority's name change nothing here; an extension might.
        while !fields.is_empty() {
            if fields.any()?.tag == context(1) {
                return Err(DerError::new("a timestamp with an extension"));
            }
        }
        Ok(Self { hash, digest, time })
    }
}
