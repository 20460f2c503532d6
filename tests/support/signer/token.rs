//! A timestamp authority: RFC 3161 tokens, well made or flawed in one chosen way.

use stopgap::model::UnixTime;
use stopgap::signature::sha256;

use super::authority::Authority;
use super::der;

const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA1: &str = "1.3.14.3.2.26";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

/// How a token is made. All but the first three are flaws.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TokenForm {
    Plain,
    /// As Microsoft makes them: an outer value of indefinite length, zeros behind it, an attribute certificate among
    /// the certificates, and a digest algorithm that is named.
    Microsoft,
    EightCertificates,
    AttributeTwice,
    Extension,
    JunkBehind,
    NineCertificates,
    NoCertificateId,
    NoContentType,
    NoMessageDigest,
    NoSigner,
    OtherCertificateId,
    OtherContentType,
    OtherImprint,
    OtherMessageDigest,
    OtherSignature,
    Sha1Imprint,
    TwoSigners,
    Version2,
}

/// Makes a token that says that `stamped` was seen at `time`.
pub(super) fn token(
    authority: &Authority,
    stamped: &[u8],
    time: UnixTime,
    form: TokenForm,
) -> Vec<u8> {
    let content = info(stamped, time, form);
    let signer = signer(authority, &content, form);
    let mut certificates = vec![authority.leaf.clone(), authority.intermediate.clone()];
    if form == TokenForm::Microsoft {
        certificates.push(der::value(0xa1, &[&der::sequence(&[])]));
    }
    let more = match form {
        TokenForm::EightCertificates => 6,
        TokenForm::NineCertificates => 7,
        _ => 0,
    };
    certificates.extend(vec![authority.intermediate.clone(); more]);
    let signers = match form {
        TokenForm::NoSigner => vec![],
        TokenForm::TwoSigners => vec![signer.clone(), signer],
        _ => vec![signer],
    };
    let signed_data = der::sequence(&[
        &der::integer(3),
        &der::set(vec![der::sequence(&[&der::oid(SHA256)])]),
        &der::sequence(&[
            &der::oid(TST_INFO),
            &der::value(0xa0, &[&der::octets(&content)]),
        ]),
        &der::value(0xa0, &[&certificates.concat()]),
        &der::set(signers),
    ]);
    let oid = der::oid(SIGNED_DATA);
    match form {
        TokenForm::Microsoft => {
            let inner = der::indefinite(0xa0, &signed_data);
            [der::indefinite(0x30, &[oid, inner].concat()), vec![0; 4]].concat()
        }
        TokenForm::JunkBehind => [
            der::sequence(&[&oid, &der::value(0xa0, &[&signed_data])]),
            b"junk".to_vec(),
        ]
        .concat(),
        _ => der::sequence(&[&oid, &der::value(0xa0, &[&signed_data])]),
    }
}

/// The TSTInfo.
fn info(stamped: &[u8], time: UnixTime, form: TokenForm) -> Vec<u8> {
    let mut imprint = sha256(stamped).octets().to_vec();
    let mut hash = SHA256;
    match form {
        TokenForm::OtherImprint => imprint[0] ^= 1,
        TokenForm::Sha1Imprint => {
            imprint.truncate(20);
            hash = SHA1;
        }
        _ => {}
    }
    let digits: String = time
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let extension = match form {
        TokenForm::Extension => der::value(0xa1, &[]),
        _ => Vec::new(),
    };
    der::sequence(&[
        &der::integer(if form == TokenForm::Version2 { 2 } else { 1 }),
        &der::oid("1.3.6.1.4.1.601.10.3.1"),
        &der::sequence(&[
            &der::sequence(&[&der::oid(hash), &[5, 0]]),
            &der::octets(&imprint),
        ]),
        &der::integer(7),
        &der::value(0x18, &[format!("{digits}.621Z").as_bytes()]),
        &extension,
    ])
}

/// The SignerInfo.
fn signer(authority: &Authority, content: &[u8], form: TokenForm) -> Vec<u8> {
    let attribute =
        |oid: &str, value: Vec<u8>| der::sequence(&[&der::oid(oid), &der::set(vec![value])]);
    let mut digest = sha256(content).octets().to_vec();
    let mut certificate = sha256(&authority.leaf).octets().to_vec();
    let mut content_type = TST_INFO;
    match form {
        TokenForm::OtherMessageDigest => digest[0] ^= 1,
        TokenForm::OtherCertificateId => certificate[0] ^= 1,
        TokenForm::OtherContentType => content_type = "1.2.840.113549.1.7.1",
        _ => {}
    }
    let mut identifier = vec![der::octets(&certificate)];
    if form == TokenForm::Microsoft {
        identifier.insert(0, der::sequence(&[&der::oid(SHA256)]));
    }
    let identifier = der::sequence(&[&der::sequence(&[&der::sequence(&[&identifier.concat()])])]);

    let mut attributes = Vec::new();
    if form != TokenForm::NoContentType {
        attributes.push(attribute(CONTENT_TYPE, der::oid(content_type)));
    }
    if form != TokenForm::NoMessageDigest {
        attributes.push(attribute(MESSAGE_DIGEST, der::octets(&digest)));
    }
    if form == TokenForm::AttributeTwice {
        attributes.push(attribute(MESSAGE_DIGEST, der::octets(&digest)));
    }
    if form != TokenForm::NoCertificateId {
        attributes.push(attribute(SIGNING_CERTIFICATE_V2, identifier));
    }
    let attributes = der::set(attributes);
    let mut signature = authority.sign(&attributes);
    if form == TokenForm::OtherSignature {
        signature = authority.sign(b"something else");
    }

    let fields = der::split(der::inside(der::inside(&authority.leaf)));
    let (serial, issuer) = (fields[1].1, fields[3].1);
    der::sequence(&[
        &der::integer(1),
        &der::sequence(&[issuer, serial]),
        &der::sequence(&[&der::oid(SHA256)]),
        &der::value(0xa0, &[der::inside(&attributes)]),
        &der::sequence(&[&der::oid(ECDSA_SHA256)]),
        &der::octets(&signature),
    ])
}
