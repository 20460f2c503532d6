//! `stopgap exception`: requests that a mitigation of the running instance does not stop for a while.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use hyper::Method;
use serde::Deserialize;

use super::command::{InstanceArguments, StatusArguments};
use super::exit::{Ended, Exit, OrExit};
use super::instance::{ask, send};
use super::publishing::lifetime;
use super::table::Table;
use super::trust::after;
use super::{print, status};
use crate::control::ExceptionText;
use crate::model::{MitigationId, Network, UnixTime};

/// `stopgap exception`
#[derive(Debug, Subcommand)]
pub(super) enum ExceptionCommand {
    /// Let some requests pass that a mitigation stops, until a given time
    Add(Box<AddArguments>),
    /// List all exceptions, those of the settings too
    List(StatusArguments),
    /// Delete an exception: the mitigation stops its requests again at once
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        instance: InstanceArguments,
    },
}

/// `stopgap exception add`
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("end").required(true).args(["expires", "for_time"])))]
pub(super) struct AddArguments {
    /// The mitigation that does not stop the requests, such as M1.1
    mitigation: MitigationId,
    /// The only rule of it that does not [default: every rule of it]
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// The path prefix of the requests: whole segments, in any letter case
    #[arg(long)]
    path: String,
    /// An address or a network of the clients, such as 192.0.2.0/24; repeatable
    #[arg(long, value_name = "NETWORK", required = true)]
    client: Vec<Network>,
    /// Who answers for it
    #[arg(long, value_name = "TEXT")]
    owner: String,
    /// Why it is there
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When it ends, in UTC, such as 2026-12-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<UnixTime>,
    /// How long it lasts from now: a number with h, d, w or y
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime)]
    for_time: Option<Duration>,
    /// What it is called [default: a name that is not taken]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    instance: InstanceArguments,
}

fn time(text: &str) -> Result<UnixTime, &'static str> {
    UnixTime::parse_rfc3339(text).ok_or("write it in UTC, like 2026-12-31T00:00:00Z")
}

/// One exception; newer instances may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Exception {
    name: String,
    origin: String,
    mitigation: String,
    rule: Option<String>,
    path: String,
    clients: Vec<String>,
    owner: String,
    reason: String,
    created: String,
    expires: String,
    state: String,
    hits: u64,
    last_used: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Status {
    exceptions: Vec<Exception>,
}

pub(super) fn exception(command: ExceptionCommand) -> Ended {
    match command {
        ExceptionCommand::Add(arguments) => add(*arguments),
        ExceptionCommand::List(arguments) => list(&arguments),
        ExceptionCommand::Delete { name, instance } => {
            let body = serde_json::to_vec(&name).or_exit(Exit::Usage)?;
            status::outcome(&send(&instance, Method::DELETE, "/exceptions", body)?)
        }
    }
}

fn add(arguments: AddArguments) -> Ended {
    let expires = match (arguments.expires, arguments.for_time) {
        (Some(expires), _) => expires,
        (None, lasts) => after(lasts.unwrap_or_default()),
    };
    let text = ExceptionText {
        name: arguments.name.unwrap_or_default(),
        mitigation: arguments.mitigation.to_string(),
        rule: arguments.rule,
        path: arguments.path,
        clients: arguments.client.iter().map(ToString::to_string).collect(),
        owner: arguments.owner,
        reason: arguments.reason,
        expires: expires.to_string(),
    };
    // The instance gives it a name; everything else can be wrong before it is asked.
    let named = ExceptionText {
        name: match text.name.as_str() {
            "" => "unnamed".to_owned(),
            name => name.to_owned(),
        },
        ..text.clone()
    };
    named.read().or_exit(Exit::Usage)?;
    let body = serde_json::to_vec(&text).or_exit(Exit::Usage)?;
    let answer = send(&arguments.instance, Method::POST, "/exceptions", body)?;
    status::outcome(&answer)
}

fn list(arguments: &StatusArguments) -> Ended {
    let bytes = ask(&arguments.instance, Method::GET, "/status")?;
    let status: Status = serde_json::from_slice(&bytes).or_exit(Exit::Unreachable)?;
    print(&table(&status.exceptions).render(arguments.output))
}

/// A row for each exception.
pub(super) fn table(exceptions: &[Exception]) -> Table {
    let mut table = Table::new(&[
        "name",
        "state",
        "mitigation",
        "rule",
        "path",
        "clients",
        "expires",
        "hits",
        "last used",
        "owner",
        "reason",
        "origin",
        "created",
    ]);
    for own in exceptions {
        table.row(vec![
            own.name.clone(),
            own.state.clone(),
            own.mitigation.clone(),
            own.rule.clone().unwrap_or_else(|| "all".to_owned()),
            own.path.clone(),
            own.clients.join(" "),
            own.expires.clone(),
            own.hits.to_string(),
            own.last_used.clone().unwrap_or_else(|| "never".to_owned()),
            own.owner.clone(),
            own.reason.clone(),
            own.origin.clone(),
            own.created.clone(),
        ]);
    }
    table
}
