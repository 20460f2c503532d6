//! Certificates with their keys, read from files, exchanged while in use, and chosen by the name a client asks for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::TlsError;
use super::provider;

/// Where a certificate and its key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// A chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// The certificate itself, without its chain, in DER.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or used.
    pub fn leaf(&self) -> Result<Vec<u8>, TlsError> {
        // There is one at least, or reading fails.
        let chain = read_certificates(&self.certificate)?;
        Ok(chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default())
    }
}

/// Certificates in use. The first answers clients that ask for no name, or for one that none is for.
pub(super) struct Certificates {
    files: Vec<CertificateFiles>,
    current: ArcSwap<Vec<Loaded>>,
}

/// One certificate, and the content of its file.
struct Loaded {
    content: Vec<u8>,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    pub(super) fn load(files: Vec<CertificateFiles>) -> Result<Self, TlsError> {
        if files.is_empty() {
            return Err(TlsError::no_certificate());
        }
        let loaded = files.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Self {
            files,
            current: ArcSwap::from_pointee(loaded),
        })
    }

    /// Reads the files again; true when anything has changed. All certificates are exchanged, or none.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let current = self.current.load();
        let mut changed = false;
        for (files, loaded) in self.files.iter().zip(current.iter()) {
            // A key that changes without its certificate is the same key.
            changed |= read(&files.certificate)? != loaded.content;
        }
        if changed {
            let loaded = self.files.iter().map(load).collect::<Result<_, _>>()?;
            self.current.store(Arc::new(loaded));
        }
        Ok(changed)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current.load();
        let usable = |loaded: &&Loaded| {
            let schemes = hello.signature_schemes();
            loaded.key.key.choose_scheme(schemes).is_some()
        };
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| {
            let is_for_name = |loaded: &&Loaded| is_for(&loaded.key, &name);
            certificates.iter().filter(usable).find(is_for_name)
        });
        named
            .or_else(|| certificates.first())
            .map(|loaded| Arc::clone(&loaded.key))
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current.load();
        let usable = |loaded: &&Loaded| loaded.key.key.choose_scheme(schemes).is_some();
        let found = certificates.iter().find(usable);
        found.map(|loaded| Arc::clone(&loaded.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.files).finish()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

fn load(files: &CertificateFiles) -> Result<Loaded, TlsError> {
    let content = read(&files.certificate)?;
    let chain = parse_certificates(&content, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| TlsError::key(&files.key, error))?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::key(&files.key, error))?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match()
        .map_err(|error| TlsError::pair(&files.certificate, &files.key, error))?;
    Ok(Loaded {
        content,
        key: Arc::new(key),
    })
}

/// The certificates in a file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    parse_certificates(&read(path)?, path)
}

fn parse_certificates(
    content: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::certificate(path, error))?;
    for certificate in &certificates {
        ParsedCertificate::try_from(certificate)
            .map_err(|error| TlsError::certificate(path, error))?;
    }
    if certificates.is_empty() {
        return Err(TlsError::empty(path));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::file(path, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pair(folder: &Path, name: &str) -> CertificateFiles {
        let files = CertificateFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        write(&files, name);
        files
    }

    fn write(files: &CertificateFiles, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (pair(folder.path(), "a"), pair(folder.path(), "b"));
        let certificates = Certificates::load(vec![first.clone(), second.clone()]).unwrap();
        assert!(!certificates.reload().unwrap());
        let before = certificates.current.load_full();
        let same = |changed: bool| Arc::ptr_eq(&before, &certificates.current.load()) != changed;
        let cases: [(&Path, Option<String>, &str); 4] = [
            (&first.certificate, None, "cannot be read"),
            (
                &first.certificate,
                Some("hello".into()),
                "holds no certificate",
            ),
            (
                &second.certificate,
                Some(fs::read_to_string(&first.certificate).unwrap()),
                "does not belong",
            ),
            (
                &first.certificate,
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
                "cannot be used",
            ),
        ];
        for (path, content, expected) in cases {
            let good = fs::read(path).unwrap();
            match content {
                Some(content) => fs::write(path, content).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let error = certificates.reload().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(same(false));
            fs::write(path, good).unwrap();
        }
        write(&second, "b");
        fs::write(&second.key, "hello").unwrap();
        let error = certificates.reload().unwrap_err().to_string();
        assert!(error.contains("no private key"), "{error}");
        write(&second, "b");
        assert!(certificates.reload().unwrap() && same(true));
    }

    #[test]
    fn names_are_those_of_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), "*.mail.example");
        let certificates = Certificates::load(vec![files]).unwrap();
        let key = &certificates.current.load()[0].key;
        for (name, expected) in [
            ("a.mail.example", true),
            ("A.MAIL.EXAMPLE", true),
            ("mail.example", false),
            ("a.b.mail.example", false),
        ] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(is_for(key, &name), expected, "{name:?}");
        }
        assert!(Certificates::load(Vec::new()).is_err());
    }
}
