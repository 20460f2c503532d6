//! Upstreams: `[[upstream]]` and `[[site.route]]` as written, and what they come to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use super::check::duration;
use super::document::Document;
use super::error::ConfigError;
use super::file::{HostName, Parsed, PathPrefix, unknown_word};
use super::nearest;
use super::quantity::FileDuration;
use super::{Preset, RouteConfig};
use crate::proxy::{Balance, Ejection, HealthCheck, Member, Server, ServerGroup, ServerTls};

/// The largest weight of a server.
const WEIGHT: u16 = 1_000;

/// `[[upstream]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileUpstream {
    name: Spanned<String>,
    servers: Spanned<Vec<Spanned<FileMember>>>,
    #[serde(default)]
    http2: bool,
    ca: Option<Spanned<PathBuf>>,
    server_name: Option<Spanned<Parsed<HostName>>>,
    balance: Option<Parsed<BalanceWord>>,
    slow_start: Option<Parsed<FileDuration>>,
    attempts: Option<Spanned<usize>>,
    connections: Option<Spanned<usize>>,
    queue: Option<usize>,
    queue_timeout: Option<Parsed<FileDuration>>,
    idle_connections: Option<usize>,
    connect_timeout: Option<Parsed<FileDuration>>,
    response_timeout: Option<Parsed<FileDuration>>,
    health: Option<FileHealth>,
    #[serde(default)]
    ejection: FileEjection,
}

/// An entry of `servers` in `[[upstream]]`: a URL, or a table with more.
#[derive(Debug)]
struct FileMember {
    url: Server,
    weight: u16,
    backup: bool,
}

/// `[upstream.health]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHealth {
    path: Parsed<Target>,
    method: Option<Parsed<MethodWord>>,
    host: Option<Parsed<Authority>>,
    expect: Option<Spanned<Vec<Parsed<StatusRange>>>>,
    interval: Option<Parsed<FileDuration>>,
    timeout: Option<Parsed<FileDuration>>,
    rise: Option<Spanned<u32>>,
    fall: Option<Spanned<u32>>,
}

/// `[upstream.ejection]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileEjection {
    failures: Option<u32>,
    server_errors: Option<bool>,
    time: Option<Parsed<FileDuration>>,
    longest: Option<Parsed<FileDuration>>,
}

/// `[[site.route]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRoute {
    paths: Spanned<Vec<Parsed<PathPrefix>>>,
    upstream: Option<Spanned<String>>,
    upstreams: Option<Spanned<Vec<Parsed<Server>>>>,
}

impl FileRoute {
    /// The servers that are written in it.
    pub(super) fn servers(&self) -> &[Parsed<Server>] {
        match &self.upstreams {
            Some(servers) => servers.get_ref(),
            None => &[],
        }
    }
}

/// Every `[[upstream]]` by its name.
pub(super) struct Upstreams {
    groups: BTreeMap<String, ServerGroup>,
}

impl Upstreams {
    pub(super) fn check(
        written: Vec<FileUpstream>,
        document: &Document<'_>,
    ) -> Result<Self, ConfigError> {
        let mut groups = BTreeMap::new();
        for upstream in written {
            let span = upstream.name.span();
            let group = group(upstream, document)?;
            if group.name.trim().is_empty() {
                return Err(document.fault(span, "the name of an upstream is not empty"));
            }
            let name = group.name.clone();
            if groups.insert(name.clone(), group).is_some() {
                let problem = format!("two upstreams are named {name:?}; rename one");
                return Err(document.fault(span, problem));
            }
        }
        Ok(Self { groups })
    }

    /// The upstream of this name.
    pub(super) fn find(
        &mut self,
        name: &Spanned<String>,
        document: &Document<'_>,
    ) -> Result<&mut ServerGroup, ConfigError> {
        let text = name.get_ref();
        if !self.groups.contains_key(text) {
            let remedy = match nearest(text, self.groups.keys().map(String::as_str)) {
                Some(other) => format!("did you mean {other:?}?"),
                None => "write one with this name".to_owned(),
            };
            let problem = format!("no [[upstream]] is named {text:?}; {remedy}");
            return Err(document.fault(name.span(), problem));
        }
        // Looked for just now.
        let missing = || document.fault(name.span(), "no such upstream");
        self.groups.get_mut(text).ok_or_else(missing)
    }
}

/// What of a site's upstreams is written in the site and its routes.
pub(super) fn routes(
    written: Vec<FileRoute>,
    upstreams: &mut Upstreams,
    tls: &ServerTls,
    document: &Document<'_>,
) -> Result<Vec<RouteConfig>, ConfigError> {
    let mut known = BTreeSet::new();
    let mut routes = Vec::new();
    for route in written {
        let span = route.paths.span();
        let paths: Vec<String> = route
            .paths
            .into_inner()
            .into_iter()
            .map(|path| path.0.0)
            .collect();
        if paths.is_empty() {
            return Err(document.fault(span, "a route without paths leads nowhere"));
        }
        for path in &paths {
            if !known.insert(path.to_ascii_lowercase()) {
                let problem = format!("the path {path:?} has two routes; leave it to one");
                return Err(document.fault(span, problem));
            }
        }
        let group = match (route.upstream, route.upstreams) {
            (Some(name), None) => upstreams.find(&name, document)?.clone(),
            (None, Some(servers)) if !servers.get_ref().is_empty() => {
                simple(servers.into_inner(), tls)
            }
            _ => {
                let problem = "a route needs either `upstream`, the name of an [[upstream]], or `upstreams`, its servers";
                return Err(document.fault(span, problem));
            }
        };
        routes.push(RouteConfig {
            paths,
            upstreams: group,
        });
    }
    Ok(routes)
}

/// Servers with nothing else said about them.
pub(super) fn simple(servers: Vec<Parsed<Server>>, tls: &ServerTls) -> ServerGroup {
    let secured = |server: Parsed<Server>| Server {
        tls: server.0.tls.map(|_| tls.clone()),
        ..server.0
    };
    servers.into_iter().map(secured).collect()
}

impl Preset {
    /// Gives an upstream the health check of this preset, unless it has one.
    pub(super) fn apply(self, group: &mut ServerGroup, host: Option<&str>) {
        if group.health.is_none() && !group.is_empty() {
            let mut check = HealthCheck::of(self.health_target());
            check.host = host.map(str::to_owned);
            group.health = Some(check);
        }
    }
}

fn group(upstream: FileUpstream, document: &Document<'_>) -> Result<ServerGroup, ConfigError> {
    let default = ServerGroup::default();
    let span = upstream.servers.span();
    let members = members(upstream.servers, document)?;
    if members.is_empty() || members.len() > ServerGroup::SERVERS {
        let problem = format!("an upstream has 1 to {} servers", ServerGroup::SERVERS);
        return Err(document.fault(span, problem));
    }
    let servers = members.iter().map(|member| &member.server);
    let (ca, name) = (upstream.ca, upstream.server_name);
    let tls = server_tls(servers, ca, name, "servers", document)?;
    let secured = |member: Member| Member {
        server: Server {
            tls: member.server.tls.map(|_| tls.clone()),
            http2: member.server.http2 || upstream.http2,
            ..member.server
        },
        ..member
    };
    let positive = |count: &Spanned<usize>| match count.get_ref() {
        0 => Err(document.fault(count.span(), "0 would let nothing through")),
        count => Ok(*count),
    };
    let ejection = upstream.ejection;
    let time = duration(ejection.time, default.ejection.time);
    Ok(ServerGroup {
        name: upstream.name.into_inner(),
        members: members.into_iter().map(secured).collect(),
        balance: upstream.balance.map_or(default.balance, |word| word.0.0),
        health: match upstream.health {
            Some(health) => Some(health_check(health, document)?),
            None => None,
        },
        ejection: Ejection {
            failures: ejection.failures.unwrap_or(default.ejection.failures),
            server_errors: ejection.server_errors.unwrap_or_default(),
            time,
            longest: duration(ejection.longest, default.ejection.longest.max(time)),
        },
        slow_start: duration(upstream.slow_start, default.slow_start),
        attempts: match &upstream.attempts {
            Some(count) => positive(count)?,
            None => default.attempts,
        },
        connections: upstream.connections.as_ref().map(positive).transpose()?,
        queue: upstream.queue.unwrap_or(default.queue),
        queue_timeout: duration(upstream.queue_timeout, default.queue_timeout),
        connect_timeout: upstream.connect_timeout.map(|span| span.0.0),
        response_timeout: upstream.response_timeout.map(|span| span.0.0),
        idle_connections: upstream.idle_connections,
    })
}

fn members(
    written: Spanned<Vec<Spanned<FileMember>>>,
    document: &Document<'_>,
) -> Result<Vec<Member>, ConfigError> {
    let mut members: Vec<Member> = Vec::new();
    for member in written.into_inner() {
        let span = member.span();
        let FileMember {
            url,
            weight,
            backup,
        } = member.into_inner();
        if weight == 0 || weight > WEIGHT {
            let problem = format!("a weight is 1 to {WEIGHT}; leave the server out for none");
            return Err(document.fault(span, problem));
        }
        if members.iter().any(|other| other.server.is_at(&url)) {
            let problem = format!("the server {url} is there twice; give it a weight instead");
            return Err(document.fault(span, problem));
        }
        members.push(Member {
            server: url,
            weight,
            backup,
        });
    }
    Ok(members)
}

fn health_check(written: FileHealth, document: &Document<'_>) -> Result<HealthCheck, ConfigError> {
    let default = HealthCheck::of(&written.path.0.0);
    let expected = match written.expect {
        Some(ranges) if ranges.get_ref().is_empty() => {
            let problem = "no status would be good; leave it out for 200";
            return Err(document.fault(ranges.span(), problem));
        }
        Some(ranges) => {
            let ranges = ranges.into_inner().into_iter();
            ranges.map(|range| range.0.0).collect()
        }
        None => default.expected,
    };
    let positive = |count: Option<Spanned<u32>>, default| match count {
        Some(count) if *count.get_ref() == 0 => {
            Err(document.fault(count.span(), "it takes at least one check"))
        }
        Some(count) => Ok(count.into_inner()),
        None => Ok(default),
    };
    Ok(HealthCheck {
        method: written.method.map_or(default.method, |method| method.0.0),
        host: written.host.map(|host| host.0.0),
        expected,
        interval: duration(written.interval, default.interval).max(Duration::from_millis(1)),
        timeout: duration(written.timeout, default.timeout),
        rise: positive(written.rise, default.rise)?,
        fall: positive(written.fall, default.fall)?,
        target: default.target,
    })
}

/// How the servers of an upstream are verified, for those that are spoken to within TLS; `key` is where they are
/// written.
pub(super) fn server_tls<'s>(
    mut servers: impl Iterator<Item = &'s Server>,
    authorities: Option<Spanned<PathBuf>>,
    name: Option<Spanned<Parsed<HostName>>>,
    key: &str,
    document: &Document<'_>,
) -> Result<ServerTls, ConfigError> {
    let span = authorities.as_ref().map(Spanned::span);
    let span = span.or_else(|| name.as_ref().map(Spanned::span));
    match span {
        // Whoever writes this believes that the connection is verified.
        Some(span) if servers.all(|server| server.tls.is_none()) => {
            let problem =
                format!("no server here is spoken to within TLS; write https:// in `{key}`");
            Err(document.fault(span, problem))
        }
        _ => Ok(ServerTls {
            authorities: authorities.map(|path| document.resolve(path.get_ref())),
            name: name.map(|name| name.into_inner().0.0),
        }),
    }
}

impl<'de> Deserialize<'de> for FileMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = FileMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a table with `url`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FileMember, E> {
        let url = text.parse().map_err(E::custom)?;
        Ok(FileMember {
            url,
            weight: 1,
            backup: false,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FileMember, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            url: Parsed<Server>,
            weight: Option<u16>,
            #[serde(default)]
            backup: bool,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(FileMember {
            url: table.url.0,
            weight: table.weight.unwrap_or(1),
            backup: table.backup,
        })
    }
}

/// The word for a way to choose a server.
#[derive(Clone, Copy, Debug)]
struct BalanceWord(Balance);

impl FromStr for BalanceWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Balance::ALL
            .into_iter()
            .find(|balance| balance.word() == text);
        found
            .map(Self)
            .ok_or_else(|| unknown_word(text, &Balance::ALL.map(Balance::word)))
    }
}

/// The word for a preset.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresetWord(pub(super) Preset);

impl FromStr for PresetWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text == Preset::Exchange.word() {
            true => Ok(Self(Preset::Exchange)),
            false => Err(unknown_word(text, &[Preset::Exchange.word()])),
        }
    }
}

/// A request target in origin form.
#[derive(Debug)]
pub(super) struct Target(pub(super) String);

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.parse::<http::uri::PathAndQuery>();
        match text.starts_with('/') && !text.contains('#') && parsed.is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err("this is no path, which begins with a slash"),
        }
    }
}

/// A method of a request without a body.
#[derive(Debug)]
struct MethodWord(http::Method);

impl FromStr for MethodWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "GET" => Ok(Self(http::Method::GET)),
            "HEAD" => Ok(Self(http::Method::HEAD)),
            "OPTIONS" => Ok(Self(http::Method::OPTIONS)),
            other => Err(unknown_word(other, &["GET", "HEAD", "OPTIONS"])),
        }
    }
}

/// A host and an optional port.
#[derive(Debug)]
pub(super) struct Authority(pub(super) String);

impl FromStr for Authority {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.parse::<http::uri::Authority>();
        match parsed.is_ok_and(|authority| !authority.host().is_empty()) && !text.contains('@') {
            true => Ok(Self(text.to_owned())),
            false => Err("this is no host with an optional port"),
        }
    }
}

/// A status code, or a range of them with a dash.
#[derive(Debug)]
struct StatusRange((u16, u16));

impl FromStr for StatusRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str =
            "this is neither a status code such as 200 nor a range such as 200-299";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| text.parse::<u16>().map_err(|_| PROBLEM);
        let (first, last) = (code(first)?, code(last)?);
        match 200 <= first && first <= last && last <= 599 {
            true => Ok(Self((first, last))),
            false => Err(PROBLEM),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("conf/stopgap.toml"))
    }

    const WHOLE: &str = r#"
        [[upstream]]
        name = "mail"
        servers = ["https://10.0.0.1", { url = "https://10.0.0.2:444", weight = 3 }, { url = "https://10.0.0.3", backup = true }]
        ca = "ca.pem"
        server_name = "mail.example"
        balance = "client-address"
        slow_start = "30s"
        attempts = 2
        connections = 100
        queue = 10
        queue_timeout = "1s"
        idle_connections = 8
        connect_timeout = "2s"
        response_timeout = "90s"
        [upstream.health]
        path = "/owa/healthcheck.htm"
        method = "HEAD"
        host = "mail.example"
        expect = ["200", "301-302"]
        interval = "3s"
        timeout = "2s"
        rise = 1
        fall = 2
        [upstream.ejection]
        failures = 7
        server_errors = true
        time = "5s"
        longest = "1m"
        [[site]]
        name = "Mail"
        upstream = "mail"
        [[site.route]]
        paths = ["/EWS", "/mapi/"]
        upstreams = ["http://10.0.0.9"]
        [[site.route]]
        paths = ["/oab"]
        upstream = "mail"
    "#;

    #[test]
    fn everything_written_arrives_and_reads_back() {
        let config = parse(WHOLE).unwrap();
        let site = &config.sites[0];
        let group = &site.upstreams;
        let shares: Vec<(u16, bool)> = group
            .members
            .iter()
            .map(|member| (member.weight, member.backup))
            .collect();
        assert_eq!(shares, [(1, false), (3, false), (1, true)]);
        let tls = group.members[1].server.tls.as_ref().unwrap();
        assert_eq!(tls.authorities.as_deref(), Some(Path::new("conf/ca.pem")));
        assert_eq!(tls.name.as_deref(), Some("mail.example"));
        assert_eq!(group.balance, Balance::ClientAddress);
        assert_eq!(
            (group.attempts, group.connections, group.queue),
            (2, Some(100), 10)
        );
        let health = group.health.as_ref().unwrap();
        assert!(health.expects(200) && health.expects(302) && !health.expects(303));
        assert_eq!((health.rise, health.fall), (1, 2));
        assert_eq!(
            (group.ejection.failures, group.ejection.server_errors),
            (7, true)
        );
        assert_eq!(site.routes[0].paths, ["/EWS", "/mapi"]);
        assert_eq!(site.routes[0].upstreams.members[0].server.port, 80);
        assert_eq!(&site.routes[1].upstreams, group);
        let honest = &config.control.honest_paths;
        assert!(
            honest.contains(&"/owa/healthcheck.htm".to_owned()),
            "{honest:?}"
        );
        let printed = config.to_toml();
        let again = Config::parse(&printed, Path::new("/stopgap.toml"));
        let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.to_toml(), printed.replace("\"conf/", "\"/conf/"));
        assert_eq!(again.sites[0].routes[0], site.routes[0]);
    }

    #[test]
    fn preset_of_exchange_checks_health_and_keeps_its_paths_open() {
        let config = parse(
            "[limits]\nlong_poll_paths = [\"/x\"]\n[[site]]\nname = \"a\"\npreset = \"exchange\"\nhosts = [\"m.example\"]\nupstreams = [\"http://10.0.0.1\"]",
        )
        .unwrap();
        let health = config.sites[0].upstreams.health.as_ref().unwrap();
        assert_eq!(health.target, "/owa/healthcheck.htm");
        assert_eq!(health.host.as_deref(), Some("m.example"));
        assert!(config.limits.long_poll_paths.contains(&"/mapi".to_owned()));
        let honest = &config.control.honest_paths;
        for path in ["/owa/healthcheck.htm", "/ews/healthcheck.htm"] {
            assert!(honest.contains(&path.to_owned()), "{honest:?}");
        }
        let printed = config.to_toml();
        let again = Config::parse(&printed, Path::new("")).unwrap();
        assert_eq!(again.to_toml(), printed);
        assert_eq!(again.sites[0].upstreams, config.sites[0].upstreams);
    }

    /// Text, key, and what the message must hold.
    const FAULTS: &[(&str, &str, &str)] = &[
        (
            "[[upstream]]\nname = \"a\"\nservers = []",
            "upstream.servers",
            "1 to 64 servers",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"10.0.0.1\"]",
            "upstream.servers",
            "write servers = [",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [{ url = \"http://a\", weight = 0 }]",
            "upstream.servers",
            "1 to 1000",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\", \"http://a:80\"]",
            "upstream.servers",
            "there twice",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nca = \"x\"",
            "upstream.ca",
            "write https:// in `servers`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nbalance = \"roundrobin\"",
            "upstream.balance",
            "did you mean \"round-robin\"?",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nconnections = 0",
            "upstream.connections",
            "0 would let nothing through",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nhealth = { path = \"owa\" }",
            "upstream.health.path",
            "begins with a slash",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nhealth = { path = \"/\", expect = [\"2xx\"] }",
            "upstream.health.expect",
            "200-299",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nhealth = { path = \"/\", fall = 0 }",
            "upstream.health.fall",
            "at least one",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\nhealth = { pat = \"/\" }",
            "upstream.health.pat",
            "did you mean `path`?",
        ),
        (
            "[[upstream]]\nname = \"a\"\nservers = [\"http://a\"]\n[[upstream]]\nname = \"a\"\nservers = [\"http://b\"]",
            "upstream.name",
            "two upstreams",
        ),
        (
            "[[upstream]]\nname = \"mail\"\nservers = [\"http://a\"]\n[[site]]\nname = \"a\"\nupstream = \"mial\"",
            "site.upstream",
            "did you mean \"mail\"?",
        ),
        (
            "[[upstream]]\nname = \"mail\"\nservers = [\"http://a\"]\n[[site]]\nname = \"a\"\nupstream = \"mail\"\nupstreams = [\"http://a\"]",
            "site.upstream",
            "not both",
        ),
        (
            "[[upstream]]\nname = \"mail\"\nservers = [\"http://a\"]\n[[site]]\nname = \"a\"\nupstream = \"mail\"\nupstream_ca = \"x\"",
            "site.upstream_ca",
            "https://",
        ),
        (
            "[[site]]\nname = \"a\"\n[[site.route]]\npaths = [\"/a\"]",
            "site.route.paths",
            "needs either `upstream`",
        ),
        (
            "[[site]]\nname = \"a\"\n[[site.route]]\npaths = [\"/a\", \"/A/\"]\nupstreams = [\"http://a\"]",
            "site.route.paths",
            "two routes",
        ),
        (
            "[[site]]\nname = \"a\"\npreset = \"exchnge\"",
            "site.preset",
            "did you mean \"exchange\"?",
        ),
    ];

    #[test]
    fn faults_name_key_and_remedy() {
        for (text, key, remedy) in FAULTS {
            let error = parse(text).expect_err(text);
            let message = error.to_string();
            assert!(message.contains(remedy), "{text:?} gave {message}");
            assert_eq!(error.key(), *key, "{text:?} gave {message}");
        }
    }
}
