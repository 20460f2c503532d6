//! What a proxy is told before it starts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request};

use super::{Forwarding, Limits, ServerGroup, TrustedProxies};
use crate::canon::Refusals;
use crate::filter::Probes;
use crate::model::UnixTime;
use crate::net::{CertificateFiles, ClientCertificates, ListenAddress, socket_path};
use crate::telemetry::LineWriter;

/// Settings of a [`Proxy`](super::Proxy).
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Data-plane threads; 0 stands for one per core.
    pub workers: usize,
    /// The sites; a host that no site names is served by the first.
    pub sites: Vec<Site>,
    /// Bounds on bytes, connections and time.
    pub limits: Limits,
    /// What is read of proxies in front, and what servers are told of clients.
    pub forwarding: Forwarding,
    /// Where a line for each answered request goes, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Where JSON lines for decisions other than "pass" go, if anywhere.
    pub decision_log: Option<DecisionLog>,
    /// How this process knows its own probes.
    pub probes: Probes,
    /// Reads the wall clock, for the logs.
    pub clock: fn() -> UnixTime,
}

impl ProxyConfig {
    /// The default limits, one worker per core, no logs.
    pub fn new(listeners: Vec<Listener>, sites: Vec<Site>, clock: fn() -> UnixTime) -> Self {
        Self {
            listeners,
            workers: 0,
            sites,
            limits: Limits::default(),
            forwarding: Forwarding::default(),
            access_log: None,
            decision_log: None,
            probes: Probes::new(&[0; 32]),
            clock,
        }
    }
}

/// An address that clients connect to, plain or within TLS.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it is; port 0 takes a free one, see [`Proxy::addresses`](super::Proxy::addresses).
    pub address: ListenAddress,
    /// The mode of the file of a Unix socket: read and write for whoever may connect.
    pub mode: Option<u32>,
    /// Which hostile forms of a request target are refused here.
    pub refusals: Refusals,
    /// Certificates to show, which make this a TLS listener; empty for a plain one.
    pub tls: Vec<CertificateFiles>,
    /// Certificates that clients are asked for, on a TLS listener.
    pub clients: Option<ClientCertificates>,
    /// Whether HTTP/2 is spoken here: with clients that agree to it within TLS, or that begin with it on a plain
    /// listener (RFC 9113 section 3.3).
    pub http2: bool,
    /// The path of health checks of whoever spreads connections over proxies: answered here, by whether this proxy takes
    /// requests.
    pub health_path: Option<String>,
    /// Proxies in front, which begin each connection by saying who its client is (the PROXY protocol). Nobody else is
    /// believed.
    pub proxies: TrustedProxies,
    /// Proxies in front that are believed about the clients for whom they make requests. What anybody else says of that
    /// is removed.
    pub trusted: TrustedProxies,
}

impl Listener {
    /// A listener with every refusal on.
    pub fn plain(address: impl Into<ListenAddress>) -> Self {
        Self {
            address: address.into(),
            mode: None,
            refusals: Refusals::default(),
            tls: Vec::new(),
            clients: None,
            http2: false,
            health_path: None,
            proxies: TrustedProxies::default(),
            trusted: TrustedProxies::default(),
        }
    }
}

/// One site: the hosts it answers for, and who answers.
///
/// The filter judges its requests by the rule set with the same index.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name that mitigations target.
    pub name: String,
    /// Host names without port, compared without regard to case; empty for a site that is only the default.
    pub hosts: Vec<String>,
    /// Who answers what no route takes.
    pub upstream: Upstream,
    /// Who answers below some paths; the longest prefix wins.
    pub routes: Vec<Route>,
}

/// Paths of a site that have an upstream of their own.
#[derive(Clone, Debug)]
pub struct Route {
    /// Path prefixes, compared without regard to case on whole segments, with the path as IIS would read it.
    pub paths: Vec<String>,
    /// Who answers.
    pub upstream: Upstream,
}

/// Who answers the requests of a site.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are as many as sites and routes, and none is moved once the proxy runs"
)]
pub enum Upstream {
    /// A function of ours, such as the welcome page.
    BuiltIn(BuiltIn),
    /// Servers that stand in for each other.
    Servers(ServerGroup),
}

/// A function that answers requests in place of a server. It runs on the data path and must not wait.
pub type BuiltIn = Arc<dyn Fn(&request::Parts) -> Response<Bytes> + Send + Sync>;

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("BuiltIn"),
            Self::Servers(servers) => f.debug_list().entries(servers.servers()).finish(),
        }
    }
}

/// A web server that requests are forwarded to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// A host name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The Unix socket that it is spoken to over, rather than at its host and port.
    pub socket: Option<PathBuf>,
    /// Whether it is spoken to by HTTP/2: within TLS if it agrees, else from the first byte (RFC 9113 section 3).
    pub http2: bool,
    /// Whom it has to prove to be, when it is spoken to within TLS.
    pub tls: Option<ServerTls>,
}

impl Server {
    /// A server that is spoken to without TLS.
    pub fn plain(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            socket: None,
            http2: false,
            tls: None,
        }
    }

    /// Whether it is reached in the same way as another.
    pub fn is_at(&self, other: &Self) -> bool {
        let place = |server: &Self| (server.host.clone(), server.port, server.socket.clone());
        place(self) == place(other)
    }
}

/// How a server's certificate is verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerTls {
    /// The only authorities trusted, in PEM; those of the system when this is `None`.
    pub authorities: Option<PathBuf>,
    /// The name asked for and looked for in the certificate; the server's host when this is `None`.
    pub name: Option<String>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.socket {
            return write!(f, "unix:{}", path.display());
        }
        let scheme = match (self.tls.is_some(), self.http2) {
            (false, false) => "http",
            (false, true) => "h2c",
            (true, false) => "https",
            (true, true) => "h2",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// The text is no address of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidServer {
    text: String,
    reason: &'static str,
}

impl fmt::Display for InvalidServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "upstream {:?}: {}; write http://HOST[:PORT], https://HOST[:PORT], h2:// (HTTP/2 within TLS), h2c:// (without) or unix:/PATH",
            self.text, self.reason
        )
    }
}

impl std::error::Error for InvalidServer {}

impl FromStr for Server {
    type Err = InvalidServer;

    /// Parses `http://HOST[:PORT]` or `https://HOST[:PORT]`, with nothing but a slash after it, the same with `h2c` and
    /// `h2` for a server that is spoken to by HTTP/2, or `unix:/PATH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidServer {
            text: text.chars().take(256).collect(),
            reason,
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = socket_path(path);
            let reason = "the path of a socket begins with a slash and has at most 107 bytes";
            return Ok(Self {
                socket: Some(path.map_err(|_| invalid(reason))?),
                ..Self::plain("localhost", 80)
            });
        }
        let uri: http::Uri = text.parse().map_err(|_| invalid("this is no URL"))?;
        let (tls, http2) = match uri.scheme_str() {
            Some("http") => (None, false),
            Some("https") => (Some(ServerTls::default()), false),
            Some("h2c") => (None, true),
            Some("h2") => (Some(ServerTls::default()), true),
            _ => return Err(invalid("the scheme must be http, https, h2 or h2c")),
        };
        if !matches!(
            uri.path_and_query().map(|rest| rest.as_str()),
            None | Some("" | "/")
        ) {
            return Err(invalid("a path has no place here"));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("the host is missing"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("credentials have no place here"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() != authority.host() => {
                return Err(invalid("the port is no number up to 65535"));
            }
            None if tls.is_some() => 443,
            None => 80,
        };
        Ok(Self {
            tls,
            http2,
            ..Self::plain(host, port)
        })
    }
}

/// Where access lines go, and in which form.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Takes the lines.
    pub writer: LineWriter,
    /// Their form.
    pub format: AccessFormat,
}

/// Where decision lines go, and how many.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    /// Takes the lines.
    pub writer: LineWriter,
    /// Lines in a second, shared evenly among the workers; 0 stands for any number. Ten seconds' worth may come at once.
    /// Beyond that, the first decision of each rule in a second has a line, and the others are counted in one.
    pub lines_per_second: u32,
}

/// The form of an access line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessFormat {
    /// The combined log format, and request id, verdict and duration after it.
    #[default]
    Combined,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_reads_a_url() {
        for (text, shown) in [
            ("http://10.0.0.1", Some("http://10.0.0.1:80")),
            (
                "http://mail.example:8080/",
                Some("http://mail.example:8080"),
            ),
            ("http://[::1]:81", Some("http://[::1]:81")),
            ("https://mail.example", Some("https://mail.example:443")),
            ("https://[::1]:444/", Some("https://[::1]:444")),
            ("unix:/run/mail.sock", Some("unix:/run/mail.sock")),
            ("h2://mail.example", Some("h2://mail.example:443")),
            ("h2c://mail.example:81", Some("h2c://mail.example:81")),
            ("unix:mail.sock", None),
            ("ftp://mail.example", None),
            ("http://mail.example/owa", None),
            ("http://user@mail.example", None),
            ("http://mail.example:99999", None),
            ("mail.example:80", None),
            ("", None),
        ] {
            let server = text.parse::<Server>().ok().map(|server| server.to_string());
            assert_eq!(server.as_deref(), shown, "{text}");
        }
    }
}
