//! From the file as written to checked settings.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::document::Document;
use super::error::ConfigError;
use super::exceptions;
use super::file::{
    ClientWord, FileAdmin, FileCertificate, FileConfig, FileFeed, FileForwarding, FileLimits,
    FileListener, FileLog, FileRefusals, FileSite, FormatWord, HostName, Parsed, ProxyWord,
};
use super::links::{links, pools, server_sites, servers};
use super::notify::notify;
use super::policy;
use super::quantity::{FileDuration, FileSize};
use super::trust::trust;
use super::upstream::{FileRoute, Upstreams, routes, server_tls, simple};
use super::version::{site_servers, version};
use super::{
    Config, DEFAULT_ADMIN, DEFAULT_DECISIONS, DEFAULT_DRAIN, DEFAULT_LISTEN, LONG_POLL_PATHS,
    LogConfig, LogTarget, Preset, SiteConfig,
};
use crate::admin::AdminConfig;
use crate::canon::Refusals;
use crate::control::{ControlConfig, DEFAULT_SITE, INSTANCE_LIMIT, WATCH_INTERVAL};
use crate::feed::{FeedConfig, Source, TypeAliases};
use crate::net::{CertificateFiles, ClientCertificates, HeadLimits, ListenAddress};
use crate::proxy::{
    AccessFormat, Forwarding, ForwardingField, ForwardingFields, Limits, Listener, ServerGroup,
    TrustedProxies,
};

pub(super) fn check(file: FileConfig, document: &Document<'_>) -> Result<Config, ConfigError> {
    let mut limits = limits(file.limits, document)?;
    let mut upstreams = Upstreams::check(file.upstream, document)?;
    let sites = sites(file.site, &mut upstreams, document)?;
    for path in sites
        .iter()
        .filter_map(|site| site.preset)
        .flat_map(Preset::long_poll_paths)
    {
        if !limits.long_poll_paths.iter().any(|known| known == path) {
            limits.long_poll_paths.push(path.to_owned());
        }
    }
    let health_paths = file.health_paths.into_iter().map(|path| path.0.0);
    let honest_paths = honest_paths(health_paths.collect(), &sites, &limits);
    let groups = file.policy.groups.clone();
    let sidecars = links(file.sidecar, &sites, document)?;
    let control = ControlConfig {
        sites: sites.iter().map(|site| site.name.clone()).collect(),
        document_roots: sites
            .iter()
            .map(|site| site.document_root.clone())
            .collect(),
        rules: file
            .rules
            .iter()
            .map(|path| document.resolve(path))
            .collect(),
        with_baseline: file.with_baseline,
        groups,
        feeds: feeds(file.feed, document)?,
        policy: policy::check(file.policy, document)?,
        exceptions: exceptions::check(&file.exception, document)?,
        honest_paths,
        servers: servers(&sites, &sidecars),
        server_sites: server_sites(&sites, &sidecars),
        versions: site_servers(&sites),
        sidecars,
        pools: pools(file.pool, document)?,
        instance: instance(file.instance, document)?,
        notify: notify(file.notify, document)?,
        watch_interval: duration(file.watch_interval, WATCH_INTERVAL),
    };
    let trusted = proxies(&file.trusted_proxies);
    Ok(Config {
        listeners: listeners(
            &file.listen,
            file.listener,
            (&file.refusals, trusted),
            document,
        )?,
        sites,
        forwarding: forwarding(file.forwarding),
        workers: file.workers,
        limits,
        log: log(file.access_log, file.log, document),
        admin: admin(file.admin, document),
        control,
        state_dir: file.state_dir.map(|path| document.resolve(&path)),
        drain_timeout: duration(file.drain_timeout, DEFAULT_DRAIN),
    })
}

/// The name under which sidecars know this proxy.
fn instance(
    written: Option<Spanned<String>>,
    document: &Document<'_>,
) -> Result<String, ConfigError> {
    let Some(written) = written else {
        return Ok(String::new());
    };
    let usable = written
        .get_ref()
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match usable && (1..=INSTANCE_LIMIT).contains(&written.get_ref().len()) {
        true => Ok(written.into_inner()),
        false => {
            let problem = format!(
                "the name of an instance has one to {INSTANCE_LIMIT} letters, digits and characters - _ ."
            );
            Err(document.fault(written.span(), problem))
        }
    }
}

fn listeners(
    plain: &[Parsed<ListenAddress>],
    detailed: Vec<FileListener>,
    (all, trusted): (&FileRefusals, TrustedProxies),
    document: &Document<'_>,
) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners: Vec<Listener> = plain
        .iter()
        .map(|address| Listener {
            refusals: refusals(&[all]),
            trusted: trusted.clone(),
            ..Listener::plain(address.0.clone())
        })
        .collect();
    for listener in detailed {
        let tls = certificate_files(listener.tls, document)?;
        let clients = client_certificates(
            listener.client_ca,
            listener.client_certificates,
            tls.is_empty(),
            document,
        )?;
        let is_file = matches!(listener.address.get_ref().0, ListenAddress::Unix(_));
        let mode = match listener.mode {
            Some(mode) if !is_file => {
                let problem = "only a Unix socket has a mode; write address = \"unix:/PATH\"";
                return Err(document.fault(mode.span(), problem));
            }
            mode => mode.map(|mode| mode.into_inner().0.0),
        };
        listeners.push(Listener {
            address: listener.address.into_inner().0,
            mode,
            refusals: refusals(&[all, &listener.refusals]),
            clients,
            http2: listener.http2.unwrap_or(!tls.is_empty()),
            health_path: listener.health_path.map(|path| path.into_inner().0.0),
            proxies: proxies(&listener.proxy_protocol),
            trusted: listener
                .trusted_proxies
                .map_or_else(|| trusted.clone(), |own| proxies(&own)),
            tls,
        });
    }
    if listeners.is_empty() {
        listeners.push(Listener {
            refusals: refusals(&[all]),
            trusted,
            ..Listener::plain(DEFAULT_LISTEN)
        });
    }
    Ok(listeners)
}

fn proxies(written: &[Parsed<ProxyWord>]) -> TrustedProxies {
    let mut proxies = TrustedProxies::default();
    for word in written {
        match word.0 {
            ProxyWord::Network(network) => proxies.networks.push(network),
            ProxyWord::Unix => proxies.unix = true,
        }
    }
    proxies
}

fn forwarding(written: FileForwarding) -> Forwarding {
    let default = Forwarding::default();
    let of = |fields: Vec<Parsed<ForwardingField>>| {
        let mut send = ForwardingFields::NONE;
        fields.into_iter().for_each(|field| send.add(field.0));
        send
    };
    Forwarding {
        read: written.read.map_or(default.read, |word| word.0.0),
        send: written.send.map_or(default.send, of),
    }
}

fn client_certificates(
    authorities: Option<Spanned<PathBuf>>,
    word: Option<Spanned<Parsed<ClientWord>>>,
    plain: bool,
    document: &Document<'_>,
) -> Result<Option<ClientCertificates>, ConfigError> {
    let Some(authorities) = authorities else {
        return match word {
            Some(word) => Err(document.fault(word.span(), "needs `client_ca` beside it")),
            None => Ok(None),
        };
    };
    if plain {
        let problem = "only a TLS listener can ask for certificates; add `tls`";
        return Err(document.fault(authorities.span(), problem));
    }
    Ok(Some(ClientCertificates {
        authorities: document.resolve(authorities.get_ref()),
        required: word.is_none_or(|word| word.into_inner().0 == ClientWord::Required),
    }))
}

fn certificate_files(
    written: Option<Spanned<Vec<FileCertificate>>>,
    document: &Document<'_>,
) -> Result<Vec<CertificateFiles>, ConfigError> {
    let Some(written) = written else {
        return Ok(Vec::new());
    };
    if written.get_ref().is_empty() {
        let problem = "a TLS listener needs a certificate; leave `tls` out for plain HTTP";
        return Err(document.fault(written.span(), problem));
    }
    let files = written
        .into_inner()
        .into_iter()
        .map(|pair| CertificateFiles {
            certificate: document.resolve(&pair.certificate),
            key: document.resolve(&pair.key),
        });
    Ok(files.collect())
}

/// The refusals that are on; what a later layer says wins.
fn refusals(layers: &[&FileRefusals]) -> Refusals {
    let mut on = Refusals::default();
    for layer in layers {
        let pairs = [
            (&mut on.control_character, layer.control_character),
            (&mut on.fragment, layer.fragment),
            (&mut on.ill_formed_utf8, layer.ill_formed_utf8),
            (&mut on.malformed_escape, layer.malformed_escape),
            (&mut on.nested_escape, layer.nested_escape),
            (&mut on.stream_name, layer.stream_name),
            (&mut on.unicode_escape, layer.unicode_escape),
            (&mut on.override_fields, layer.override_fields),
        ];
        for (switch, written) in pairs {
            *switch = written.unwrap_or(*switch);
        }
    }
    on
}

/// Paths that no mitigation may stop: those of health checks, ours and others', and those of long polls.
fn honest_paths(mut paths: Vec<String>, sites: &[SiteConfig], limits: &Limits) -> Vec<String> {
    let mut add = |path: &str| {
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    };
    for site in sites {
        let presets = site.preset.into_iter().flat_map(Preset::health_paths);
        presets.for_each(&mut add);
        let checks = site.groups().filter_map(|group| group.health.as_ref());
        checks.for_each(|check| add(check.target.split('?').next().unwrap_or("/")));
    }
    limits.long_poll_paths.iter().for_each(|path| add(path));
    paths
}

fn sites(
    written: Vec<FileSite>,
    upstreams: &mut Upstreams,
    document: &Document<'_>,
) -> Result<Vec<SiteConfig>, ConfigError> {
    if written.is_empty() {
        return Ok(vec![SiteConfig {
            name: DEFAULT_SITE.to_owned(),
            hosts: Vec::new(),
            preset: None,
            upstreams: ServerGroup::default(),
            routes: Vec::new(),
            document_root: None,
            version: None,
        }]);
    }
    for site in &written {
        // Before any site takes a copy, so that an upstream of several sites is the same for all.
        if let (Some(preset), Some(name)) = (&site.preset, &site.upstream) {
            let host = site.hosts.first().map(|host| host.get_ref().0.0.as_str());
            preset.0.0.apply(upstreams.find(name, document)?, host);
        }
    }
    let (mut names, mut known_hosts) = (BTreeSet::new(), BTreeSet::new());
    let mut sites = Vec::new();
    for site in written {
        let name = site.name.get_ref().trim().to_owned();
        if name.is_empty() || name.contains('/') {
            let problem = "the name of a site is not empty and has no slash, since a mitigation's target is name/path";
            return Err(document.fault(site.name.span(), problem));
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(document.fault(
                site.name.span(),
                format!("two sites are named {name:?}; rename one"),
            ));
        }
        let hosts = hosts(site.hosts, &mut known_hosts, document)?;
        let inline = site.route.iter().flat_map(FileRoute::servers);
        let inline = site.upstreams.iter().chain(inline).map(|server| &server.0);
        let (ca, tls_name) = (site.upstream_ca, site.upstream_name);
        let tls = match site.upstream.is_some() || inline.clone().next().is_some() {
            true => server_tls(inline, ca, tls_name, "upstreams", document)?,
            // The servers may still come from a flag.
            false => server_tls([].into_iter(), None, None, "upstreams", document)?,
        };
        let mut group = match site.upstream {
            Some(named) if !site.upstreams.is_empty() => {
                let problem = "`upstream` and `upstreams` both say who answers; keep one, not both";
                return Err(document.fault(named.span(), problem));
            }
            Some(named) => upstreams.find(&named, document)?.clone(),
            None => simple(site.upstreams, &tls),
        };
        let mut routes = routes(site.route, upstreams, &tls, document)?;
        let preset = site.preset.map(|word| word.0.0);
        if let Some(preset) = preset {
            let groups = routes.iter_mut().map(|route| &mut route.upstreams);
            for group in groups.chain([&mut group]) {
                preset.apply(group, hosts.first().map(String::as_str));
            }
        }
        sites.push(SiteConfig {
            version: version(site.version, preset, hosts.first(), document)?,
            name,
            hosts,
            preset,
            upstreams: group,
            routes,
            document_root: document_root(site.document_root, document)?,
        });
    }
    Ok(sites)
}

/// The hosts of a site, which no other one has.
fn hosts(
    written: Vec<Spanned<Parsed<HostName>>>,
    known: &mut BTreeSet<String>,
    document: &Document<'_>,
) -> Result<Vec<String>, ConfigError> {
    let mut hosts = Vec::new();
    for host in written {
        let name = &host.get_ref().0.0;
        if !known.insert(name.clone()) {
            let problem = format!("the host {name:?} is named twice; leave it to one site");
            return Err(document.fault(host.span(), problem));
        }
        hosts.push(name.clone());
    }
    Ok(hosts)
}

/// The folder itself is looked at again when rules are compiled for it, but a slip is best told with its line.
fn document_root(
    written: Option<Spanned<PathBuf>>,
    document: &Document<'_>,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(written) = written else {
        return Ok(None);
    };
    let path = document.resolve(written.get_ref());
    if !path.is_dir() {
        let problem = format!("{} is no folder that can be read", path.display());
        return Err(document.fault(written.span(), problem));
    }
    Ok(Some(path))
}

fn feeds(written: Vec<FileFeed>, document: &Document<'_>) -> Result<Vec<FeedConfig>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut feeds = Vec::new();
    for feed in written {
        let name = feed.name.get_ref().clone();
        if name.trim().is_empty() {
            return Err(document.fault(feed.name.span(), "the name of a feed is not empty"));
        }
        if !names.insert(name.clone()) {
            return Err(document.fault(
                feed.name.span(),
                format!("two feeds are named {name:?}; rename one"),
            ));
        }
        let trust = trust(&feed, document)?;
        let mut config = FeedConfig::new(&name, feed.url.0, trust);
        config.mirrors = mirrors(feed.mirrors, &config.source, document)?;
        config.proxy = feed.proxy.map(|proxy| proxy.0.0);
        config.ca_file = feed.ca.map(|path| document.resolve(&path));
        config.interval = duration(feed.interval, config.interval);
        config.deadline = duration(feed.deadline, config.deadline);
        config.connect_deadline = duration(feed.connect_deadline, config.connect_deadline);
        config.stale_after = duration(feed.stale_after, config.stale_after);
        config.accept_former = feed.accept_former.is_some_and(Spanned::into_inner);
        config.size_limit = feed.size_limit.map_or(config.size_limit, |size| size.0.0);
        config.type_aliases = TypeAliases::new(
            feed.type_aliases
                .into_iter()
                .map(|(word, meaning)| (word, meaning.0.0)),
        );
        feeds.push(config);
    }
    Ok(feeds)
}

fn mirrors(
    written: Vec<Spanned<Parsed<Source>>>,
    first: &Source,
    document: &Document<'_>,
) -> Result<Vec<Source>, ConfigError> {
    let mut mirrors: Vec<Source> = Vec::new();
    for mirror in written {
        let span = mirror.span();
        let mirror = mirror.into_inner().0;
        if mirror == *first || mirrors.contains(&mirror) {
            let problem = format!("{mirror} is there twice; leave one out");
            return Err(document.fault(span, problem));
        }
        mirrors.push(mirror);
    }
    Ok(mirrors)
}

fn admin(written: FileAdmin, document: &Document<'_>) -> AdminConfig {
    AdminConfig {
        address: written.address.map_or(DEFAULT_ADMIN, |address| address.0),
        socket: written.socket.map(|path| document.resolve(&path)),
    }
}

fn log(access: Option<PathBuf>, written: FileLog, document: &Document<'_>) -> LogConfig {
    let target = |path: PathBuf| match path.as_os_str() == "-" {
        true => path.into(),
        false => document.resolve(&path).into(),
    };
    LogConfig {
        access: access.map(target),
        access_format: match written.access_format {
            Some(Parsed(FormatWord::Json)) => AccessFormat::Json,
            Some(Parsed(FormatWord::Combined)) | None => AccessFormat::Combined,
        },
        decisions: match written.decisions {
            None => Some(LogTarget::Stderr),
            Some(word) if word.as_os_str() == "none" => None,
            Some(word) if word.as_os_str() == "stderr" => Some(LogTarget::Stderr),
            Some(path) => Some(target(path)),
        },
        decisions_per_second: written.decisions_per_second.unwrap_or(DEFAULT_DECISIONS),
    }
}

/// Heads are no larger than what holds them.
fn check_head_limits(written: &FileLimits, document: &Document<'_>) -> Result<(), ConfigError> {
    if let Some(target) = &written.target
        && target.get_ref().0.0 > HeadLimits::DEFAULT.target
    {
        let problem = format!(
            "a target of more than {} bytes cannot be read",
            HeadLimits::DEFAULT.target
        );
        return Err(document.fault(target.span(), problem));
    }
    if let Some(head) = &written.head
        && head.get_ref().0.0 > HeadLimits::MOST_BYTES
    {
        let problem = format!(
            "a head of more than {} bytes cannot be read",
            HeadLimits::MOST_BYTES
        );
        return Err(document.fault(head.span(), problem));
    }
    if let Some(fields) = &written.fields
        && *fields.get_ref() > HeadLimits::MOST_FIELDS
    {
        let problem = format!(
            "more than {} fields cannot be held",
            HeadLimits::MOST_FIELDS
        );
        return Err(document.fault(fields.span(), problem));
    }
    Ok(())
}

fn limits(written: FileLimits, document: &Document<'_>) -> Result<Limits, ConfigError> {
    let default = Limits::DEFAULT;
    check_head_limits(&written, document)?;
    let size = |value: Option<Spanned<Parsed<FileSize>>>, default| {
        value.map_or(default, |size| size.get_ref().0.0)
    };
    let count = |value: Option<Spanned<usize>>, default| match value {
        Some(count) if *count.get_ref() == 0 => Err(document.fault(
            count.span(),
            "0 would let nothing through; leave it out for the default",
        )),
        Some(count) => Ok(count.into_inner()),
        None => Ok(default),
    };
    let long_poll_paths = match written.long_poll_paths {
        Some(paths) => paths.into_iter().map(|path| path.0.0).collect(),
        None => LONG_POLL_PATHS.map(str::to_owned).to_vec(),
    };
    Ok(Limits {
        head: HeadLimits {
            bytes: size(written.head, default.head.bytes),
            field: size(written.field, default.head.field),
            fields: count(written.fields, default.head.fields)?,
            target: size(written.target, default.head.target),
            trailers: size(written.trailers, default.head.trailers),
        },
        head_timeout: duration(written.head_timeout, default.head_timeout),
        idle_timeout: duration(written.idle_timeout, default.idle_timeout),
        body_timeout: duration(written.body_timeout, default.body_timeout),
        body_minimum: written
            .body_minimum
            .map_or(default.body_minimum, |size| size.0.0),
        response_timeout: duration(written.response_timeout, default.response_timeout),
        long_poll_timeout: duration(written.long_poll_timeout, default.long_poll_timeout),
        long_poll_paths,
        connect_timeout: duration(written.connect_timeout, default.connect_timeout),
        half_close_timeout: duration(written.half_close_timeout, default.half_close_timeout),
        connections: count(written.connections, default.connections)?,
        connections_per_client: count(
            written.connections_per_client,
            default.connections_per_client,
        )?,
        http2_streams: written
            .http2_streams
            .map_or(default.http2_streams, NonZero::get),
        idle_upstream_connections: written
            .idle_upstream_connections
            .map_or(default.idle_upstream_connections, Spanned::into_inner),
        idle_upstream_timeout: duration(
            written.idle_upstream_timeout,
            default.idle_upstream_timeout,
        ),
        drained_body: written.drained_body.map_or(default.drained_body, |size| {
            u64::try_from(size.0.0).unwrap_or(u64::MAX)
        }),
    })
}

pub(super) fn duration(written: Option<Parsed<FileDuration>>, default: Duration) -> Duration {
    written.map_or(default, |duration| duration.0.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{KEYS, Section, schema};
    use crate::proxy::ServerTls;
    use crate::signature::envelope::{KeyPair, RootBuilder};

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("conf/stopgap.toml"))
    }

    #[test]
    fn nothing_written_gives_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.listeners[0].address, DEFAULT_LISTEN.into());
        assert_eq!(config.sites[0].name, DEFAULT_SITE);
        assert!(config.sites[0].upstreams.is_empty());
        assert_eq!(config.admin.address, DEFAULT_ADMIN);
        assert_eq!(config.limits.head, HeadLimits::DEFAULT);
        assert_eq!(config.limits.long_poll_paths, LONG_POLL_PATHS);
        assert_eq!(config.log.decisions_per_second, DEFAULT_DECISIONS);
        assert!(config.control.feeds.is_empty());
        assert!(config.state_dir.is_none());
    }

    #[test]
    fn written_values_arrive() {
        let config = parse(
            r#"
            listen = ["127.0.0.1:1"]
            rules = ["a.xml", "/b"]
            access_log = "-"
            [[listener]]
            address = "[::1]:2"
            refusals = { fragment = false }
            tls = [{ certificate = "a.pem", key = "/a.key" }]
            [[site]]
            name = "Mail"
            hosts = ["Mail.Example"]
            upstreams = ["http://10.0.0.1:81", "https://10.0.0.2"]
            upstream_ca = "ca.pem"
            upstream_name = "Mail.Example"
            [[feed]]
            name = "microsoft"
            url = "https://feed.example/x"
            trust = "microsoft-eocs"
            interval = "30m"
            type_aliases = { Rewrite = "UrlRewrite" }
            [policy]
            blocked = ["M2"]
            groups = ["policy"]
            [limits]
            head_timeout = "3s"
            head = "64KiB"
            [refusals]
            stream-name = false
            [log]
            access_format = "json"
            decisions = "decisions.jsonl"
            decisions_per_second = 50
            "#,
        )
        .unwrap();
        assert_eq!(config.listeners.len(), 2);
        let files = CertificateFiles {
            certificate: "conf/a.pem".into(),
            key: "/a.key".into(),
        };
        assert!(config.listeners[0].tls.is_empty() && config.listeners[1].tls == [files]);
        let tls = ServerTls {
            authorities: Some("conf/ca.pem".into()),
            name: Some("mail.example".to_owned()),
        };
        let servers: Vec<_> = config.sites[0].upstreams.servers().collect();
        assert_eq!((&servers[0].tls, &servers[1].tls), (&None, &Some(tls)));
        assert!(config.listeners[0].refusals.fragment && !config.listeners[1].refusals.fragment);
        assert!(
            !config.listeners[0].refusals.stream_name && !config.listeners[1].refusals.stream_name
        );
        assert_eq!(config.sites[0].hosts, ["mail.example"]);
        assert_eq!(config.control.sites, ["Mail"]);
        assert_eq!(
            config.control.rules,
            [PathBuf::from("conf/a.xml"), PathBuf::from("/b")]
        );
        assert_eq!(config.control.feeds[0].interval, Duration::from_secs(1_800));
        assert_eq!(config.control.policy.blocked[0].to_string(), "M2");
        assert_eq!(config.limits.head_timeout, Duration::from_secs(3));
        assert_eq!(config.limits.head.bytes, 64 * 1_024);
        assert_eq!(config.log.access, Some(LogTarget::Stdout));
        assert_eq!(
            config.log.decisions,
            Some(LogTarget::File("conf/decisions.jsonl".into()))
        );
        assert_eq!(config.log.access_format, AccessFormat::Json);
        assert_eq!(config.log.decisions_per_second, 50);
    }

    /// Text, line, column, key, and what the message must hold.
    const FAULTS: &[(&str, usize, usize, &str, &str)] = &[
        ("lisen = []", 1, 1, "lisen", "did you mean `listen`?"),
        (
            "\n[admin]\nadress = \"x\"",
            3,
            1,
            "admin.adress",
            "did you mean `address`?",
        ),
        ("[[fed]]\nname = \"x\"", 1, 3, "fed", "did you mean `feed`?"),
        (
            "benign_limit = 3",
            1,
            1,
            "benign_limit",
            "it belongs in [policy]",
        ),
        (
            "[log]\nlisten = []",
            2,
            1,
            "log.listen",
            "above the first section",
        ),
        ("[log]\nqqqqqq = 1", 2, 1, "log.qqqqqq", "config schema"),
        (
            "listen = \"127.0.0.1:80\"",
            1,
            10,
            "listen",
            "invalid type: string",
        ),
        (
            "listen = [\"127.0.0.1\"]",
            1,
            11,
            "listen",
            "write listen = [\"127.0.0.1:8080\"]",
        ),
        ("workers = -1", 1, 11, "workers", "invalid value"),
        (
            "[limits]\nhead_timeout = \"10\"",
            2,
            16,
            "limits.head_timeout",
            "units ms, s, m, h and d",
        ),
        (
            "[limits]\nhead = \"4MB\"",
            2,
            8,
            "limits.head",
            "units B, KiB, MiB and GiB",
        ),
        (
            "[limits]\ntarget = \"64KiB\"",
            2,
            10,
            "limits.target",
            "more than 65534 bytes",
        ),
        (
            "[limits]\nhead = \"17MiB\"",
            2,
            8,
            "limits.head",
            "more than 16777216 bytes",
        ),
        (
            "[limits]\nfields = 16385",
            2,
            10,
            "limits.fields",
            "more than 16384 fields",
        ),
        (
            "[limits]\nconnections = 0",
            2,
            15,
            "limits.connections",
            "0 would let nothing through",
        ),
        (
            "[policy]\nblocked = [\"m2\"]",
            2,
            12,
            "policy.blocked",
            "no mitigation id",
        ),
        (
            "[[site]]\nhosts = []",
            1,
            1,
            "site",
            "`name` is missing: write name =",
        ),
        ("[[site]]\nname = \"a/b\"", 2, 8, "site.name", "no slash"),
        (
            "[[site]]\nname = \"a\"\n[[site]]\nname = \"A\"",
            4,
            8,
            "site.name",
            "two sites",
        ),
        (
            "[[site]]\nname = \"a\"\nhosts = [\"h\", \"H\"]",
            3,
            15,
            "site.hosts",
            "named twice",
        ),
        (
            "[[site]]\nname = \"a\"\nhosts = [\"h:80\"]",
            3,
            10,
            "site.hosts",
            "no host name",
        ),
        (
            "[[site]]\nname = \"a\"\nupstreams = [\"http://h\"]\nupstream_ca = \"ca.pem\"",
            4,
            15,
            "site.upstream_ca",
            "write https:// in `upstreams`",
        ),
        (
            "[[site]]\nname = \"a\"\ndocument_root = \"no-such-folder\"",
            3,
            17,
            "site.document_root",
            "no folder",
        ),
        (
            "[[listener]]\naddress = \"[::1]:1\"\ntls = []",
            3,
            7,
            "listener.tls",
            "needs a certificate",
        ),
        (
            "[[listener]]\naddress = \"[::1]:1\"\ntls = [{ certificate = \"a\" }]",
            3,
            8,
            "listener.tls",
            "`key` is missing",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"x\"\ntrust = \"microsoft-eocs\"",
            3,
            7,
            "feed.url",
            "no place to fetch",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"dsse\"",
            4,
            9,
            "feed.trust",
            "write root = \"1.root.json\"",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"dsse\"\nroot = \"none.json\"",
            5,
            8,
            "feed.root",
            "cannot be read",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"microsoft-eocs\"\nmirrors = [\"https://m/\", \"https://h/\"]",
            5,
            26,
            "feed.mirrors",
            "https://h/ is there twice; leave one out",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"dsse\"\naccept_former = true",
            5,
            17,
            "feed.accept_former",
            "the version of a \"dsse\" feed says which document is newer; leave this out",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"dsse\"\nroots = []",
            5,
            9,
            "feed.roots",
            "belongs to trust = \"xmldsig-x509\"",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"microsoft-eocs\"\npublishes = \"b\"",
            5,
            13,
            "feed.publishes",
            "belongs to trust = \"dsse\"",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"microsoft-eoc\"",
            4,
            9,
            "feed.trust",
            "did you mean \"microsoft-eocs\"?",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"xmldsig-x509\"",
            4,
            9,
            "feed.trust",
            "write roots =",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"microsoft-eocs\"\nroots = []",
            5,
            9,
            "feed.roots",
            "belongs to trust",
        ),
        (
            "[[feed]]\nname = \"a\"\nurl = \"https://h/\"\ntrust = \"xmldsig-x509\"\nroots = [\"none.pem\"]",
            5,
            9,
            "feed.roots",
            "cannot be used",
        ),
        (
            "[listener]\naddress = \"[::1]:1\"",
            1,
            1,
            "listener",
            "invalid type: map",
        ),
        (
            "[log]\naccess_format = \"jsn\"",
            2,
            17,
            "log.access_format",
            "did you mean \"json\"?",
        ),
        (
            "[log]\ndecision_per_second = 5",
            2,
            1,
            "log.decision_per_second",
            "did you mean `decisions_per_second`?",
        ),
        (
            "[log]\ndecisions_per_second = -1",
            2,
            24,
            "log.decisions_per_second",
            "invalid value",
        ),
        (
            "[log]\ndecisions_per_second = 4294967296",
            2,
            24,
            "log.decisions_per_second",
            "invalid value",
        ),
        (
            "[[listener]]\naddress = \"[::1]:1\"\nmode = \"660\"",
            3,
            8,
            "listener.mode",
            "only a Unix socket",
        ),
        (
            "[[listener]]\naddress = \"unix:a.sock\"",
            2,
            11,
            "listener.address",
            "begins with a slash",
        ),
        (
            "[[listener]]\naddress = \"unix:/a.sock\"\nmode = \"rw\"",
            3,
            8,
            "listener.mode",
            "three octal digits",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/33\"]",
            1,
            20,
            "trusted_proxies",
            "\"unix\" stands for",
        ),
        (
            "[forwarding]\nsend = [\"via\"]",
            2,
            9,
            "forwarding.send",
            "x-forwarded-for, x-forwarded-host",
        ),
        (
            "[forwarding]\nread = \"x-real-ip\"",
            2,
            8,
            "forwarding.read",
            "forwarded",
        ),
        ("instance = \"a:b\"", 1, 12, "instance", "letters, digits"),
        ("a = ", 1, 5, "", "this is no TOML"),
        ("listen = []\nlisten = []", 2, 1, "", "duplicate key"),
    ];

    #[test]
    fn largest_limits_of_a_head_are_taken() {
        let text = "[limits]\nhead = \"16MiB\"\nfields = 16384\ntarget = \"65534B\"";
        assert_eq!(parse(text).unwrap().limits.head.fields, 16_384);
    }

    #[test]
    fn fewest_and_most_lines_of_decisions_are_taken() {
        for count in [0, 1, u32::MAX] {
            let config = parse(&format!("[log]\ndecisions_per_second = {count}")).unwrap();
            assert_eq!(config.log.decisions_per_second, count);
        }
    }

    #[test]
    fn faults_name_line_column_key_and_remedy() {
        for (text, line, column, key, remedy) in FAULTS {
            let error = parse(text).expect_err(text);
            let message = error.to_string();
            assert!(message.contains(remedy), "{text:?} gave {message}");
            let place = (error.line(), error.column(), error.key());
            assert_eq!(
                place,
                (Some(*line), Some(*column), *key),
                "{text:?} gave {message}"
            );
            assert!(message.starts_with("conf/stopgap.toml, line "), "{message}");
        }
    }

    /// The listing is what a file may hold: each example of it is taken, and nothing in it is left out of the types.
    #[test]
    fn every_listed_example_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = rcgen::generate_simple_self_signed(["root".to_owned()]).unwrap();
        for name in ["publisher.pem", "timestamp.pem"] {
            std::fs::write(folder.path().join(name), certificate.cert.der()).unwrap();
        }
        std::fs::write(folder.path().join("1.root.json"), first_root()).unwrap();
        std::fs::write(folder.path().join("webhook.secret"), "a".repeat(32)).unwrap();
        let path = folder.path().join("stopgap.toml");
        for key in KEYS {
            let example = key
                .example
                .replace("SHA-256 of a certificate", &"ab".repeat(32))
                .replace("/srv/www", &folder.path().display().to_string());
            let line = format!("{} = {example}\n", key.name);
            let others = match key.section {
                "feed" if key.name == "trust" => vec!["name", "url"],
                "feed" if matches!(key.name, "root" | "publishes") => {
                    vec!["name", "url", "dsse", "root"]
                }
                "feed" => vec!["name", "url", "trust", "roots", "timestamp_roots"],
                "site" => vec!["name"],
                "listener" if key.name == "mode" => vec!["unix"],
                "listener" if key.name == "client_ca" => vec!["address", "tls"],
                "listener" if key.name == "client_certificates" => {
                    vec!["address", "tls", "client_ca"]
                }
                "sidecar" if key.name == "socket" => vec!["server"],
                "sidecar" => vec!["server", "address", "certificate", "key", "pins"],
                "pool" => vec!["name", "paths"],
                "upstream" => vec!["name", "servers"],
                "listener" => vec!["address"],
                "health" => vec!["path"],
                "exception" => vec![
                    "name",
                    "mitigation",
                    "path",
                    "clients",
                    "owner",
                    "reason",
                    "expires",
                ],
                "route" => vec!["paths", "upstreams"],
                "version" if ["product", "path", "field", "pattern"].contains(&key.name) => {
                    vec!["product", "path", "pattern"]
                }
                "version" => vec!["preset"],
                "webhook" => vec!["url", "secret"],
                _ => vec![],
            };
            let mut text = match key.section {
                Section::TOP => line,
                "site" if key.name == "upstream" => {
                    format!("{MAIL}[[site]]\n{line}")
                }
                "feed" | "site" | "listener" | "upstream" | "sidecar" | "pool" | "exception" => {
                    format!("[[{}]]\n{line}", key.section)
                }
                "ejection" | "health" => format!("{MAIL}[upstream.{}]\n{line}", key.section),
                "route" => format!("{MAIL}[[site]]\nname = \"a\"\n[[site.route]]\n{line}"),
                "webhook" => format!("[notify.webhook]\n{line}"),
                "version" => format!("[[site]]\nname = \"a\"\n[site.version]\n{line}"),
                section => format!("[{section}]\n{line}"),
            };
            let says = |other: &&str| {
                *other == key.name
                    || (key.name, *other) == ("secret_file", "secret")
                    || (key.section, key.name, *other) == ("route", "upstream", "upstreams")
            };
            for other in others.into_iter().filter(|other| !says(other)) {
                let value = match other {
                    "dsse" => {
                        text.push_str("trust = \"dsse\"\n");
                        continue;
                    }
                    "unix" => {
                        text.push_str("address = \"unix:/a.sock\"\n");
                        continue;
                    }
                    "root" => "\"1.root.json\"",
                    "trust" => "\"xmldsig-x509\"",
                    "url" => "\"https://h/\"",
                    "address" => "\"[::1]:1\"",
                    "tls" => "[{ certificate = \"a.pem\", key = \"a.key\" }]",
                    "pins" => &format!("[\"{}\"]", "ab".repeat(32)),
                    "roots" | "timestamp_roots" => "[\"publisher.pem\"]",
                    "servers" | "upstreams" => "[\"https://h\"]",
                    "path" => "\"/\"",
                    "pattern" => "\"(1)\"",
                    "secret" => "\"0123456789abcdef01234567\"",
                    "preset" => "\"exchange\"",
                    "mitigation" => "\"M1.1\"",
                    "clients" => "[\"10.0.0.1\"]",
                    "expires" => "\"2026-12-31T00:00:00Z\"",
                    "paths" => "[\"/\"]",
                    _ => "\"a\"",
                };
                text.push_str(&format!("{other} = {value}\n"));
            }
            if let Err(error) = Config::parse(&text, &path) {
                panic!("{text}\n{error}");
            }
        }
    }

    const MAIL: &str = "[[upstream]]\nname = \"mail\"\nservers = [\"http://h\"]\n";

    /// A root that signs itself.
    fn first_root() -> String {
        let key = KeyPair::generate().unwrap();
        let root = RootBuilder::init(crate::model::UnixTime::new(4_000_000_000))
            .add_root_key(key.public())
            .add_feed_key(key.public())
            .build()
            .unwrap();
        let mut envelope = root.to_envelope().unwrap();
        envelope.sign(&key).unwrap();
        envelope.to_json().unwrap()
    }

    #[test]
    fn listing_is_a_settings_file_without_content() {
        let listing = schema();
        assert!(
            listing
                .lines()
                .all(|line| line.is_empty() || line.starts_with("# "))
        );
        parse(&listing).unwrap();
    }
}
