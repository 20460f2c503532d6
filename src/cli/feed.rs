//! `stopgap feed fetch` and `stopgap feed verify`

use std::fmt::Write;
use std::fs;

use super::command::{FetchArguments, TrustArguments, TrustKind, VerifyArguments};
use super::exit::{Ended, Exit, Failure, OrExit};
use super::print;
use super::table::{Format, Table, printable};
use crate::app::now;
use crate::config::{Config, Overrides, read_roots};
use crate::feed::{FeedConfig, FeedDocument, SIZE_LIMIT, Trust, TypeAliases};
use crate::model::ActionKind;
use crate::signature::{Fault, Verified, Verifier, VerifyError, XmlDsigPolicy, sha256};

pub(super) fn verify(arguments: &VerifyArguments) -> Ended {
    let trust = trust(&arguments.trust)?;
    let name = arguments.file.display().to_string();
    let document = fs::read(&arguments.file).map_err(|error| {
        Failure::new(Exit::Unreachable, format!("{name} cannot be read: {error}"))
    })?;
    if document.len() > SIZE_LIMIT {
        let text = format!("{name} is larger than {SIZE_LIMIT} bytes");
        return Err(Failure::new(Exit::Untrusted, text));
    }
    print(&judge(&document, &trust, &TypeAliases::default())?)
}

pub(super) fn fetch(arguments: FetchArguments) -> Ended {
    let feeds = feeds(&arguments)?;
    if arguments.save.is_some() && feeds.len() != 1 {
        return Err(Failure::new(
            Exit::Usage,
            "--save takes one document: name one feed",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)?;
    for feed in &feeds {
        let document = runtime
            .block_on(crate::feed::fetch(feed))
            .or_exit(Exit::Unreachable)?;
        let told = judge(&document, &feed.trust, &feed.type_aliases)?;
        print(&format!(
            "{}: {} bytes from {}\n{told}",
            feed.name,
            document.len(),
            feed.source
        ))?;
        if let Some(path) = &arguments.save {
            fs::write(path, &document).map_err(|error| {
                Failure::new(
                    Exit::Unreachable,
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
        }
    }
    Ok(Exit::Done)
}

fn feeds(arguments: &FetchArguments) -> Result<Vec<FeedConfig>, Failure> {
    if let Some(url) = &arguments.url {
        return Ok(vec![FeedConfig::new(
            "feed",
            url.clone(),
            trust(&arguments.trust)?,
        )]);
    }
    let config = Config::load(arguments.config.as_deref(), &Overrides::default(), |name| {
        std::env::var_os(name)
    })
    .or_exit(Exit::Invalid)?;
    let mut feeds = config.control.feeds;
    for name in &arguments.names {
        if !feeds.iter().any(|feed| feed.name == *name) {
            let text = format!("the settings have no feed {name:?}");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    feeds.retain(|feed| arguments.names.is_empty() || arguments.names.contains(&feed.name));
    match feeds.is_empty() {
        true => Err(Failure::new(Exit::Usage, "the settings have no [[feed]]")),
        false => Ok(feeds),
    }
}

fn trust(arguments: &TrustArguments) -> Result<Trust, Failure> {
    let Some(kind) = arguments.trust else {
        return Err(Failure::new(
            Exit::Usage,
            "say who must have signed it: --trust microsoft-eocs or --trust xmldsig-x509",
        ));
    };
    match kind {
        TrustKind::MicrosoftEocs => {
            let foreign = !arguments.root.is_empty()
                || !arguments.timestamp_root.is_empty()
                || !arguments.eku.is_empty()
                || !arguments.signer.is_empty()
                || arguments.require_timestamp
                || arguments.no_timestamp;
            match foreign {
                true => Err(Failure::new(
                    Exit::Usage,
                    "--trust microsoft-eocs has its own roots and conditions; leave out the other flags, or write \
                     --trust xmldsig-x509",
                )),
                false => Ok(Trust::MicrosoftEocs),
            }
        }
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

/// Verifies and reads a document, and says what is in it.
fn judge(document: &[u8], trust: &Trust, aliases: &TypeAliases) -> Result<String, Failure> {
    let verifier = match trust {
        Trust::MicrosoftEocs => Verifier::microsoft_eocs(),
        Trust::XmlDsigX509(policy) => Verifier::xmldsig_x509(policy.clone()),
    }
    .map_err(refused)?;
    let verified = verifier.verify(document, now(), None).map_err(refused)?;
    let content = FeedDocument::parse(&verified, aliases).or_exit(Exit::Invalid)?;
    Ok(describe(document, &verified, &content))
}

fn refused(error: VerifyError) -> Failure {
    let exit = match error.fault() {
        Fault::Configuration => Exit::Invalid,
        _ => Exit::Untrusted,
    };
    Failure::new(exit, error)
}

fn describe(document: &[u8], verified: &Verified<Vec<u8>>, content: &FeedDocument) -> String {
    let signed_at = match verified.signed_at() {
        Some(time) => time.to_string(),
        None => "no timestamp".to_owned(),
    };
    let mut text = format!(
        "signature  good\nsigner     {}\nsigned at  {signed_at}\ndigest     {}\nversion    {}\n\n",
        verified.signer(),
        sha256(document),
        printable(&content.version),
    );
    let mut table = Table::new(&["mitigation", "actions", "description", "remark"]);
    for mitigation in &content.mitigations {
        let actions: Vec<String> = mitigation
            .actions
            .iter()
            .map(|action| match &action.kind {
                ActionKind::AppPool(name) | ActionKind::Service(name) => {
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
