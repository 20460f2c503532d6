//! What a start says on standard output.

use std::io::Write;

use crate::admin::About;
use crate::control::Status;

/// The last line of a greeting; scripts and tests wait for it.
const READY: &str = "ready";

/// Mitigations, each with the target of an attack that it stops.
const EXAMPLES: [(&str, &str); 2] = [
    ("M1.1", EXAMPLE),
    // Stops the same in another way, and is there when Microsoft's own is blocked or withdrawn.
    ("SG7.1", EXAMPLE),
];

/// ProxyNotShell (CVE-2022-41040).
const EXAMPLE: &str = "/autodiscover/autodiscover.json?a@b.example/powershell";

/// The target of an attack that is stopped now, if a mitigation that is known to stop one is in force.
pub(super) fn stopped_example(status: &Status) -> Option<String> {
    let in_force = |id: &str| {
        let mut mitigations = status.mitigations.iter();
        mitigations.any(|one| one.id == id && one.state == "Applied" && !one.rules.is_empty())
    };
    let (_, target) = EXAMPLES
        .iter()
        .find(|(id, _)| !status.kill_switch && in_force(id))?;
    Some((*target).to_owned())
}

/// Says what runs, and ends with the line `ready`.
pub(super) fn greet(about: &About, status: &Status) {
    let mut lines = vec![format!("stopgap {}", status.version)];
    for address in &about.listeners {
        let scheme = if about.is_tls(address) {
            "https"
        } else {
            "http"
        };
        lines.push(format!(
            "listening on {scheme}://{address} ({} threads)",
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
