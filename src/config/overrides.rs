//! Flags that win over the settings file.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::net::{CertificateFiles, ListenAddress};
use crate::proxy::{Listener, Member, Server, TrustedProxies};

/// What flags say; an empty list and `None` leave the file's word in force.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Plain listeners; these and [`tls_listen`](Self::tls_listen) together replace the file's.
    pub listen: Vec<ListenAddress>,
    /// Whether plain listeners also speak HTTP/2 with clients that begin with it, the file's among them.
    pub http2_cleartext: bool,
    /// TLS listeners, which show [`tls_certificate`](Self::tls_certificate).
    pub tls_listen: Vec<ListenAddress>,
    /// A certificate chain in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub tls_key: Option<PathBuf>,
    /// Servers of the only site.
    pub upstreams: Vec<Server>,
    /// Rule files and folders that replace the file's.
    pub rules: Vec<PathBuf>,
    /// Whether the bundled set is enforced beside local rules, whatever the file says.
    pub with_baseline: bool,
    /// Opt-in groups, besides the file's.
    pub groups: Vec<String>,
    /// Threads that serve traffic.
    pub workers: Option<usize>,
    /// Where access lines go; `-` is standard output.
    pub access_log: Option<PathBuf>,
    /// The read-only address.
    pub admin: Option<SocketAddr>,
}

impl Overrides {
    /// Puts what the flags say in place of what the file says.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        self.apply_listeners(config)?;
        for listener in &mut config.listeners {
            listener.http2 |= self.http2_cleartext && listener.tls.is_empty();
        }
        if !self.upstreams.is_empty() {
            let [site] = config.sites.as_mut_slice() else {
                return Err(ConfigError::of_flag(
                    "--upstream",
                    format!(
                        "the settings file has {} sites; write the servers into its [[site]] sections",
                        config.sites.len()
                    ),
                ));
            };
            site.upstreams.name = String::new();
            site.upstreams.members = self.upstreams.iter().cloned().map(Member::from).collect();
            if let Some(preset) = site.preset {
                preset.apply(&mut site.upstreams, site.hosts.first().map(String::as_str));
            }
        }
        if !self.rules.is_empty() {
            config.control.rules.clone_from(&self.rules);
        }
        config.control.with_baseline |= self.with_baseline;
        for group in &self.groups {
            if !config.control.groups.contains(group) {
                config.control.groups.push(group.clone());
            }
        }
        if let Some(workers) = self.workers {
            config.workers = workers;
        }
        if let Some(path) = &self.access_log {
            config.log.access = Some(path.clone().into());
        }
        if let Some(address) = self.admin {
            config.admin.address = address;
        }
        Ok(())
    }

    fn apply_listeners(&self, config: &mut Config) -> Result<(), ConfigError> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(incomplete("--tls-certificate", "--tls-key FILE")),
            (None, Some(_)) => return Err(incomplete("--tls-key", "--tls-certificate FILE")),
        };
        match &tls {
            None if !self.tls_listen.is_empty() => {
                let missing = "--tls-certificate FILE --tls-key FILE";
                return Err(incomplete("--tls-listen", missing));
            }
            Some(_) if self.tls_listen.is_empty() => {
                return Err(incomplete("--tls-certificate", "--tls-listen ADDR"));
            }
            _ => {}
        }
        if self.listen.is_empty() && self.tls_listen.is_empty() {
            return Ok(());
        }
        let (refusals, trusted) = (
            config.listeners[0].refusals,
            config.listeners[0].trusted.clone(),
        );
        let listener = |address: &ListenAddress, tls: Vec<CertificateFiles>| Listener {
            address: address.clone(),
            mode: None,
            refusals,
            clients: None,
            http2: !tls.is_empty(),
            health_path: None,
            proxies: TrustedProxies::default(),
            trusted: trusted.clone(),
            tls,
        };
        let plain = self
            .listen
            .iter()
            .map(|address| listener(address, Vec::new()));
        let certificates: Vec<CertificateFiles> = tls.into_iter().collect();
        let secure = self
            .tls_listen
            .iter()
            .map(|address| listener(address, certificates.clone()));
        config.listeners = plain.chain(secure).collect();
        Ok(())
    }
}

fn incomplete(flag: &str, missing: &str) -> ConfigError {
    ConfigError::of_flag(flag, format!("needs {missing} beside it"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(text: &str) -> Config {
        Config::parse(text, Path::new("stopgap.toml")).unwrap()
    }

    #[test]
    fn flags_win_over_the_file() {
        let mut config = file(
            "listen = [\"127.0.0.1:1\"]\nrules = [\"a.xml\"]\nworkers = 2\n[policy]\ngroups = [\"a\"]\n[refusals]\nfragment = false",
        );
        let flags = Overrides {
            listen: vec!["127.0.0.1:9".parse().unwrap()],
            rules: vec!["b.xml".into()],
            groups: vec!["a".into(), "b".into()],
            upstreams: vec!["http://10.0.0.1".parse().unwrap()],
            ..Overrides::default()
        };
        flags.apply(&mut config).unwrap();
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].address.tcp().unwrap().port(), 9);
        assert!(!config.listeners[0].refusals.fragment);
        assert_eq!(config.control.rules, [PathBuf::from("b.xml")]);
        assert_eq!(config.control.groups, ["a", "b"]);
        assert_eq!(config.workers, 2);
        assert_eq!(config.sites[0].upstreams.members.len(), 1);
    }

    #[test]
    fn tls_flags_go_together() {
        let address = || "127.0.0.1:9".parse().unwrap();
        let complete = Overrides {
            listen: vec![address()],
            tls_listen: vec![address()],
            tls_certificate: Some("a.pem".into()),
            tls_key: Some("a.key".into()),
            ..Overrides::default()
        };
        let mut config = file("listen = [\"127.0.0.1:1\"]");
        complete.apply(&mut config).unwrap();
        let counts = config.listeners.iter().map(|listener| listener.tls.len());
        assert_eq!(counts.collect::<Vec<_>>(), [0, 1]);
        let cases: [fn(&mut Overrides); 3] = [
            |flags| flags.tls_listen.clear(),
            |flags| flags.tls_key = None,
            |flags| flags.tls_certificate = None,
        ];
        for change in cases {
            let mut flags = complete.clone();
            change(&mut flags);
            let error = flags.apply(&mut config).unwrap_err();
            assert!(error.key().starts_with("--tls-"), "{error}");
            assert!(error.to_string().contains("needs --tls-"), "{error}");
        }
    }

    #[test]
    fn upstreams_of_several_sites_do_not_fit_in_a_flag() {
        let mut config = file("[[site]]\nname = \"a\"\n[[site]]\nname = \"b\"");
        let flags = Overrides {
            upstreams: vec!["http://10.0.0.1".parse().unwrap()],
            ..Overrides::default()
        };
        let error = flags.apply(&mut config).unwrap_err();
        assert_eq!(error.key(), "--upstream");
        assert!(error.to_string().contains("2 sites"), "{error}");
    }
}
