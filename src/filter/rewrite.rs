//! Rewriting the body of a response on its way through.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue,
};

use super::Snapshot;
use crate::rules::{BodyRewriter, BodyRules, BodySkip, RuleId};

/// Fields that would be wrong about a body that was changed (RFC 9530; RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Rewrites one body, piece by piece, by the snapshot that judged its head.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r"><match pattern="secret" /><action type="Rewrite" value="word" /></rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut filter = Filter::new(Handle::new(Snapshot::single(Revision(1), rules)));
///
/// let (parts, ()) = Request::get("/").body(())?.into_parts();
/// let response = filter.judge(0, &parts, &Peer::default()).response.ok_or("a rule may apply")?;
/// let (mut parts, ()) = Response::builder().header("content-type", "text/plain").body(())?.into_parts();
/// let mut transform = response.apply(&mut filter, &mut parts).body.ok_or("a rule wants the body")?;
/// let mut sent = Vec::new();
/// transform.write(b"a sec", &mut sent);
/// transform.write(b"ret", &mut sent);
/// assert_eq!(transform.finish(&mut sent), None);
/// assert_eq!(sent, b"a word");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BodyTransform {
    rewriter: BodyRewriter,
    snapshot: Arc<Snapshot>,
    site: usize,
}

impl BodyTransform {
    pub(super) fn new(rules: BodyRules, snapshot: &Arc<Snapshot>, site: usize) -> Self {
        Self {
            rewriter: BodyRewriter::new(rules),
            snapshot: Arc::clone(snapshot),
            site,
        }
    }

    /// Takes the next piece of the body, and appends what can be sent by now, which may be nothing.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.rewriter.write(piece, out);
    }

    /// Appends what is left once the body has ended, and counts no hits; the rules that acted.
    pub fn finish_uncounted(mut self, out: &mut Vec<u8>) -> Vec<RuleId> {
        self.rewriter.finish(out);
        self.rewriter.acted().to_vec()
    }

    /// Appends what is left once the body has ended, and counts hits; says why the body, or a part of it, passed as
    /// it was.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Option<BodySkip> {
        self.rewriter.finish(out);
        let rules = self.snapshot.site(self.site);
        for rule in self.rewriter.acted() {
            rules
                .rule(*rule)
                .origin
                .hits
                .fetch_add(1, Ordering::Relaxed);
        }
        self.rewriter.skipped()
    }
}

/// Asks a server for a body that can be read.
pub(super) fn ask_for_identity(fields: &mut HeaderMap) {
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Takes back what a head says about octets that may change.
pub(super) fn loosen(fields: &mut HeaderMap) {
    fields.remove(CONTENT_LENGTH);
    fields.remove(ACCEPT_RANGES);
    for name in &DIGESTS {
        fields.remove(name);
    }
    let Some(tag) = fields.get(ETAG) else {
        return;
    };
    // What was the same octets is now the same in meaning (RFC 9110 section 8.8.3).
    if !tag.as_bytes().starts_with(b"W/") {
        match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
            Ok(weak) => fields.insert(ETAG, weak),
            Err(_) => fields.remove(ETAG),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_claims_nothing_about_changed_octets() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("content-length", "3"),
            ("etag", "\"a\""),
            ("content-digest", "sha-256=:x:"),
            ("accept-ranges", "bytes"),
            ("content-type", "text/html"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        loosen(&mut fields);
        loosen(&mut fields);
        let mut left: Vec<_> = fields.iter().collect();
        left.sort_by_key(|(name, _)| name.as_str());
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(fields[ETAG], "W/\"a\"");
    }
}
