//! `stopgap verify` and `stopgap inspect`: what clients will make of an issue, and what is new in it.

use std::fmt::Write;
use std::path::Path;

use super::exit::{Ended, Failure};
use super::feed::{accept, describe, fresh};
use super::print;
use super::publishing::{InspectArguments, VerifyIssueArguments};
use super::sign::{issue_of, mitigations, read_envelope, read_issue};
use super::signing::read;
use super::table::{Format, Table, printable};
use crate::feed::{FeedConfig, FeedDocument, SIZE_LIMIT, Source, Trust};
use crate::model::{ActionKind, Mitigation};
use crate::signature::envelope::{ENVELOPE_BYTES, ROOT_BYTES};

/// Says what a client would say that pins the root and sees the files in this folder for the first time.
pub(super) fn verify(arguments: &VerifyIssueArguments) -> Ended {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => read_issue(&arguments.file)?.name().to_owned(),
    };
    let trust = Trust::Dsse {
        name,
        root: read(&arguments.root, ROOT_BYTES)?,
    };
    let config = FeedConfig::new("feed", Source::File(arguments.file.clone()), trust);
    let (accepted, fetched) = accept(&config)?;
    print(&describe(&accepted, &fetched))?;
    fresh(&accepted)
}

pub(super) fn inspect(arguments: &InspectArguments) -> Ended {
    let (head, offered) = open(&arguments.file)?;
    let Some(path) = &arguments.against else {
        let mut table = Table::new(&["mitigation", "withdrawn", "vectors", "description"]);
        for own in &offered.mitigations {
            table.row(vec![
                own.id.to_string(),
                if own.withdrawn { "yes" } else { "no" }.to_owned(),
                own.vectors.len().to_string(),
                own.description.clone(),
            ]);
        }
        return print(&(head + &table.render(Format::Table)));
    };
    let (_, before) = open(path)?;
    let table = changes(&before.mitigations, &offered.mitigations);
    print(&(head + &table.render(Format::Table)))
}

/// What a file says of itself, and what it offers; nothing of it is proven.
fn open(path: &Path) -> Result<(String, FeedDocument), Failure> {
    let name = path.display().to_string();
    let bytes = read(path, ENVELOPE_BYTES.max(SIZE_LIMIT))?;
    // Nothing is trusted here, so that the form may tell.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let head = format!("{}, nothing verified\n\n", printable(&name));
        return Ok((head, mitigations(&name, &bytes)?));
    }
    let envelope = read_envelope(path)?;
    let issue = issue_of(&envelope, path)?;
    let mut head = format!(
        "{}, nothing verified\nname       {}\nissue      {}\nissued     {}\nexpires    {}\n",
        printable(&name),
        printable(issue.name()),
        issue.version(),
        issue.issued(),
        issue.expires()
    );
    for id in envelope.unverified_signers() {
        // Writing to a string cannot fail.
        let _ = writeln!(head, "signed by  {id}");
    }
    head.push('\n');
    Ok((head, mitigations(&name, issue.rules().as_bytes())?))
}

fn changes(before: &[Mitigation], after: &[Mitigation]) -> Table {
    let mut table = Table::new(&["mitigation", "change", "description"]);
    let mut row = |own: &Mitigation, change: &str| {
        let description = own.description.clone();
        table.row(vec![own.id.to_string(), change.to_owned(), description]);
    };
    let find = |all: &[Mitigation], own: &Mitigation| {
        let mut found = all.iter().filter(|other| other.id.same_mitigation(&own.id));
        found.next().cloned()
    };
    for own in after {
        match find(before, own) {
            None => row(own, "added"),
            Some(old) if own.withdrawn && !old.withdrawn => row(own, "withdrawn"),
            Some(old) if old.withdrawn && !own.withdrawn => row(own, "back"),
            Some(old) if without_places(old.clone()) != without_places(own.clone()) => {
                row(own, "changed");
            }
            Some(_) => {}
        }
    }
    for old in before.iter().filter(|old| find(after, old).is_none()) {
        row(old, "gone");
    }
    table
}

/// A mitigation without the lines and columns of its document, which say nothing about it.
fn without_places(mut mitigation: Mitigation) -> Mitigation {
    for action in &mut mitigation.actions {
        if let ActionKind::Rewrite(text) = &mut action.kind {
            (text.line, text.column) = (1, 1);
        }
    }
    for vector in &mut mitigation.vectors {
        vector.line = 1;
    }
    mitigation
}
