//! `stopgap mitigation`: what became of mitigations, and orders about one.

use hyper::Method;
use serde::Deserialize;

use super::command::{DecisionArguments, HistoryArguments, ModeWord, StatusArguments};
use super::exit::{Ended, Exit, OrExit};
use super::instance::ask;
use super::table::Table;
use super::{print, status};
use crate::model::MitigationId;

/// The name of a server when no upstream server is configured.
const THIS_SERVER: &str = "localhost";

/// One transition; newer instances may say more.
#[derive(Debug, Deserialize)]
struct Transition {
    time: String,
    id: String,
    source: String,
    before: String,
    state: String,
    reason: String,
    digest: Option<String>,
    revision: u64,
}

/// The parts of the status document that the list of Exchange needs.
#[derive(Debug, Deserialize)]
struct Status {
    mitigations: Vec<Mitigation>,
    #[serde(default)]
    servers: Vec<Server>,
    process: Option<Process>,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
}

/// How far one server is with what a mitigation stops.
#[derive(Debug, Deserialize)]
struct Standing {
    server: String,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Mitigation {
    id: String,
    description: String,
    actions: Vec<Action>,
    state: String,
    #[serde(default)]
    servers: Vec<Standing>,
}

impl Mitigation {
    /// Its state on one server. Rules are in force for all of them alike; services and pools may be missing on some.
    fn state_on(&self, server: &str) -> &str {
        let own = self.servers.iter().find(|own| own.server == server);
        match (self.state.as_str(), own) {
            ("Partial", Some(own)) => &own.state,
            (state, _) => state,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Action {
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Process {
    sites: Vec<Site>,
}

#[derive(Debug, Deserialize)]
struct Site {
    upstreams: Vec<String>,
}

/// Gives an order about one mitigation.
pub(super) fn decide(verb: &str, arguments: &DecisionArguments) -> Ended {
    let path = format!("/mitigations/{verb}/{}", arguments.id);
    status::outcome(&ask(&arguments.instance, Method::POST, &path)?)
}

/// Says whether a mitigation is enforced or only watched.
pub(super) fn mode(mode: ModeWord, arguments: &DecisionArguments) -> Ended {
    let word = match mode {
        ModeWord::Audit => "audit",
        ModeWord::Enforce => "enforce",
        ModeWord::Published => "published",
    };
    decide(word, arguments)
}

/// Lists transitions.
pub(super) fn history(arguments: &HistoryArguments) -> Ended {
    let bytes = ask(&arguments.status.instance, Method::GET, "/history")?;
    let mut transitions: Vec<Transition> =
        serde_json::from_slice(&bytes).or_exit(Exit::Unreachable)?;
    if let Some(wanted) = &arguments.id {
        transitions.retain(|own| {
            let id: Result<MitigationId, _> = own.id.parse();
            id.is_ok_and(|id| wanted.covers(&id))
        });
    }
    let mut table = Table::new(&[
        "time", "id", "source", "before", "state", "reason", "revision", "digest",
    ]);
    for transition in transitions {
        table.row(vec![
            transition.time,
            transition.id,
            transition.source,
            transition.before,
            transition.state,
            transition.reason,
            transition.revision.to_string(),
            transition.digest.unwrap_or_default(),
        ]);
    }
    print(&table.render(arguments.status.output))
}

/// Lists mitigations as Exchange's own script does, with a row for each server.
pub(super) fn exchange(arguments: &StatusArguments) -> Ended {
    let bytes = ask(&arguments.instance, Method::GET, "/status")?;
    let status: Status = serde_json::from_slice(&bytes).or_exit(Exit::Unreachable)?;
    print(&exchange_table(&status).render(arguments.output))
}

fn exchange_table(status: &Status) -> Table {
    let sites = status.process.iter().flat_map(|process| &process.sites);
    // The names under which their sidecars are known; of an older instance, hosts.
    let mut servers: Vec<&str> = status.servers.iter().map(|own| &*own.name).collect();
    if servers.is_empty() {
        servers = sites
            .flat_map(|site| &site.upstreams)
            .map(|url| host(url))
            .collect();
    }
    servers.sort_unstable();
    servers.dedup();
    if servers.is_empty() {
        servers.push(THIS_SERVER);
    }
    let mut table = Table::new(&["Server", "ID", "Type", "Description", "Status"]);
    for server in servers {
        for mitigation in &status.mitigations {
            let mut kinds: Vec<&str> = mitigation.actions.iter().map(|own| &*own.kind).collect();
            kinds.dedup();
            table.row(vec![
                server.to_owned(),
                mitigation.id.clone(),
                kinds.join(", "),
                mitigation.description.clone(),
                mitigation.state_on(server).to_owned(),
            ]);
        }
    }
    table
}

/// The host of `http://HOST:PORT`.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or(rest, |(host, _)| host),
        None => rest.split_once(':').map_or(rest, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Format;
    use super::*;

    #[test]
    fn list_has_the_columns_of_exchange() {
        let status: Status = serde_json::from_str(
            r#"{"mitigations": [{"id": "M1.1", "description": "Block, it", "state": "Applied",
                "actions": [{"kind": "UrlRewrite"}, {"kind": "Service"}]}],
                "process": {"sites": [{"upstreams": ["http://ex2:81", "https://ex1:443"]},
                {"upstreams": ["http://ex2:82", "http://[::1]:80"]}]}}"#,
        )
        .unwrap();
        assert_eq!(
            exchange_table(&status).render(Format::Csv),
            "Server,ID,Type,Description,Status\r\n\
             ::1,M1.1,\"UrlRewrite, Service\",\"Block, it\",Applied\r\n\
             ex1,M1.1,\"UrlRewrite, Service\",\"Block, it\",Applied\r\n\
             ex2,M1.1,\"UrlRewrite, Service\",\"Block, it\",Applied\r\n"
        );
    }

    #[test]
    fn state_of_the_list_is_that_of_each_server() {
        let status: Status = serde_json::from_str(
            r#"{"servers": [{"name": "ex1"}, {"name": "ex2"}, {"name": "ex3"}],
                "mitigations": [{"id": "M1.1", "description": "", "state": "Partial",
                "actions": [{"kind": "Service"}], "servers": [{"server": "ex1", "state": "Applied"},
                {"server": "ex2", "state": "Partial"}]},
                {"id": "M2.1", "description": "", "state": "Withdrawn", "actions": [],
                "servers": [{"server": "ex1", "state": "Partial"}]}], "process": null}"#,
        )
        .unwrap();
        assert_eq!(
            exchange_table(&status).render(Format::Csv),
            "Server,ID,Type,Description,Status\r\n\
             ex1,M1.1,Service,,Applied\r\nex1,M2.1,,,Withdrawn\r\n\
             ex2,M1.1,Service,,Partial\r\nex2,M2.1,,,Withdrawn\r\n\
             ex3,M1.1,Service,,Partial\r\nex3,M2.1,,,Withdrawn\r\n"
        );
    }
}
