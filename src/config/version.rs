//! `[site.version]`: how the servers of a site are asked which build of their product they run.

use std::time::Duration;

use http::HeaderName;
use toml::Spanned;

use super::check::duration;
use super::document::Document;
use super::error::ConfigError;
use super::file::Parsed;
use super::quantity::FileDuration;
use super::upstream::{Authority, PresetWord, Target};
use super::{Preset, SiteConfig};
use crate::control::{
    EXCHANGE, ServerPlace, ServerTrust, SiteServers, VERSION_INTERVAL, VERSION_TIMEOUT,
    VersionPattern, VersionProbe, VersionSource,
};
use crate::proxy::Server;

/// `[site.version]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileVersion {
    enabled: Option<bool>,
    preset: Option<Spanned<Parsed<PresetWord>>>,
    product: Option<Spanned<String>>,
    path: Option<Spanned<Parsed<Target>>>,
    field: Option<Spanned<String>>,
    pattern: Option<Spanned<String>>,
    host: Option<Parsed<Authority>>,
    interval: Option<Parsed<FileDuration>>,
    timeout: Option<Parsed<FileDuration>>,
}

/// Checks what was written for a site; `header` is where it stands.
pub(super) fn version(
    written: Option<Spanned<FileVersion>>,
    preset: Option<Preset>,
    host: Option<&String>,
    document: &Document<'_>,
) -> Result<Option<VersionProbe>, ConfigError> {
    let Some(written) = written else {
        return Ok(preset.map(|preset| preset.version(host)));
    };
    let span = written.span();
    let written = written.into_inner();
    if written.enabled == Some(false) {
        return Ok(None);
    }
    let own = [
        written.path.as_ref().map(Spanned::span),
        written.field.as_ref().map(Spanned::span),
        written.pattern.as_ref().map(Spanned::span),
    ];
    let is_own = own.iter().any(Option::is_some);
    if let (Some(preset), true) = (&written.preset, is_own) {
        let problem = "the preset says what is asked and where the build is; leave out `preset`, or `path`, `field` and \
                       `pattern`";
        return Err(document.fault(preset.span(), problem));
    }
    let chosen = written.preset.map(|word| word.into_inner().0.0);
    let mut probe = match chosen.or(preset).filter(|_| !is_own) {
        Some(preset) => {
            if let Some(product) = written.product {
                let problem = "the preset names the product; leave this out";
                return Err(document.fault(product.span(), problem));
            }
            preset.version(host)
        }
        None => {
            let (Some(product), Some(path), Some(pattern)) =
                (written.product, written.path, written.pattern)
            else {
                let problem =
                    "which build runs there? write `preset`, or `product`, `path` and `pattern`";
                return Err(document.fault(span, problem));
            };
            other(product, path, written.field, pattern, document)?
        }
    };
    if let Some(host) = written.host {
        probe.host = Some(host.0.0);
    } else {
        probe.host = probe.host.or_else(|| host.cloned());
    }
    probe.interval = duration(written.interval, probe.interval).max(Duration::from_millis(1));
    probe.timeout = duration(written.timeout, probe.timeout);
    Ok(Some(probe))
}

fn other(
    product: Spanned<String>,
    path: Spanned<Parsed<Target>>,
    field: Option<Spanned<String>>,
    pattern: Spanned<String>,
    document: &Document<'_>,
) -> Result<VersionProbe, ConfigError> {
    if product.get_ref().trim().is_empty() {
        let problem = "the name of a product is not empty: mitigations name it so";
        return Err(document.fault(product.span(), problem));
    }
    if let Some(field) = &field
        && HeaderName::try_from(field.get_ref()).is_err()
    {
        return Err(document.fault(field.span(), "this is no name of a field"));
    }
    let fault = |reason| document.fault(pattern.span(), reason);
    let checked = VersionPattern::new(pattern.get_ref()).map_err(fault)?;
    Ok(VersionProbe {
        product: product.into_inner(),
        source: VersionSource::Other {
            target: path.into_inner().0.0,
            field: field.map(Spanned::into_inner),
            pattern: checked,
        },
        host: None,
        interval: VERSION_INTERVAL,
        timeout: VERSION_TIMEOUT,
    })
}

impl Preset {
    /// How its servers are asked for their build.
    fn version(self, host: Option<&String>) -> VersionProbe {
        match self {
            Self::Exchange => VersionProbe {
                product: EXCHANGE.to_owned(),
                source: VersionSource::Exchange,
                host: host.cloned(),
                interval: VERSION_INTERVAL,
                timeout: VERSION_TIMEOUT,
            },
        }
    }
}

/// The servers of every site, and how they are asked.
pub(super) fn site_servers(sites: &[SiteConfig]) -> Vec<SiteServers> {
    let place = |server: &Server| ServerPlace {
        name: server.to_string(),
        host: server.host.clone(),
        port: server.port,
        socket: server.socket.clone(),
        tls: server.tls.as_ref().map(|tls| ServerTrust {
            authorities: tls.authorities.clone(),
            name: tls.name.clone().unwrap_or_else(|| server.host.clone()),
        }),
    };
    let site = |site: &SiteConfig| {
        let mut servers: Vec<ServerPlace> = Vec::new();
        for server in site.servers().map(place) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        SiteServers {
            site: site.name.clone(),
            servers,
            probe: site.version.clone(),
        }
    };
    sites.iter().map(site).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("x"))
    }

    const SITE: &str = "[[site]]\nname = 'a'\nhosts = ['mail.example']\nupstreams = ['http://10.0.0.1', 'https://10.0.0.2']\n\
                        upstream_name = 'mail'\n";

    #[test]
    fn probes_are_read_and_printed() {
        let exchange = VersionProbe {
            host: Some("mail.example".into()),
            ..Preset::Exchange.version(None)
        };
        let other = VersionProbe {
            product: "app".into(),
            source: VersionSource::Other {
                target: "/about?x".into(),
                field: Some("Server".into()),
                pattern: VersionPattern::new(r"^App/([\d.]+)").unwrap(),
            },
            host: Some("h:1".into()),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(3),
        };
        let own = "product = 'app'\npath = '/about?x'\nfield = 'Server'\npattern = '^App/([\\d.]+)'\nhost = 'h:1'\n\
                   interval = '1m'\ntimeout = '3s'\n";
        for (text, expected) in [
            (SITE.to_owned(), None),
            (format!("{SITE}preset = 'exchange'"), Some(&exchange)),
            (
                format!("{SITE}preset = 'exchange'\n[site.version]\nenabled = false"),
                None,
            ),
            (
                format!("{SITE}[site.version]\npreset = 'exchange'"),
                Some(&exchange),
            ),
            (format!("{SITE}[site.version]\n{own}"), Some(&other)),
            (
                format!("{SITE}preset = 'exchange'\n[site.version]\n{own}"),
                Some(&other),
            ),
        ] {
            let config = parse(&text).unwrap();
            let versions = &config.control.versions;
            assert_eq!(versions[0].probe.as_ref(), expected, "{text}");
            let names: Vec<_> = versions[0].servers.iter().map(|own| &*own.name).collect();
            assert_eq!(names, ["http://10.0.0.1:80", "https://10.0.0.2:443"]);
            let tls = versions[0].servers[1].tls.as_ref().unwrap();
            assert_eq!(tls.name, "mail");
            let printed = config.to_toml();
            let again = parse(&printed).unwrap();
            assert_eq!(&again.control.versions, versions, "{printed}");
        }
    }

    #[test]
    fn faults_name_key_and_remedy() {
        for (text, key, remedy) in [
            ("interval = '1m'", "site.version", "`pattern`"),
            ("product = 'a'\npath = '/'", "site.version", "`pattern`"),
            (
                "preset = 'exchange'\npath = '/'",
                "site.version.preset",
                "leave out",
            ),
            (
                "preset = 'exchange'\nproduct = 'a'",
                "site.version.product",
                "leave this out",
            ),
            (
                "product = ' '\npath = '/'\npattern = '(1)'",
                "site.version.product",
                "not empty",
            ),
            (
                "product = 'a'\npath = '/'\npattern = '1'",
                "site.version.pattern",
                "write one",
            ),
            (
                "product = 'a'\npath = '/'\npattern = '(1'",
                "site.version.pattern",
                "",
            ),
            (
                "product = 'a'\npath = '/'\npattern = '(1)'\nfield = 'a b'",
                "site.version.field",
                "no name",
            ),
            (
                "product = 'a'\npath = 'x'\npattern = '(1)'",
                "site.version.path",
                "",
            ),
        ] {
            let error = parse(&format!("{SITE}[site.version]\n{text}")).unwrap_err();
            assert_eq!(error.key(), key, "{text}: {error}");
            assert!(error.to_string().contains(remedy), "{text}: {error}");
        }
    }
}
