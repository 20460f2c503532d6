//! Every key of the settings file: the listing that people read, and that misspelt keys are compared with.

use std::fmt::Write;

use super::mitigation_keys::MITIGATION_KEYS;
use super::site_keys::SITE_KEYS;

/// A table of the settings file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Section {
    /// The table that it stands in; empty for the file itself.
    pub inside: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it can be written several times, as `[[name]]`.
    pub repeated: bool,
    /// What it is for.
    pub meaning: &'static str,
}

impl Section {
    /// The name of the file itself as a section.
    pub const TOP: &'static str = "";
}

/// A key of a section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    /// The section that it stands in; empty for the top of the file.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// A value as it would be written.
    pub example: &'static str,
    /// What holds when it is not written.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

pub(super) const fn at(
    section: &'static str,
    name: &'static str,
    example: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        section,
        name,
        example,
        default,
        meaning,
    }
}

const fn table(
    inside: &'static str,
    name: &'static str,
    repeated: bool,
    meaning: &'static str,
) -> Section {
    Section {
        inside,
        name,
        repeated,
        meaning,
    }
}

/// Every section, in the order in which they are listed.
pub(super) const SECTIONS: &[Section] = &[
    table(
        "",
        "listener",
        true,
        "A traffic listener with settings of its own.",
    ),
    table(
        "",
        "site",
        true,
        "A site: who answers for which hosts. The first also answers for all others.",
    ),
    table(
        "site",
        "route",
        true,
        "Paths of the site above that have servers of their own. The longest prefix wins.",
    ),
    table(
        "site",
        "version",
        false,
        "How the servers of the site above are asked which build they run; left out, they are not asked, unless the preset of the site is exchange.",
    ),
    table(
        "",
        "upstream",
        true,
        "Servers that stand in for each other, for the sites and routes that name them.",
    ),
    table(
        "upstream",
        "health",
        false,
        "How the servers of the upstream above are asked whether they are well; left out, they are not asked.",
    ),
    table(
        "upstream",
        "ejection",
        false,
        "When a server of the upstream above is left out for a while because requests fail on it.",
    ),
    table(
        "",
        "feed",
        true,
        "A feed of signed mitigations; the first has the highest priority.",
    ),
    table(
        "",
        "sidecar",
        true,
        "The sidecar of one upstream server, which stops services and application pools there.",
    ),
    table(
        "",
        "pool",
        true,
        "The paths that an application pool serves: 503 while it is stopped. Exchange's are known.",
    ),
    table(
        "",
        "policy",
        false,
        "What is required of mitigations, and what is switched off.",
    ),
    table(
        "",
        "exception",
        true,
        "Requests that a mitigation does not stop for a while. `stopgap exception add` does the same in a running instance.",
    ),
    table(
        "",
        "notify",
        false,
        "Who is told when the state of a mitigation changes, or a feed becomes stale.",
    ),
    table(
        "notify",
        "webhook",
        false,
        "A webhook that is told, signed as the Standard Webhooks specification has it.",
    ),
    table(
        "",
        "admin",
        false,
        "The read-only address and the control socket.",
    ),
    table(
        "",
        "limits",
        false,
        "Bounds on what clients and upstreams may take.",
    ),
    table(
        "",
        "refusals",
        false,
        "Hostile forms of a request target, refused with 400 before any rule; for every listener.",
    ),
    table("listener", "refusals", false, "The same for one listener."),
    table(
        "",
        "forwarding",
        false,
        "What is read of proxies in front, and what servers are told of clients.",
    ),
    table("", "log", false, "Lines about requests."),
];

/// Every key; those of a section in the order in which they are listed.
pub const KEYS: &[Key] = &{
    let mut all = [GENERAL[0]; GENERAL.len() + SITE_KEYS.len() + MITIGATION_KEYS.len()];
    let (mut at, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut own = 0;
        while own < TABLES[table].len() {
            all[at] = TABLES[table][own];
            (at, own) = (at + 1, own + 1);
        }
        table += 1;
    }
    all
};

const TABLES: [&[Key]; 3] = [GENERAL, SITE_KEYS, MITIGATION_KEYS];

/// The keys of the process itself, of its listeners, limits, refusals and logs.
const GENERAL: &[Key] = &[
    at(
        "",
        "listen",
        r#"["127.0.0.1:8080"]"#,
        "127.0.0.1:8080 unless a [[listener]] is there",
        "Addresses for plain HTTP/1.1: one with a port, or unix:/PATH.",
    ),
    at(
        "",
        "rules",
        r#"["rules.d"]"#,
        "none",
        "Rule files, and folders of them (*.xml in the order of their names). They replace the bundled set.",
    ),
    at(
        "",
        "with_baseline",
        "true",
        "false",
        "Enforce the bundled set beside local rules.",
    ),
    at(
        "",
        "workers",
        "4",
        "0: one per core",
        "Threads that serve traffic.",
    ),
    at(
        "",
        "access_log",
        r#""/var/log/stopgap/access.log""#,
        "none",
        "A line for each answered request; \"-\" is standard output.",
    ),
    at(
        "",
        "state_dir",
        r#""/var/lib/stopgap""#,
        "from the environment",
        "Where accepted feeds are kept, and the control socket.",
    ),
    at(
        "",
        "health_paths",
        r#"["/owa/healthcheck.htm"]"#,
        "none",
        "Paths of health checks: no mitigation that stops one is taken.",
    ),
    at(
        "",
        "drain_timeout",
        r#""30s""#,
        "30s",
        "How long requests in flight get to end after SIGTERM.",
    ),
    at(
        "",
        "instance",
        r#""proxy1""#,
        "none",
        "A name of this proxy's own for sidecars that several proxies ask; each then holds for itself.",
    ),
    at(
        "",
        "trusted_proxies",
        r#"["10.0.0.0/8", "fd00::/8"]"#,
        "none",
        "Proxies in front that are believed about the clients for whom they make requests, \"unix\" for whoever connects to a Unix socket; for every listener that does not say its own.",
    ),
    at(
        "",
        "watch_interval",
        r#""1s""#,
        "1s",
        "Time between two looks at rule files and at the kill switch.",
    ),
    at(
        "listener",
        "address",
        r#""0.0.0.0:80""#,
        "required",
        "The address with a port, or unix:/PATH.",
    ),
    at(
        "listener",
        "mode",
        r#""660""#,
        "660",
        "Who may connect to a Unix socket: the mode of its file.",
    ),
    at(
        "listener",
        "tls",
        r#"[{ certificate = "mail.pem", key = "mail.key" }]"#,
        "none: plain HTTP",
        "Certificate chains and private keys in PEM, which make it a TLS listener. A client gets the first that is for the name it asks for, or else the first. They are read again on SIGHUP and when a file changes.",
    ),
    at(
        "listener",
        "client_ca",
        r#""clients.pem""#,
        "none",
        "Authorities in PEM whose certificates clients are asked for, on a TLS listener.",
    ),
    at(
        "listener",
        "client_certificates",
        r#""required""#,
        "required with `client_ca`",
        "\"optional\" also takes clients without a certificate, \"required\" refuses them. Certificates of others are refused by both.",
    ),
    at(
        "listener",
        "http2",
        "true",
        "true with `tls`, false without",
        "Speak HTTP/2: with clients that agree to it within TLS, or that begin with it on a plain listener.",
    ),
    at(
        "listener",
        "health_path",
        r#""/stopgap-health""#,
        "none",
        "The path of health checks of a balancer in front: answered here before any rule, 200 while this proxy takes requests and 503 while it drains; not counted and not logged.",
    ),
    at(
        "listener",
        "proxy_protocol",
        r#"["10.0.0.0/8"]"#,
        "none",
        "Proxies in front that begin each connection with a header of the PROXY protocol, version 1 or 2; \"unix\" stands for whoever connects to a Unix socket. Connections from elsewhere are those of clients.",
    ),
    at(
        "listener",
        "trusted_proxies",
        r#"["10.0.0.0/8"]"#,
        "that of the file",
        "Proxies in front of this listener that are believed about the clients for whom they make requests.",
    ),
    at(
        "forwarding",
        "read",
        r#""forwarded""#,
        "x-forwarded-for",
        "Where trusted proxies name the client: x-forwarded-for (with x-forwarded-proto, -host and -port beside it) or forwarded. Only one is read, since a proxy that writes one may pass on what a client wrote into the other.",
    ),
    at(
        "forwarding",
        "send",
        r#"["x-forwarded-for", "x-forwarded-proto", "forwarded"]"#,
        "x-forwarded-for, -host, -port and -proto",
        "Which fields tell servers of clients: forwarded, x-forwarded-for, x-forwarded-host, x-forwarded-port, x-forwarded-proto, x-real-ip. What clients send of them never passes.",
    ),
    at(
        "admin",
        "address",
        r#""127.0.0.1:9180""#,
        "127.0.0.1:9180",
        "Health, metrics and status, read-only. Failing to bind it is an alarm.",
    ),
    at(
        "admin",
        "socket",
        r#""/run/stopgap/control.sock""#,
        "control.sock in the state folder",
        "The control socket.",
    ),
    at(
        "limits",
        "head",
        r#""128KiB""#,
        "128KiB",
        "A request head; at most 16MiB.",
    ),
    at("limits", "field", r#""64KiB""#, "64KiB", "One field of it."),
    at(
        "limits",
        "fields",
        "256",
        "256",
        "Fields of it; at most 16384.",
    ),
    at(
        "limits",
        "target",
        r#""32KiB""#,
        "65534B, the largest possible",
        "Its target.",
    ),
    at(
        "limits",
        "trailers",
        r#""8KiB""#,
        "16383B",
        "A trailer section.",
    ),
    at(
        "limits",
        "head_timeout",
        r#""10s""#,
        "10s",
        "From the first byte of a head to its last.",
    ),
    at(
        "limits",
        "idle_timeout",
        r#""120s""#,
        "120s",
        "Between two requests on a connection.",
    ),
    at(
        "limits",
        "body_timeout",
        r#""60s""#,
        "60s",
        "Without progress of a body, either way.",
    ),
    at(
        "limits",
        "body_minimum",
        r#""1KiB""#,
        "1KiB",
        "Of a body that has to move within body_timeout, either way; not on long_poll_paths.",
    ),
    at(
        "limits",
        "response_timeout",
        r#""60s""#,
        "60s",
        "From the end of a request to the head of its response.",
    ),
    at(
        "limits",
        "long_poll_timeout",
        r#""1h""#,
        "1h",
        "Instead of the last two, on long_poll_paths.",
    ),
    at(
        "limits",
        "long_poll_paths",
        r#"["/mapi"]"#,
        "those of Exchange",
        "Path prefixes on which servers answer late on purpose.",
    ),
    at(
        "limits",
        "connect_timeout",
        r#""5s""#,
        "5s",
        "To connect to an upstream.",
    ),
    at(
        "limits",
        "half_close_timeout",
        r#""5s""#,
        "5s",
        "For a response after the client ended its side.",
    ),
    at(
        "limits",
        "connections",
        "65536",
        "65536",
        "Client connections in all.",
    ),
    at(
        "limits",
        "connections_per_client",
        "4096",
        "4096",
        "Client connections from one address.",
    ),
    at(
        "limits",
        "http2_streams",
        "100",
        "100",
        "Requests that one HTTP/2 connection may have in progress.",
    ),
    at(
        "limits",
        "idle_upstream_connections",
        "64",
        "64",
        "Idle connections that one worker keeps for one upstream, beside those used in the last 2 s; 0 keeps none.",
    ),
    at(
        "limits",
        "idle_upstream_timeout",
        r#""30s""#,
        "30s",
        "How long it keeps them.",
    ),
    at(
        "limits",
        "drained_body",
        r#""64KiB""#,
        "64KiB",
        "Unread body that is read and dropped to keep a connection.",
    ),
    at(
        "refusals",
        "control-character",
        "true",
        "true",
        "A path that holds or decodes to a control character.",
    ),
    at(
        "refusals",
        "fragment",
        "true",
        "true",
        "A target with #; HTTP/2 cuts it off unseen.",
    ),
    at(
        "refusals",
        "ill-formed-utf8",
        "true",
        "true",
        "A path that decodes to ill-formed or overlong UTF-8.",
    ),
    at(
        "refusals",
        "malformed-escape",
        "true",
        "true",
        "A % in the path without two hexadecimal digits.",
    ),
    at(
        "refusals",
        "nested-escape",
        "true",
        "true",
        "A path that still changes after 4 decodes.",
    ),
    at(
        "refusals",
        "override-fields",
        "true",
        "true",
        "Not a refusal: X-Original-URL, X-Rewrite-URL, method overrides and their like are removed.",
    ),
    at(
        "refusals",
        "stream-name",
        "true",
        "true",
        "A path with ::$, an NTFS stream.",
    ),
    at(
        "refusals",
        "unicode-escape",
        "true",
        "true",
        "A path with %uXXXX.",
    ),
    at(
        "log",
        "access_format",
        r#""combined""#,
        "combined",
        "The form of access lines: combined or json.",
    ),
    at(
        "log",
        "decisions",
        r#""/var/log/stopgap/decisions.jsonl""#,
        "stderr",
        "JSON lines for decisions other than pass: a file, \"-\" (standard output), \"stderr\" or \"none\".",
    ),
    at(
        "log",
        "decisions_per_second",
        "1000",
        "1000",
        "How many of these lines a second, after a burst of ten seconds' worth; what is beyond is counted in a line for each rule. 0 writes every line.",
    ),
];

/// The key of this name in this section.
pub(super) fn key(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.section == section && key.name == name)
}

/// The section of this name that stands inside another.
pub(super) fn section(inside: &str, name: &str) -> Option<&'static Section> {
    SECTIONS
        .iter()
        .find(|section| section.inside == inside && section.name == name)
}

/// Every key with its meaning and default, as a settings file in which everything is commented out.
pub fn schema() -> String {
    let mut text = String::new();
    let list = |section: &str| {
        let mut lines = String::new();
        for key in KEYS.iter().filter(|key| key.section == section) {
            let Key {
                name,
                example,
                default,
                meaning,
                ..
            } = key;
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "# {meaning} Default: {default}.\n# {name} = {example}\n"
            );
        }
        lines
    };
    text.push_str(&list(Section::TOP));
    for section in SECTIONS {
        let header = match section {
            Section {
                inside: "",
                name,
                repeated: true,
                ..
            } => format!("[[{name}]]"),
            Section {
                inside: "", name, ..
            } => format!("[{name}]"),
            Section {
                inside,
                name,
                repeated: true,
                ..
            } => format!("[[{inside}.{name}]]"),
            Section { inside, name, .. } => format!("[{inside}.{name}]"),
        };
        let _ = writeln!(text, "# {}\n# {header}\n", section.meaning);
        // One that is also a section of the file is listed there.
        let is_listed = |other: &Section| other.inside.is_empty() && other.name == section.name;
        if section.inside.is_empty() || !SECTIONS.iter().any(is_listed) {
            text.push_str(&list(section.name));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
