//! Who must have signed a feed, from the keys that say so.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::document::Document;
use super::error::ConfigError;
use super::file::{FileDigest, FileFeed, Parsed, TrustWord};
use super::roots::read_roots;
use crate::feed::Trust;
use crate::model::Digest;
use crate::signature::envelope::{FeedState, ROOT_BYTES, RootChain};
use crate::signature::{TrustAnchors, Verifier, XmlDsigPolicy};

pub(super) fn trust(feed: &FileFeed, document: &Document<'_>) -> Result<Trust, ConfigError> {
    let foreign = |keys: &[Option<Range<usize>>], owner: &str| {
        let span = keys.iter().flatten().next().cloned();
        span.map_or(Ok(()), |span| {
            let problem = format!("this belongs to trust = \"{owner}\"");
            Err(document.fault(span, problem))
        })
    };
    let word = feed.trust.get_ref().0;
    if word != TrustWord::Dsse {
        foreign(&dsse_keys(feed), "dsse")?;
    }
    if word != TrustWord::XmlDsigX509 {
        foreign(&certificate_keys(feed), "xmldsig-x509")?;
    }
    if let (TrustWord::Dsse, Some(written)) = (word, &feed.accept_former) {
        let problem = "the version of a \"dsse\" feed says which document is newer; leave this out";
        return Err(document.fault(written.span(), problem));
    }
    match word {
        TrustWord::Dsse => dsse(feed, document),
        TrustWord::MicrosoftEocs => Ok(Trust::MicrosoftEocs),
        TrustWord::XmlDsigX509 => x509(feed, document),
    }
}

fn dsse_keys(feed: &FileFeed) -> [Option<Range<usize>>; 2] {
    [
        feed.root.as_ref().map(Spanned::span),
        feed.publishes.as_ref().map(Spanned::span),
    ]
}

fn certificate_keys(feed: &FileFeed) -> [Option<Range<usize>>; 6] {
    [
        feed.roots.as_ref().map(Spanned::span),
        feed.timestamp_roots.as_ref().map(Spanned::span),
        feed.required_ekus.as_ref().map(Spanned::span),
        feed.require_timestamp.as_ref().map(Spanned::span),
        feed.signers.as_ref().map(Spanned::span),
        feed.denied_signers.as_ref().map(Spanned::span),
    ]
}

fn dsse(feed: &FileFeed, document: &Document<'_>) -> Result<Trust, ConfigError> {
    let Some(root) = &feed.root else {
        let problem =
            "\"dsse\" needs the root that its publisher gave you: write root = \"1.root.json\"";
        return Err(document.fault(feed.trust.span(), problem));
    };
    let path = document.resolve(root.get_ref());
    let bytes = read_root(&path).map_err(|error| {
        let problem = format!("{} cannot be read", path.display());
        document.fault(root.span(), problem).because(error)
    })?;
    let name = feed.publishes.as_ref().unwrap_or(&feed.name);
    RootChain::pinned(&bytes)
        .map_err(|error| document.fault(root.span(), error.to_string()))
        .and_then(|_| {
            FeedState::new(name.get_ref(), &bytes)
                .map_err(|error| document.fault(name.span(), error.to_string()))
        })?;
    Ok(Trust::Dsse {
        name: name.get_ref().clone(),
        root: bytes,
    })
}

fn read_root(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One octet more than a root may have, so that a longer one is refused as such.
    let limit = ROOT_BYTES as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn x509(feed: &FileFeed, document: &Document<'_>) -> Result<Trust, ConfigError> {
    let roots = certificates(feed.roots.as_ref(), document)?;
    if roots.is_empty() {
        let problem = "\"xmldsig-x509\" needs the certificates that signers chain to: write roots = [\"publisher.pem\"]";
        return Err(document.fault(feed.trust.span(), problem));
    }
    let policy = XmlDsigPolicy {
        roots,
        timestamp_roots: certificates(feed.timestamp_roots.as_ref(), document)?,
        required_ekus: feed
            .required_ekus
            .iter()
            .flat_map(Spanned::get_ref)
            .map(|identifier| identifier.0.0.clone())
            .collect(),
        require_timestamp: feed
            .require_timestamp
            .as_ref()
            .is_some_and(|on| *on.get_ref()),
        allowed_signers: digests(feed.signers.as_ref()),
        denied_signers: digests(feed.denied_signers.as_ref()),
    };
    match Verifier::xmldsig_x509(policy.clone()) {
        Ok(_) => Ok(Trust::XmlDsigX509(policy)),
        Err(error) => Err(document.fault(feed.trust.span(), error.to_string())),
    }
}

fn certificates(
    written: Option<&Spanned<Vec<Spanned<PathBuf>>>>,
    document: &Document<'_>,
) -> Result<TrustAnchors, ConfigError> {
    let Some(written) = written else {
        return Ok(TrustAnchors::default());
    };
    let paths = written.get_ref().iter();
    read_roots(paths.map(|path| document.resolve(path.get_ref()))).map_err(|error| {
        document
            .fault(written.span(), "these certificates cannot be used")
            .because(error)
    })
}

fn digests(written: Option<&Spanned<Vec<Parsed<FileDigest>>>>) -> Vec<Digest> {
    written
        .into_iter()
        .flat_map(Spanned::get_ref)
        .map(|digest| digest.0.0)
        .collect()
}
