//! `stopgap sign` and `stopgap cosign`: the next issue of a feed, and a further signature on it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::check::Report;
use super::exit::{Ended, Failure, OrExit};
use super::publishing::{CosignArguments, SignArguments};
use super::signing::{about, read, replace, write_new};
use super::trust::{after, describe};
use super::{Exit, print, table::printable};
use crate::app::now;
use crate::feed::{FeedDocument, LocalContent, LocalDocument, SIZE_LIMIT, TypeAliases};
use crate::model::{Mitigation, MitigationId};
use crate::signature::envelope::{
    ENVELOPE_BYTES, Envelope, FEED_TYPE, FeedPayload, ROOT_BYTES, ROOT_TYPE, RootChain,
    RootMetadata,
};

/// Where an issue goes when nobody says.
const ISSUE: &str = "feed.dsse.json";

pub(super) fn sign(arguments: &SignArguments) -> Ended {
    let before = arguments.refresh.as_ref().or(arguments.previous.as_ref());
    let roots = match &arguments.root {
        Some(root) => Some(roots(root, before)?),
        None => None,
    };
    let genuine = match (before, &roots) {
        (Some(path), Some(roots)) => Some((path, genuine_issue(path, roots)?)),
        _ => None,
    };
    let payload = match (&arguments.rules, &genuine) {
        (Some(rules), _) => next_issue(rules, genuine.as_ref(), arguments)?,
        (None, Some((path, issue))) => {
            judge(issue, path)?;
            let payload = issue.refresh(now(), after(arguments.expires));
            payload.or_exit(Exit::Invalid)?
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "name the document to sign")),
    };
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| match &arguments.refresh {
            Some(path) => path.clone(),
            None => PathBuf::from(ISSUE),
        });
    let mut envelope = payload.to_envelope().or_exit(Exit::Invalid)?;
    arguments.signing.must_sign(&mut envelope)?;
    let standing = match &roots {
        Some(roots) => signed_for(roots, &envelope)?,
        None => String::new(),
    };
    let json = envelope.to_json().or_exit(Exit::Invalid)?;
    match before {
        Some(before) if is_same(before, &output) => replace(&output, json.as_bytes())?,
        _ => write_new(&output, json.as_bytes(), false)?,
    }
    print(&(summary(&output, &payload, &envelope) + &standing))
}

/// The chain from the pinned root over the roots that lie beside the issue before, as clients walk it.
fn roots(pinned: &Path, before: Option<&PathBuf>) -> Result<RootChain, Failure> {
    let mut chain =
        RootChain::pinned(&read(pinned, ROOT_BYTES)?).map_err(|error| about(pinned, error))?;
    while let Some(version) = chain.newest().version().checked_add(1) {
        let beside = before.map_or(pinned, PathBuf::as_path);
        let next = beside.with_file_name(format!("{version}.root.json"));
        if !next.exists() {
            break;
        }
        chain = chain
            .advance(&read(&next, ROOT_BYTES)?)
            .map_err(|error| about(&next, error))?;
    }
    if let Err(error) = chain.newest_at(now()) {
        eprintln!("{}", printable(&error.to_string()));
    }
    Ok(chain)
}

/// The issue in this file, once it is proven that keys which these roots name signed it.
fn genuine_issue(path: &Path, roots: &RootChain) -> Result<FeedPayload, Failure> {
    let (issue, version) = roots.issue(&read_envelope(path)?).map_err(|error| {
        let words = crate::model::explain(&error);
        let text = format!(
            "{} is not taken for the issue before: {words}",
            path.display()
        );
        Failure::new(Exit::Untrusted, text)
    })?;
    let newest = roots.newest().version();
    if version != newest {
        let path = printable(&path.display().to_string());
        eprintln!(
            "{path} is signed by keys of root {version}; this issue needs those of root {newest}"
        );
    }
    Ok(issue)
}

/// How far an issue is signed as the newest root demands; an error when a key has signed that is not the feed's.
fn signed_for(roots: &RootChain, envelope: &Envelope) -> Result<String, Failure> {
    let (root, role) = (roots.newest(), roots.newest().feed());
    for id in envelope.unverified_signers() {
        if !role.keys().any(|key| key.id() == id) {
            let text = format!(
                "key {id} does not sign this feed: root {} does not name it",
                root.version()
            );
            return Err(Failure::new(Exit::Untrusted, text));
        }
    }
    let (found, needed) = (envelope.unverified_signers().len(), role.threshold());
    Ok(match found < needed {
        true => format!(
            "signed by {found} of {needed} keys that must: stopgap cosign adds a signature\n"
        ),
        false => String::new(),
    })
}

pub(super) fn cosign(arguments: &CosignArguments) -> Ended {
    let path = &arguments.file;
    let mut envelope = read_envelope(path)?;
    let payload = match envelope.payload_type() {
        ROOT_TYPE => None,
        _ => Some(issue_of(&envelope, path)?),
    };
    if let Some(payload) = &payload {
        judge(payload, path)?;
    }
    arguments.signing.must_sign(&mut envelope)?;
    let json = envelope.to_json().or_exit(Exit::Invalid)?;
    let told = match &payload {
        Some(payload) => summary(path, payload, &envelope),
        None => {
            let root = RootMetadata::parse(envelope.unverified_payload())
                .map_err(|error| about(path, error))?;
            describe(path, &root, &envelope, &standing(path, &root, &json))
        }
    };
    replace(path, json.as_bytes())?;
    print(&told)
}

/// Whether a root is signed as it must be: by itself, and by the root before it if that lies beside it.
fn standing(
    path: &Path,
    root: &RootMetadata,
    json: &str,
) -> Result<RootChain, crate::signature::envelope::EnvelopeError> {
    let before = path.with_file_name(format!("{}.root.json", root.version().saturating_sub(1)));
    match read(&before, ENVELOPE_BYTES) {
        Ok(before) => RootChain::pinned(&before)?.advance(json.as_bytes()),
        Err(_) => RootChain::pinned(json.as_bytes()),
    }
}

/// The issue in this file, which nothing here proves.
pub(super) fn read_issue(path: &Path) -> Result<FeedPayload, Failure> {
    issue_of(&read_envelope(path)?, path)
}

pub(super) fn read_envelope(path: &Path) -> Result<Envelope, Failure> {
    Envelope::parse(&read(path, ENVELOPE_BYTES)?).map_err(|error| about(path, error))
}

pub(super) fn issue_of(envelope: &Envelope, path: &Path) -> Result<FeedPayload, Failure> {
    if envelope.payload_type() != FEED_TYPE {
        let text = format!("{} is no issue of a feed", path.display());
        return Err(Failure::new(Exit::Invalid, text));
    }
    FeedPayload::parse(envelope.unverified_payload()).map_err(|error| about(path, error))
}

/// The mitigations of an EOCS document.
pub(super) fn mitigations(name: &str, rules: &[u8]) -> Result<FeedDocument, Failure> {
    let document = LocalDocument::parse(rules, &TypeAliases::default())
        .map_err(|error| Failure::new(Exit::Invalid, format!("{name}: {}", error.explain())))?;
    match document.content {
        LocalContent::Mitigations(offered) => Ok(offered),
        LocalContent::Rules(_) => Err(Failure::new(
            Exit::Invalid,
            format!(
                "{name} holds rules alone: a feed needs an EOCS document, which gives them ids and vectors"
            ),
        )),
    }
}

/// The next issue, once its rules were judged and nothing was lost.
fn next_issue(
    rules: &Path,
    before: Option<&(&PathBuf, FeedPayload)>,
    arguments: &SignArguments,
) -> Result<FeedPayload, Failure> {
    let name = rules.display().to_string();
    let bytes = read(rules, SIZE_LIMIT)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| about(rules, error))?;
    let document = mitigations(&name, &bytes)?;
    judge_rules(&name, &document)?;
    let (issued, expires) = (now(), after(arguments.expires));
    let Some((path, before)) = before else {
        let name = arguments.name.as_deref().unwrap_or_default();
        return FeedPayload::first(name, text, issued, expires).or_exit(Exit::Invalid);
    };
    if let Some(name) = arguments
        .name
        .as_ref()
        .filter(|name| *name != before.name())
    {
        let text = format!(
            "{} is the feed {:?}, not {name:?}",
            path.display(),
            before.name()
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    let held = mitigations(&path.display().to_string(), before.rules().as_bytes())?;
    check_lost(&held.mitigations, &document.mitigations, &arguments.drop)?;
    before.next(text, issued, expires).or_exit(Exit::Invalid)
}

/// Refuses to lose a mitigation silently: clients would drop their protection with it.
fn check_lost(
    before: &[Mitigation],
    after: &[Mitigation],
    dropped: &[MitigationId],
) -> Result<(), Failure> {
    let named =
        |ids: &[MitigationId], id: &MitigationId| ids.iter().any(|own| own.same_mitigation(id));
    let kept: Vec<MitigationId> = after.iter().map(|own| own.id.clone()).collect();
    let lost: Vec<MitigationId> = before
        .iter()
        .filter(|own| !own.withdrawn && !named(&kept, &own.id))
        .map(|own| own.id.clone())
        .collect();
    if let Some(id) = lost.iter().find(|id| !named(dropped, id)) {
        let text = format!(
            "{id} was in the issue before and is in this one no more: withdraw it (withdrawn=\"true\" on its Config), \
             or say --drop {id}"
        );
        return Err(Failure::new(Exit::Failed, text));
    }
    match dropped.iter().find(|id| !named(&lost, id)) {
        Some(id) => Err(Failure::new(
            Exit::Usage,
            format!("--drop {id}: it is not missing from this issue; leave that out"),
        )),
        None => Ok(()),
    }
}

/// Judges the rules of an issue as its clients will.
fn judge(payload: &FeedPayload, path: &Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    judge_rules(&name, &mitigations(&name, payload.rules().as_bytes())?)
}

fn judge_rules(name: &str, document: &FeedDocument) -> Result<(), Failure> {
    let report = Report::of_feed(name, document, false);
    for line in &report.remarks {
        eprintln!("{}", printable(line));
    }
    match report.worst {
        Exit::Done => Ok(()),
        exit => Err(Failure::new(
            exit,
            format!("not signed: {} of {} failed", report.failed, report.judged),
        )),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn summary(path: &Path, payload: &FeedPayload, envelope: &Envelope) -> String {
    let mut text = format!(
        "{}: issue {} of {}, expires {}\n",
        printable(&path.display().to_string()),
        payload.version(),
        printable(payload.name()),
        payload.expires()
    );
    for id in envelope.unverified_signers() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "signed by {id}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(configs: &str) -> Vec<Mitigation> {
        let text =
            format!("<EOCS version=\"1.0\" xmlns:sg=\"urn:stopgap:feed:1\">{configs}</EOCS>");
        mitigations("test", text.as_bytes()).unwrap().mitigations
    }

    fn config(id: &str, attributes: &str) -> String {
        format!(
            "<Config id=\"{id}\" {attributes}><ActionList><Action type=\"DoNothing\" scope=\"Server\">\
             <Value>DoNothing</Value></Action></ActionList></Config>"
        )
    }

    #[test]
    fn nothing_is_lost_silently() {
        let before = offer(
            &(config("M1.1", "") + &config("M2.1", "") + &config("M3.1", "sg:withdrawn=\"true\"")),
        );
        let ids = |words: &[&str]| {
            words
                .iter()
                .map(|word| word.parse().unwrap())
                .collect::<Vec<_>>()
        };
        let cases: &[(&str, &[&str], Option<Exit>)] = &[
            ("M1.1 M2.1", &[], None),
            ("M1.1.0 M2.1 M9.1", &[], None),
            ("M1.1", &[], Some(Exit::Failed)),
            ("M1.1", &["M2.1"], None),
            ("", &["M2.1"], Some(Exit::Failed)),
            ("", &["M1.1", "M2.1"], None),
            ("M1.1 M2.1", &["M2.1"], Some(Exit::Usage)),
            ("M1.1 M2.1", &["M3.1"], Some(Exit::Usage)),
        ];
        for (kept, dropped, exit) in cases {
            let after: String = kept.split_whitespace().map(|id| config(id, "")).collect();
            let checked = check_lost(&before, &offer(&after), &ids(dropped));
            assert_eq!(
                checked.err().map(|failure| failure.exit),
                *exit,
                "{kept} without {dropped:?}"
            );
        }
    }
}
