//! Every key of the settings file: the listing that people read, and that misspelt keys are compared with.

use std::fmt::Write;

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
    let mut all = [GENERAL[0]; GENERAL.len() + SITE_KEYS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = match at < GENERAL.len() {
            true => GENERAL[at],
            false => SITE_KEYS[at - GENERAL.len()],
        };
        at += 1;
    }
    all
};

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
        "feed",
        "name",
        r#""microsoft""#,
        "required",
        "Its name in status, alarms and the state folder.",
    ),
    at(
        "feed",
        "url",
        r#""https://officeclient.microsoft.com/GetExchangeMitigations""#,
        "required",
        "https://, http:// or file:///; a file or a folder.",
    ),
    at(
        "feed",
        "mirrors",
        r#"["https://mirror.example/feed.xml", "file:///media/feed"]"#,
        "none",
        "Further places with the same documents, tried in turn when url brings nothing that is accepted.",
    ),
    at(
        "feed",
        "trust",
        r#""microsoft-eocs""#,
        "required",
        "Who must have signed it: dsse, microsoft-eocs or xmldsig-x509.",
    ),
    at(
        "feed",
        "root",
        r#""1.root.json""#,
        "required with dsse",
        "The root that its publisher gave you; later ones are fetched beside the feed.",
    ),
    at(
        "feed",
        "publishes",
        r#""example""#,
        "the feed's name",
        "The name that its publisher gave the feed; with dsse.",
    ),
    at(
        "feed",
        "roots",
        r#"["publisher.pem"]"#,
        "required with xmldsig-x509",
        "Certificates that signers chain to, PEM or DER.",
    ),
    at(
        "feed",
        "timestamp_roots",
        r#"["timestamp.pem"]"#,
        "none",
        "Certificates that timestamp authorities chain to; with xmldsig-x509.",
    ),
    at(
        "feed",
        "required_ekus",
        r#"["1.3.6.1.5.5.7.3.3"]"#,
        "none",
        "Extended key usages that a signer must have; with xmldsig-x509.",
    ),
    at(
        "feed",
        "require_timestamp",
        "true",
        "false",
        "Refuse a document without a timestamp; with xmldsig-x509.",
    ),
    at(
        "feed",
        "signers",
        r#"["SHA-256 of a certificate"]"#,
        "any below the roots",
        "The only signers taken; with xmldsig-x509.",
    ),
    at(
        "feed",
        "denied_signers",
        r#"["SHA-256 of a certificate"]"#,
        "none",
        "Signers never taken; with xmldsig-x509.",
    ),
    at(
        "feed",
        "proxy",
        r#""http://proxy.example:3128""#,
        "none",
        "The HTTP proxy that fetches go through.",
    ),
    at(
        "feed",
        "ca",
        r#""ca.pem""#,
        "none",
        "Authorities trusted for TLS besides the system's, in PEM.",
    ),
    at(
        "feed",
        "interval",
        r#""1h""#,
        "1h",
        "Time between two fetches, a tenth more or less.",
    ),
    at(
        "feed",
        "deadline",
        r#""60s""#,
        "60s",
        "Time for a whole fetch.",
    ),
    at(
        "feed",
        "connect_deadline",
        r#""10s""#,
        "10s",
        "Time for a connection, TLS included.",
    ),
    at(
        "feed",
        "stale_after",
        r#""3h""#,
        "3h",
        "Without a success for this long, the feed is stale.",
    ),
    at(
        "feed",
        "accept_former",
        "true",
        "false",
        "Take a document without a timestamp again after another one was accepted; not with dsse.",
    ),
    at(
        "feed",
        "size_limit",
        r#""4MiB""#,
        "4MiB",
        "The largest document taken.",
    ),
    at(
        "feed",
        "type_aliases",
        r#"{ Rewrite = "UrlRewrite" }"#,
        "none",
        "Further words for AppPool, DoNothing, Service and UrlRewrite.",
    ),
    at(
        "sidecar",
        "server",
        r#""10.0.0.1""#,
        "required",
        "The server: its host as in `upstreams`, with the port if two share one host.",
    ),
    at(
        "sidecar",
        "socket",
        r#""/run/stopgap-sidecar/sidecar.sock""#,
        "none",
        "The socket of a sidecar on this host.",
    ),
    at(
        "sidecar",
        "address",
        r#""mail1.example:9443""#,
        "none",
        "The address of a sidecar on another host, which is spoken to within TLS.",
    ),
    at(
        "sidecar",
        "certificate",
        r#""proxy.pem""#,
        "none",
        "The certificate that the proxy shows at that address, in PEM.",
    ),
    at(
        "sidecar",
        "key",
        r#""proxy.key""#,
        "none",
        "Its private key, in PEM.",
    ),
    at(
        "sidecar",
        "ca",
        r#""sidecars.pem""#,
        "none",
        "The only authorities that may vouch for the sidecar, in PEM.",
    ),
    at(
        "sidecar",
        "pins",
        r#"["SHA-256 of a certificate"]"#,
        "none",
        "The only certificates taken from the sidecar. `ca`, `pins` or both.",
    ),
    at(
        "sidecar",
        "tls_name",
        r#""mail1.example""#,
        "the host of `address`",
        "The name that the certificate must be for, with `ca`.",
    ),
    at(
        "sidecar",
        "deadline",
        r#""2m""#,
        "2m",
        "Time for one order, until the sidecar is asked again.",
    ),
    at(
        "pool",
        "name",
        r#""MSExchangeECPAppPool""#,
        "required",
        "The application pool.",
    ),
    at(
        "pool",
        "paths",
        r#"["/ecp"]"#,
        "required",
        "The paths that it serves, in place of those that are known; the longest prefix decides.",
    ),
    at(
        "policy",
        "organisation_enabled",
        "true",
        "true",
        "Off: nothing of a feed or of the bundled set is enforced, anywhere.",
    ),
    at(
        "policy",
        "server_enabled",
        "true",
        "true",
        "Off: the same for this server.",
    ),
    at(
        "policy",
        "blocked",
        r#"["M2"]"#,
        "none",
        "Mitigations never enforced; M2 covers every M2.x.",
    ),
    at(
        "policy",
        "approval",
        r#""required""#,
        "published",
        "Whether every mitigation of a feed waits for approval, or those whose publishers ask for it.",
    ),
    at(
        "policy",
        "audit",
        r#"["M2"]"#,
        "none",
        "Mitigations that are only watched; M2 covers every M2.x.",
    ),
    at(
        "policy",
        "ring",
        "1",
        "1",
        "The ring of this installation: 0 takes what is offered first, 2 what is offered last.",
    ),
    at(
        "policy",
        "builds",
        r#"{ exchange = ["15.2.1118.20"] }"#,
        "none",
        "The builds of products, one for each server. A product not named counts as affected.",
    ),
    at(
        "policy",
        "retirement",
        r#""automatic""#,
        "propose",
        "What becomes of a mitigation once every server it protects shows a fixed build (see [site.version]): it waits for `stopgap mitigation retire`, or goes by itself.",
    ),
    at(
        "policy",
        "groups",
        r#"["policy"]"#,
        "none",
        "Opt-in groups to enforce.",
    ),
    at(
        "policy",
        "benign_limit",
        "0",
        "0",
        "Honest requests that a mitigation may stop and still be taken.",
    ),
    at(
        "policy",
        "trust_despite_benign",
        r#"["M1.1"]"#,
        "none",
        "Mitigations taken although they stop more than that.",
    ),
    at(
        "policy",
        "exception_lifetime",
        r#""90d""#,
        "90d",
        "How far ahead an exception may end.",
    ),
    at(
        "exception",
        "name",
        r#""room-7""#,
        "required",
        "What it is called.",
    ),
    at(
        "exception",
        "mitigation",
        r#""M1.1""#,
        "required",
        "The mitigation that does not stop the requests.",
    ),
    at(
        "exception",
        "rule",
        r#""EOMT: Autodiscover""#,
        "every rule of it",
        "The only rule of it that does not.",
    ),
    at(
        "exception",
        "path",
        r#""/autodiscover""#,
        "required",
        "The path prefix of the requests, in every form that a server could take their path in.",
    ),
    at(
        "exception",
        "clients",
        r#"["192.0.2.7", "10.1.0.0/16"]"#,
        "required",
        "The addresses and networks of the clients.",
    ),
    at(
        "exception",
        "owner",
        r#""A. Person, Messaging""#,
        "required",
        "Who answers for it.",
    ),
    at(
        "exception",
        "reason",
        r#""the phone in room 7, ticket 4711""#,
        "required",
        "Why it is there.",
    ),
    at(
        "exception",
        "expires",
        r#""2026-12-31T00:00:00Z""#,
        "required",
        "When it ends.",
    ),
    at(
        "notify",
        "command",
        r#"["/usr/local/bin/tell-me"]"#,
        "none",
        "A program and its arguments, run without a shell, with the changes as JSON on its standard input.",
    ),
    at(
        "notify",
        "deadline",
        r#""30s""#,
        "30s",
        "How long it may take before it is killed.",
    ),
    at(
        "webhook",
        "url",
        r#""https://monitor.example.com/stopgap""#,
        "required",
        "Where documents are sent with POST. Redirections are not followed.",
    ),
    at(
        "webhook",
        "secret_file",
        r#""webhook.secret""#,
        "secret",
        "A file with the secret, 24 to 1024 octets or whsec_ and base64; read for each attempt. With several, one on a line, each signs.",
    ),
    at(
        "webhook",
        "secret",
        r#""whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#,
        "secret_file",
        "The secret itself. `config print` does not show it.",
    ),
    at(
        "webhook",
        "ca",
        r#""internal-ca.pem""#,
        "what the system trusts",
        "The only authorities trusted, in PEM.",
    ),
    at(
        "webhook",
        "proxy",
        r#""http://10.0.0.1:3128""#,
        "none",
        "The HTTP proxy on the way.",
    ),
    at(
        "webhook",
        "deadline",
        r#""10s""#,
        "10s",
        "Time for one attempt, connecting included.",
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
    at("limits", "head", r#""128KiB""#, "128KiB", "A request head."),
    at("limits", "field", r#""64KiB""#, "64KiB", "One field of it."),
    at("limits", "fields", "256", "256", "Fields of it."),
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
        "Idle connections that one worker keeps for one upstream.",
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
    at("refusals", "fragment", "true", "true", "A target with #."),
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
        "A JSON line for each decision other than pass: a file, \"-\" (standard output), \"stderr\" or \"none\".",
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
