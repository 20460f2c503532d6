//! What a start says on standard output.

use std::io::Write;

use http::{Method, Request};

use crate::admin::About;
use crate::control::Status;
use crate::filter::{Filter, Handle, Peer};

/// The last line of a greeting; scripts and tests wait for it.
const READY: &str = "ready";

/// Attacks that the bundled set stops, the best known first.
const ATTACKS: [&str; 2] = [
    "/autodiscover/autodiscover.json?a@b.example/powershell",
    "/ecp/y.js?X-BEResource=localhost~1942062522",
];

/// The target of an attack that the published rules stop now at the first site, if one of the known ones is.
pub(super) fn stopped_example(handle: Handle) -> Option<String> {
    let mut filter = Filter::new(handle);
    let peer = Peer::default();
    let stopped = ATTACKS.iter().find(|target| {
        let request = Request::builder()
            .method(Method::GET)
            .uri(**target)
            .header("host", "localhost")
            .body(());
        request.is_ok_and(|request| {
            let (parts, ()) = request.into_parts();
            filter.judge(0, &parts, &peer).decision.verdict.stops()
        })
    });
    stopped.map(|target| (*target).to_owned())
}

/// Says what runs, and ends with the line `ready`.
pub(super) fn greet(about: &About, status: &Status) {
    let mut lines = vec![format!("stopgap {}", status.version)];
    for address in &about.listeners {
        lines.push(format!(
            "listening on http://{address} ({} threads)",
            about.workers
        ));
    }
    for site in &about.sites {
        let servers = match site.upstreams.is_empty() {
            true => {
                "the built-in welcome page (name a server with --upstream http://HOST)".to_owned()
            }
            false => site.upstreams.join(", "),
        };
        lines.push(format!("site {:?} answered by {servers}", site.name));
    }
    lines.push(match about.admin {
        Some(address) => format!("admin on http://{address}"),
        None => "admin address not available, see the alarm".to_owned(),
    });
    lines.push(match &about.state_dir {
        Some(folder) => format!("state in {folder}"),
        None => "state in memory".to_owned(),
    });
    let applied = status
        .mitigations
        .iter()
        .filter(|one| one.state == "Applied")
        .count();
    let total = status.mitigations.len();
    lines.push(format!(
        "{applied} of {total} mitigations applied, {} rule files",
        status.rule_files.len()
    ));
    if let Some(command) = about.passing_command() {
        lines.push(format!("passes: {command}"));
    }
    if let Some(command) = about.stopped_command() {
        lines.push(format!("blocked: {command}"));
    }
    lines.push(READY.to_owned());
    let mut output = std::io::stdout().lock();
    // A closed standard output is no reason not to serve.
    let _ = output.write_all((lines.join("\n") + "\n").as_bytes());
    let _ = output.flush();
}
