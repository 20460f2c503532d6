//! A root, an authority below it, and a certificate that signs: made anew for every publisher, never stored.

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData,
    RsaKeySize, SignatureAlgorithm, SigningKey, date_time_ymd,
};

use super::der;

/// What kind of key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Algorithm {
    EcdsaP256,
    Rsa,
}

/// What the certificates of a chain say.
#[derive(Clone, Debug)]
pub(crate) struct ChainOptions {
    pub(crate) algorithm: Algorithm,
    /// Extended key usages of the certificate that signs, written with dots.
    pub(crate) usages: Vec<String>,
    /// The years in which it is valid: from the first's beginning to the second's.
    pub(crate) years: (i32, i32),
    /// Key usages of the certificate that signs; none for no such extension.
    pub(crate) key_usages: Vec<KeyUsagePurpose>,
    /// Whether the authority between root and leaf has a critical extension that says its policies.
    pub(crate) critical_policies: bool,
    /// Whether it has a critical extension that nobody knows.
    pub(crate) critical_unknown: bool,
    /// Whether it may issue certificates: basic constraints, then key usage.
    pub(crate) may_issue: (bool, bool),
    /// Extended key usages of the authority, written with dots.
    pub(crate) authority_usages: Vec<String>,
    /// The certificate that signs is for an RSA key of this many bits with the exponent 1, and not for the one that
    /// signs.
    pub(crate) exponent_one: Option<usize>,
}

impl ChainOptions {
    pub(crate) fn new(usages: &[&str]) -> Self {
        Self {
            algorithm: Algorithm::EcdsaP256,
            usages: usages.iter().map(ToString::to_string).collect(),
            years: (2020, 2060),
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            critical_policies: false,
            critical_unknown: false,
            may_issue: (true, true),
            authority_usages: Vec::new(),
            exponent_one: None,
        }
    }
}

/// A chain with the key at its end.
pub(crate) struct Authority {
    pub(crate) root: Vec<u8>,
    pub(crate) intermediate: Vec<u8>,
    pub(crate) leaf: Vec<u8>,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str, options: &ChainOptions) -> Self {
        let mut root = named(&format!("{name} root"));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();

        let mut intermediate = named(&format!("{name} authority"));
        if options.may_issue.0 {
            intermediate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        intermediate.key_usages = vec![match options.may_issue.1 {
            true => KeyUsagePurpose::KeyCertSign,
            false => KeyUsagePurpose::CrlSign,
        }];
        intermediate.extended_key_usages = purposes(&options.authority_usages);
        if options.critical_policies {
            let any_policy = der::sequence(&[&der::sequence(&[&der::oid("2.5.29.32.0")])]);
            intermediate
                .custom_extensions
                .push(critical(&[2, 5, 29, 32], any_policy));
        }
        if options.critical_unknown {
            let content = der::octets(b"?");
            intermediate
                .custom_extensions
                .push(critical(&[1, 3, 6, 1, 4, 1, 1, 1], content));
        }
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(intermediate, key, &root).unwrap();

        let mut leaf = named(&format!("{name} signer"));
        leaf.not_before = date_time_ymd(options.years.0, 1, 1);
        leaf.not_after = date_time_ymd(options.years.1, 1, 1);
        leaf.key_usages = options.key_usages.clone();
        leaf.extended_key_usages = purposes(&options.usages);
        let key = match options.algorithm {
            Algorithm::EcdsaP256 => KeyPair::generate().unwrap(),
            Algorithm::Rsa => rsa_key(),
        };
        let leaf = match options.exponent_one {
            Some(bits) => leaf.signed_by(&WeakKey::new(bits), &intermediate),
            None => leaf.signed_by(&key, &intermediate),
        };
        let leaf = leaf.unwrap();
        Self {
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            leaf: leaf.der().to_vec(),
            key,
        }
    }

    pub(super) fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }

    /// Signs as X.509 does: an ECDSA signature is a DER sequence.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn critical(oid: &[u64], content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(true);
    extension
}

fn purposes(dotted: &[String]) -> Vec<ExtendedKeyUsagePurpose> {
    let arcs = |text: &String| text.split('.').map(|arc| arc.parse().unwrap()).collect();
    dotted
        .iter()
        .map(|text| ExtendedKeyUsagePurpose::Other(arcs(text)))
        .collect()
}

/// An RSA key with the exponent 1, under which everybody can sign.
struct WeakKey(Vec<u8>);

impl WeakKey {
    fn new(bits: usize) -> Self {
        let mut modulus = vec![0xab; bits / 8];
        modulus.insert(0, 0);
        let number = der::value(0x02, &[&modulus]);
        Self(der::sequence(&[&number, &der::integer(1)]))
    }
}

impl PublicKeyData for WeakKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// One RSA key for the whole run, since making one takes long.
fn rsa_key() -> KeyPair {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .unwrap()
            .serialize_der()
    });
    KeyPair::try_from(key.as_slice()).unwrap()
}
