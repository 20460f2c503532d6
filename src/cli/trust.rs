//! `stopgap trust`: the roots that say who signs a feed.

use std::fmt::Write;
use std::path::Path;

use super::exit::{Ended, Failure, OrExit};
use super::print;
use super::publishing::{InitArguments, RotateArguments, TrustCommand};
use super::signing::{about, public_key, read, write_new};
use super::{Exit, table::printable};
use crate::app::now;
use crate::model::UnixTime;
use crate::signature::envelope::{
    Envelope, EnvelopeError, ROOT_BYTES, Role, RootBuilder, RootChain, RootMetadata,
};

pub(super) fn trust(command: &TrustCommand) -> Ended {
    match command {
        TrustCommand::Init(arguments) => init(arguments),
        TrustCommand::Rotate(arguments) => rotate(arguments),
        TrustCommand::Show { roots } => show(roots),
    }
}

fn init(arguments: &InitArguments) -> Ended {
    let mut builder = RootBuilder::init(after(arguments.expires))
        .root_threshold(arguments.root_threshold)
        .feed_threshold(arguments.feed_threshold);
    for path in &arguments.root_key {
        builder = builder.add_root_key(public_key(path)?);
    }
    for path in &arguments.feed_key {
        builder = builder.add_feed_key(public_key(path)?);
    }
    let root = builder.build().or_exit(Exit::Invalid)?;
    let mut envelope = root.to_envelope().or_exit(Exit::Invalid)?;
    arguments.signing.sign(&mut envelope)?;
    let json = envelope.to_json().or_exit(Exit::Invalid)?;
    std::fs::create_dir_all(&arguments.output).map_err(|error| {
        let text = format!("{} cannot be made: {error}", arguments.output.display());
        Failure::new(Exit::Unreachable, text)
    })?;
    let path = arguments.output.join(root.file_name());
    write_new(&path, json.as_bytes(), false)?;
    let standing = RootChain::pinned(json.as_bytes()).map(drop);
    print(&describe(&path, &root, &envelope, &standing))
}

fn rotate(arguments: &RotateArguments) -> Ended {
    let before = read(&arguments.root, ROOT_BYTES)?;
    let chain = RootChain::pinned(&before).map_err(|error| about(&arguments.root, error))?;
    let mut builder = RootBuilder::rotate(chain.newest(), after(arguments.expires));
    for path in &arguments.drop_root_key {
        let dropped = builder.drop_root_key(&public_key(path)?);
        builder = dropped.map_err(|error| about(path, error))?;
    }
    for path in &arguments.drop_feed_key {
        let dropped = builder.drop_feed_key(&public_key(path)?);
        builder = dropped.map_err(|error| about(path, error))?;
    }
    for path in &arguments.add_root_key {
        builder = builder.add_root_key(public_key(path)?);
    }
    for path in &arguments.add_feed_key {
        builder = builder.add_feed_key(public_key(path)?);
    }
    if let Some(threshold) = arguments.root_threshold {
        builder = builder.root_threshold(threshold);
    }
    if let Some(threshold) = arguments.feed_threshold {
        builder = builder.feed_threshold(threshold);
    }
    let root = builder.build().or_exit(Exit::Invalid)?;
    let mut envelope = root.to_envelope().or_exit(Exit::Invalid)?;
    arguments.signing.sign(&mut envelope)?;
    let json = envelope.to_json().or_exit(Exit::Invalid)?;
    let path = arguments.root.with_file_name(root.file_name());
    write_new(&path, json.as_bytes(), false)?;
    let standing = chain.advance(json.as_bytes()).map(drop);
    print(&describe(&path, &root, &envelope, &standing))
}

fn show(paths: &[std::path::PathBuf]) -> Ended {
    let mut chain: Option<RootChain> = None;
    let mut refused = None;
    for path in paths {
        let bytes = read(path, ROOT_BYTES)?;
        let envelope = Envelope::parse(&bytes).map_err(|error| about(path, error))?;
        let root = RootMetadata::parse(envelope.unverified_payload())
            .map_err(|error| about(path, error))?;
        let next = match &chain {
            Some(chain) => chain.advance(&bytes),
            None => RootChain::pinned(&bytes),
        };
        print(&describe(path, &root, &envelope, &next))?;
        match next {
            Ok(next) => chain = Some(next),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) => Err(Failure::new(Exit::Untrusted, error)),
        None => Ok(Exit::Done),
    }
}

/// The end of something that lasts this long from now on.
pub(super) fn after(lifetime: std::time::Duration) -> UnixTime {
    UnixTime::new(now().seconds().saturating_add(lifetime.as_secs()))
}

/// What a root says, and whether it is signed as it must be.
pub(super) fn describe<T>(
    path: &Path,
    root: &RootMetadata,
    envelope: &Envelope,
    standing: &Result<T, EnvelopeError>,
) -> String {
    let mut text = format!("{}\n", printable(&path.display().to_string()));
    let standing = match standing {
        Ok(_) => "by enough keys".to_owned(),
        Err(error) => match error.signatures() {
            Some((found, needed)) => {
                format!("by {found} of {needed} keys that must: stopgap cosign adds a signature")
            }
            None => printable(&error.to_string()),
        },
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  version  {}\n  expires  {}\n  signed   {standing}",
        root.version(),
        root.expires()
    );
    for (name, role) in [("roots", root.root()), ("feed", root.feed())] {
        let keys = role.keys().len();
        let _ = writeln!(
            text,
            "  {name:<7}  signed by {} of {keys}",
            role.threshold()
        );
        text.push_str(&keys_of(role, envelope));
    }
    text
}

fn keys_of(role: &Role, envelope: &Envelope) -> String {
    let mut text = String::new();
    for key in role.keys() {
        let signed = envelope.unverified_signers().any(|id| id == key.id());
        let mark = if signed { "  signed this" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "           {}{mark}", key.id());
    }
    text
}
