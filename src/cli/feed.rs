//! `stopgap feed fetch` and `stopgap feed verify`

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::command::{FetchArguments, TrustArguments, TrustKind, VerifyArguments};
use super::exit::{Ended, Exit, Failure, OrExit};
use super::print;
use super::table::{Format, Table, printable};
use crate::app::now;
use crate::config::{Config, Overrides, read_roots};
use crate::feed::{
    Accepted, Feed, FeedConfig, FeedError, Fetched, Source, Step, Trust, fetch_with_roots,
};
use crate::model::{ActionKind, PoolStop, ServiceStop};
use crate::signature::XmlDsigPolicy;
use crate::store::StateDir;

pub(super) fn verify(arguments: &VerifyArguments) -> Ended {
    let trust = trust(&arguments.trust)?;
    let config = FeedConfig::new("feed", Source::File(arguments.file.clone()), trust);
    let (accepted, fetched) = accept(&config)?;
    let told = describe(&accepted, &fetched);
    print(&told)?;
    fresh(&accepted)
}

pub(super) fn fetch(arguments: FetchArguments) -> Ended {
    let feeds = feeds(&arguments)?;
    if arguments.save.is_some() && feeds.len() != 1 {
        return Err(Failure::new(
            Exit::Usage,
            "--save takes one document: name one feed",
        ));
    }
    for feed in &feeds {
        let (place, accepted, fetched) = accept_any(feed)?;
        print(&format!(
            "{}: {} bytes from {place}\n{}",
            feed.name,
            fetched.document.len(),
            describe(&accepted, &fetched)
        ))?;
        if let Some(path) = &arguments.save {
            fs::write(path, &fetched.document).map_err(|error| {
                Failure::new(
                    Exit::Unreachable,
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
        }
        fresh(&accepted)?;
    }
    Ok(Exit::Done)
}

/// What the first of a feed's places gives that gives something acceptable; those passed over are told.
fn accept_any(feed: &FeedConfig) -> Result<(Source, Accepted, Fetched), Failure> {
    let mut places = feed.places().peekable();
    loop {
        let place = places
            .next()
            .expect("a feed has a place, and the last one returns");
        match accept(&feed.only(place)) {
            Ok((accepted, fetched)) => return Ok((place.clone(), accepted, fetched)),
            Err(failure) if places.peek().is_none() => return Err(failure),
            Err(failure) => eprint!("{}: {place}: {}", feed.name, failure.text()),
        }
    }
}

/// Fetches, verifies and reads a feed as the daemon does, from its first place, and keeps nothing.
pub(super) fn accept(config: &FeedConfig) -> Result<(Accepted, Fetched), Failure> {
    let mut feed = Feed::new(config.clone(), &StateDir::memory()).map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)?;
    let fetched = runtime
        .block_on(fetch_with_roots(config, feed.next_root()))
        .map_err(refused)?;
    feed.take(&fetched, now()).map_err(refused)?;
    let accepted = feed.accepted().cloned();
    let accepted = accepted.expect("what was taken a moment ago is in force");
    Ok((accepted, fetched))
}

/// The end of a command about a document that was accepted: one that has expired is told by the exit code.
pub(super) fn fresh(accepted: &Accepted) -> Ended {
    match accepted.issue {
        Some(issue) if issue.expires <= now() => Err(Failure::new(
            Exit::Untrusted,
            format!(
                "it expired at {}: clients keep its rules and say that the feed is stale; its publisher renews it by \
                 stopgap sign --refresh",
                issue.expires
            ),
        )),
        _ => Ok(Exit::Done),
    }
}

fn feeds(arguments: &FetchArguments) -> Result<Vec<FeedConfig>, Failure> {
    if let Some(url) = &arguments.url {
        return Ok(vec![FeedConfig::new(
            "feed",
            url.clone(),
            trust(&arguments.trust)?,
        )]);
    }
    let config = configured(arguments.config.as_deref(), &arguments.names)?;
    Ok(config.control.feeds)
}

/// The settings, with the feeds of these names alone if there are any.
pub(super) fn configured(path: Option<&Path>, names: &[String]) -> Result<Config, Failure> {
    let mut config = Config::load(path, &Overrides::default(), |name| std::env::var_os(name))
        .or_exit(Exit::Invalid)?;
    let feeds = &mut config.control.feeds;
    for name in names {
        if !feeds.iter().any(|feed| feed.name == *name) {
            let text = format!("the settings have no feed {name:?}");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    feeds.retain(|feed| names.is_empty() || names.contains(&feed.name));
    match feeds.is_empty() {
        true => Err(Failure::new(Exit::Usage, "the settings have no [[feed]]")),
        false => Ok(config),
    }
}

fn trust(arguments: &TrustArguments) -> Result<Trust, Failure> {
    let Some(kind) = arguments.trust else {
        return Err(Failure::new(
            Exit::Usage,
            "say who must have signed it: --trust microsoft-eocs, --trust xmldsig-x509 or --trust dsse",
        ));
    };
    let certificates = !arguments.timestamp_root.is_empty()
        || !arguments.eku.is_empty()
        || !arguments.signer.is_empty()
        || arguments.require_timestamp
        || arguments.no_timestamp;
    if kind != TrustKind::Dsse && arguments.publishes.is_some() {
        let text = "--publishes belongs to --trust dsse";
        return Err(Failure::new(Exit::Usage, text));
    }
    match kind {
        TrustKind::Dsse => match (arguments.root.as_slice(), &arguments.publishes) {
            ([root], Some(name)) if !certificates => Ok(Trust::Dsse {
                name: name.clone(),
                root: fs::read(root).map_err(|error| {
                    let text = format!("{} cannot be read: {error}", root.display());
                    Failure::new(Exit::Unreachable, text)
                })?,
            }),
            _ => Err(Failure::new(
                Exit::Usage,
                "--trust dsse needs the pinned root and the feed's name, and nothing else: --root 1.root.json \
                 --publishes NAME",
            )),
        },
        TrustKind::MicrosoftEocs => match certificates || !arguments.root.is_empty() {
            true => Err(Failure::new(
                Exit::Usage,
                "--trust microsoft-eocs has its own roots and conditions; leave out the other flags, or write \
                     --trust xmldsig-x509",
            )),
            false => Ok(Trust::MicrosoftEocs),
        },
        TrustKind::XmlDsigX509 if arguments.root.is_empty() => Err(Failure::new(
            Exit::Usage,
            "--trust xmldsig-x509 needs the certificates that signers chain to: --root FILE",
        )),
        TrustKind::XmlDsigX509 => Ok(Trust::XmlDsigX509(XmlDsigPolicy {
            roots: read_roots(&arguments.root).or_exit(Exit::Invalid)?,
            timestamp_roots: read_roots(&arguments.timestamp_root).or_exit(Exit::Invalid)?,
            required_ekus: arguments.eku.clone(),
            require_timestamp: arguments.require_timestamp,
            allowed_signers: arguments.signer.clone(),
            denied_signers: Vec::new(),
        })),
    }
}

fn refused(error: FeedError) -> Failure {
    Failure::new(exit_of(&error), error)
}

/// The exit code of a feed that is not taken.
pub(super) const fn exit_of(error: &FeedError) -> Exit {
    match error.step() {
        Step::Connect | Step::Exchange | Step::Tls => Exit::Unreachable,
        Step::Read | Step::Settings => Exit::Invalid,
        Step::Trust => Exit::Untrusted,
    }
}

pub(super) fn describe(accepted: &Accepted, fetched: &Fetched) -> String {
    let signed_at = match accepted.signed_at {
        Some(time) => time.to_string(),
        None => "no timestamp".to_owned(),
    };
    let content = &accepted.document;
    let mut text = format!(
        "signature  good\nsigner     {}\nsigned at  {signed_at}\ndigest     {}\n",
        accepted.signer, accepted.digest,
    );
    if let Some(issue) = accepted.issue {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "issue      {}\nexpires    {}\nnew roots  {}",
            issue.version,
            issue.expires,
            fetched.roots.len()
        );
    }
    let _ = writeln!(text, "version    {}\n", printable(&content.version));
    let mut table = Table::new(&["mitigation", "actions", "description", "remark"]);
    for mitigation in &content.mitigations {
        let actions: Vec<String> = mitigation
            .actions
            .iter()
            .map(|action| match &action.kind {
                ActionKind::AppPool(PoolStop { name, .. })
                | ActionKind::Service(ServiceStop { name, .. }) => {
                    format!("{} {name} ({})", action.kind.name(), action.scope)
                }
                kind => format!("{} ({})", kind.name(), action.scope),
            })
            .collect();
        let remark = match (&mitigation.failure, mitigation.withdrawn) {
            (Some(failure), _) => failure.clone(),
            (None, true) => "withdrawn".to_owned(),
            (None, false) => String::new(),
        };
        table.row(vec![
            mitigation.id.to_string(),
            actions.join(", "),
            mitigation.description.clone(),
            remark,
        ]);
    }
    for nameless in &content.nameless {
        table.row(vec![
            nameless.id.clone(),
            String::new(),
            String::new(),
            nameless.reason.clone(),
        ]);
    }
    text.push_str(&table.render(Format::Table));
    for notice in &content.notices {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "note: {}", printable(notice));
    }
    text
}
