//! `[[sidecar]]` and `[[pool]]`: who stops services and pools, and which paths a stopped pool leaves unserved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;

use super::SiteConfig;
use super::document::Document;
use super::error::ConfigError;
use super::file::{FileDigest, HostName, Parsed, PathPrefix};
use super::quantity::FileDuration;
use crate::control::{PoolPaths, SIDECAR_DEADLINE, SidecarLink, SidecarPlace};
use crate::net::{CertificateFiles, PeerTrust};
use crate::proxy::Server;

/// `[[sidecar]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSidecarLink {
    server: Spanned<String>,
    socket: Option<Spanned<PathBuf>>,
    address: Option<Spanned<Parsed<HostPort>>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    ca: Option<Spanned<PathBuf>>,
    pins: Option<Spanned<Vec<Parsed<FileDigest>>>>,
    tls_name: Option<Spanned<Parsed<HostName>>>,
    deadline: Option<Parsed<FileDuration>>,
}

/// `[[pool]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilePool {
    name: Spanned<String>,
    paths: Vec<Parsed<PathPrefix>>,
}

/// A host and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "this is no host with a port, such as mail1.example:9443";
        let (host, port) = text.rsplit_once(':').ok_or(problem)?;
        let HostName(host) = host.parse().map_err(|_| problem)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(problem)?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }
}

/// The names that stand for a server in settings: its host, and its host with its port.
fn names(server: &Server) -> [String; 2] {
    let host = server.host.to_ascii_lowercase();
    let with_port = match host.contains(':') {
        true => format!("[{host}]:{}", server.port),
        false => format!("{host}:{}", server.port),
    };
    [host, with_port]
}

/// The name of a server: that of its sidecar, or else its host.
fn name(server: &Server, links: &[SidecarLink]) -> String {
    let names = names(server);
    let link = links.iter().find(|link| names.contains(&link.server));
    link.map_or_else(|| server.host.clone(), |link| link.server.clone())
}

/// The sites that each server answers for.
pub(super) fn server_sites(
    sites: &[SiteConfig],
    links: &[SidecarLink],
) -> BTreeMap<String, Vec<String>> {
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for site in sites {
        for server in site.servers() {
            let own = known.entry(name(server, links)).or_default();
            if !own.contains(&site.name) {
                own.push(site.name.clone());
            }
        }
    }
    known
}

/// The servers behind the proxy, each under the name of its sidecar or else under its host.
pub(super) fn servers(sites: &[SiteConfig], links: &[SidecarLink]) -> Vec<String> {
    let upstreams = sites.iter().flat_map(SiteConfig::servers);
    let named = upstreams.map(|server| name(server, links));
    let linked = links.iter().map(|link| link.server.clone());
    let mut servers = Vec::new();
    for name in named.chain(linked) {
        if !servers.contains(&name) {
            servers.push(name);
        }
    }
    servers
}

pub(super) fn links(
    written: Vec<FileSidecarLink>,
    sites: &[SiteConfig],
    document: &Document<'_>,
) -> Result<Vec<SidecarLink>, ConfigError> {
    let known: BTreeSet<String> = sites
        .iter()
        .flat_map(SiteConfig::servers)
        .flat_map(names)
        .collect();
    let mut links: Vec<SidecarLink> = Vec::new();
    for link in written {
        let server = link.server.get_ref().to_ascii_lowercase();
        // Without any here, flags may name them.
        if !known.is_empty() && !known.contains(&server) {
            let problem = "no site has an upstream on this host: write the host as in `upstreams`, with its port if that is \
                 needed to tell two apart";
            return Err(document.fault(link.server.span(), problem));
        }
        if links.iter().any(|other| other.server == server) {
            let problem = "this server has a sidecar already; leave it one";
            return Err(document.fault(link.server.span(), problem));
        }
        let deadline = link
            .deadline
            .as_ref()
            .map_or(SIDECAR_DEADLINE, |time| time.0.0);
        links.push(SidecarLink {
            server,
            place: place(link, document)?,
            deadline,
        });
    }
    Ok(links)
}

fn place(link: FileSidecarLink, document: &Document<'_>) -> Result<SidecarPlace, ConfigError> {
    let only_remote = [
        link.certificate.as_ref().map(Spanned::span),
        link.key.as_ref().map(Spanned::span),
        link.ca.as_ref().map(Spanned::span),
        link.pins.as_ref().map(Spanned::span),
        link.tls_name.as_ref().map(Spanned::span),
    ];
    let address = match (link.socket, link.address) {
        (Some(socket), None) => {
            if let Some(span) = only_remote.into_iter().flatten().next() {
                let problem = "a sidecar behind a socket is known by its host; leave this out, or write `address`";
                return Err(document.fault(span, problem));
            }
            return Ok(SidecarPlace::Socket(document.resolve(socket.get_ref())));
        }
        (None, Some(address)) => address,
        (Some(socket), Some(_)) => {
            let problem = "a sidecar is asked in one place: write `socket` or `address`";
            return Err(document.fault(socket.span(), problem));
        }
        (None, None) => {
            let problem =
                "where is this server's sidecar? write `socket` for one on this host, or `address`";
            return Err(document.fault(link.server.span(), problem));
        }
    };
    let (Some(certificate), Some(key)) = (link.certificate, link.key) else {
        let problem = "a remote sidecar must know who asks: write `certificate` and `key`";
        return Err(document.fault(address.span(), problem));
    };
    let pins: Vec<_> = link
        .pins
        .map(Spanned::into_inner)
        .unwrap_or_default()
        .into_iter()
        .map(|pin| *pin.0.0.octets())
        .collect();
    if pins.is_empty() && link.ca.is_none() {
        let problem = "a remote sidecar must be known: write the SHA-256 of its certificate in `pins`, or `ca`";
        return Err(document.fault(address.span(), problem));
    }
    let HostPort { host, port } = address.into_inner().0;
    Ok(SidecarPlace::Address {
        files: CertificateFiles {
            certificate: document.resolve(certificate.get_ref()),
            key: document.resolve(key.get_ref()),
        },
        trust: PeerTrust {
            authorities: link.ca.map(|path| document.resolve(path.get_ref())),
            pins,
        },
        name: link.tls_name.map(|name| name.into_inner().0.0),
        host,
        port,
    })
}

pub(super) fn pools(
    written: Vec<FilePool>,
    document: &Document<'_>,
) -> Result<Vec<PoolPaths>, ConfigError> {
    let mut pools: Vec<PoolPaths> = Vec::new();
    for pool in written {
        let name = pool.name.get_ref().trim().to_owned();
        if name.is_empty() {
            return Err(document.fault(pool.name.span(), "the name of a pool is not empty"));
        }
        if pools
            .iter()
            .any(|other| other.pool.eq_ignore_ascii_case(&name))
        {
            let problem = "this pool has its paths already; write them all in one place";
            return Err(document.fault(pool.name.span(), problem));
        }
        pools.push(PoolPaths {
            pool: name,
            paths: pool.paths.into_iter().map(|path| path.0.0).collect(),
        });
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/stopgap/stopgap.toml"))
    }

    const SITE: &str = "[[site]]\nname = 'a'\nupstreams = ['http://Mail1.example', 'https://10.0.0.2', \
                        'http://10.0.0.2:81', 'http://[::1]:81']\n";

    #[test]
    fn links_are_read_and_servers_named_after_them() {
        let pin = "AB:".repeat(31) + "ab";
        let text = format!(
            "{SITE}[[sidecar]]\nserver = 'mail1.example'\nsocket = 's.sock'\ndeadline = '3s'\n\
             [[sidecar]]\nserver = '[::1]:81'\naddress = '[::1]:9443'\ncertificate = 'c.pem'\nkey = '/k.pem'\n\
             pins = ['{pin}']\ntls_name = 'Mail3'\n"
        );
        let config = parse(&text).unwrap();
        let links = &config.control.sidecars;
        let socket = SidecarPlace::Socket("/etc/stopgap/s.sock".into());
        assert_eq!(links[0].place, socket);
        assert_eq!(links[0].deadline, Duration::from_secs(3));
        let remote = SidecarPlace::Address {
            host: "::1".into(),
            port: 9_443,
            files: CertificateFiles {
                certificate: "/etc/stopgap/c.pem".into(),
                key: "/k.pem".into(),
            },
            trust: PeerTrust {
                authorities: None,
                pins: vec![[0xab; 32]],
            },
            name: Some("mail3".into()),
        };
        assert_eq!(links[1].place, remote);
        assert_eq!(
            config.control.servers,
            ["mail1.example", "10.0.0.2", "[::1]:81"]
        );
        assert_eq!(config.control.server_sites["[::1]:81"], ["a"]);
        let printed = config.to_toml();
        let again = Config::parse(&printed, Path::new("x")).unwrap();
        assert_eq!(again.control.sidecars, config.control.sidecars, "{printed}");
    }

    #[test]
    fn pools_are_read() {
        let text = "[[pool]]\nname = 'app'\npaths = ['/app/']\n[[pool]]\nname = 'b'\npaths = []\n";
        let config = parse(text).unwrap();
        let pool = |pool: &str, paths: &[&str]| PoolPaths {
            pool: pool.to_owned(),
            paths: paths.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            config.control.pools,
            [pool("app", &["/app"]), pool("b", &[])]
        );
        let printed = config.to_toml();
        let again = Config::parse(&printed, Path::new("x")).unwrap();
        assert_eq!(again.control.pools, config.control.pools, "{printed}");
    }

    #[test]
    fn faults_name_key_and_remedy() {
        let head = "[[sidecar]]\nserver = '10.0.0.2'\n";
        let remote = format!("{head}address = 'h:1'\n");
        for (text, key, remedy) in [
            (head.to_owned(), "sidecar.server", "write `socket`"),
            (
                head.replace(".2", ".3") + "socket = 's'",
                "sidecar.server",
                "as in `upstreams`",
            ),
            (
                format!("{head}socket = 's'\n{head}socket = 't'"),
                "sidecar.server",
                "already",
            ),
            (
                format!("{remote}socket = 's'"),
                "sidecar.socket",
                "in one place",
            ),
            (
                format!("{head}socket = 's'\nca = 'c'"),
                "sidecar.ca",
                "leave this out",
            ),
            (remote.clone(), "sidecar.address", "`certificate` and `key`"),
            (
                format!("{remote}certificate = 'c'\nkey = 'k'"),
                "sidecar.address",
                "in `pins`, or `ca`",
            ),
            (
                format!("{head}address = 'h'"),
                "sidecar.address",
                "no host with a port",
            ),
            (
                "[[pool]]\nname = ' '\npaths = []".to_owned(),
                "pool.name",
                "not empty",
            ),
            (
                "[[pool]]\nname = 'a'\npaths = []\n[[pool]]\nname = 'A'\npaths = []".to_owned(),
                "pool.name",
                "already",
            ),
        ] {
            let error = parse(&format!("{SITE}{text}")).unwrap_err();
            assert_eq!(error.key(), key, "{text}: {error}");
            assert!(error.to_string().contains(remedy), "{text}: {error}");
        }
    }
}
