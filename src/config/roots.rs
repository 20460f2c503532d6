//! Certificates that a feed's signers chain to, read from files.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::signature::{TrustAnchors, VerifyError};

/// A file holds no certificates that can be used.
#[derive(Debug)]
pub struct InvalidRoots {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Content(VerifyError),
    File(std::io::Error),
}

impl fmt::Display for InvalidRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.source {
            Source::Content(_) => write!(
                f,
                "{path} must be one certificate in DER, or any number of them in PEM"
            ),
            Source::File(_) => write!(f, "{path} cannot be read"),
        }
    }
}

impl std::error::Error for InvalidRoots {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Source::Content(error) => Some(error),
            Source::File(error) => Some(error),
        }
    }
}

/// The certificates in these files, each one certificate in DER, or any number of them in PEM.
///
/// # Errors
///
/// When a file cannot be read, or holds no certificate.
pub fn read_roots<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<TrustAnchors, InvalidRoots> {
    let mut certificates: Vec<Vec<u8>> = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let invalid = |source| InvalidRoots {
            path: path.to_owned(),
            source,
        };
        let content = std::fs::read(path).map_err(|error| invalid(Source::File(error)))?;
        let anchors = TrustAnchors::from_file_content(&content)
            .map_err(|error| invalid(Source::Content(error)))?;
        certificates.extend(anchors.certificates().map(<[u8]>::to_vec));
    }
    Ok(TrustAnchors::from_der(certificates).expect("each of them was read once already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_make_one_set() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for name in ["a", "b"] {
            let certificate = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            paths.push(folder.path().join(name));
            std::fs::write(paths.last().unwrap(), certificate.cert.der()).unwrap();
        }
        assert_eq!(read_roots(&paths).unwrap().certificates().count(), 2);
        std::fs::write(&paths[1], "hello").unwrap();
        let error = read_roots(&paths).unwrap_err();
        assert!(
            error.to_string().contains("must be one certificate"),
            "{error}"
        );
        let error = read_roots([folder.path().join("missing")]).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
