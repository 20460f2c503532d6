//! Checked settings as text again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use super::{Config, LogTarget, Preset, SiteConfig};
use crate::canon::Refusal;
use crate::control::{
    ApprovalOf, PoolPaths, Retirement, SidecarLink, SidecarPlace, VersionProbe, VersionSource,
    WebhookConfig, WebhookSecret,
};
use crate::feed::{FeedConfig, Trust};
use crate::model::{Digest, Exception};
use crate::net::CertificateFiles;
use crate::proxy::{AccessFormat, HealthCheck, Listener, Member, Server, ServerGroup, ServerTls};
use crate::signature::envelope::RootChain;

impl Config {
    /// Everything that is in force, as a settings file would say it.
    ///
    /// Roots of feeds are shown by their digests in comments, since the settings hold certificates and no longer
    /// know the files.
    pub fn to_toml(&self) -> String {
        let mut text = Text::default();
        let control = &self.control;
        let paths: Vec<_> = control.rules.iter().map(|path| path.display()).collect();
        text.value("rules", list(&paths));
        text.value("with_baseline", control.with_baseline);
        text.value("workers", self.workers);
        if let Some(target) = &self.log.access {
            text.value("access_log", target_text(target));
        }
        if let Some(folder) = &self.state_dir {
            text.value("state_dir", path_text(folder));
        }
        let long_poll = &self.limits.long_poll_paths;
        let health = control
            .honest_paths
            .iter()
            .filter(|path| !long_poll.contains(path));
        text.value("health_paths", list(&health.collect::<Vec<_>>()));
        text.value("drain_timeout", duration(self.drain_timeout));
        text.value("watch_interval", duration(control.watch_interval));
        if !control.instance.is_empty() {
            text.value("instance", quoted(&control.instance));
        }
        self.listeners
            .iter()
            .for_each(|listener| text.listener(listener));
        text.upstreams(self);
        self.sites.iter().for_each(|site| text.site(site));
        control.feeds.iter().for_each(|feed| text.feed(feed));
        control.sidecars.iter().for_each(|link| text.sidecar(link));
        control.pools.iter().for_each(|pool| text.pool(pool));
        text.policy(self);
        control
            .exceptions
            .iter()
            .for_each(|exception| text.exception(exception));
        let notify = &self.control.notify;
        let command: Vec<_> = notify.command.iter().map(|word| word.display()).collect();
        text.section("[notify]");
        text.value("command", list(&command));
        text.value("deadline", duration(notify.deadline));
        if let Some(webhook) = &notify.webhook {
            text.webhook(webhook);
        }
        text.section("[admin]");
        text.value("address", quoted(self.admin.address));
        if let Some(socket) = self.control_socket() {
            text.value("socket", path_text(&socket));
        }
        text.limits(self);
        text.section("[forwarding]");
        text.value("read", quoted(self.forwarding.read.word()));
        text.value("send", list(&self.forwarding.send.names()));
        text.section("[log]");
        text.value(
            "access_format",
            quoted(match self.log.access_format {
                AccessFormat::Combined => "combined",
                AccessFormat::Json => "json",
            }),
        );
        let decisions = self.log.decisions.as_ref();
        text.value(
            "decisions",
            decisions.map_or_else(|| quoted("none"), target_text),
        );
        text.value("decisions_per_second", self.log.decisions_per_second);
        text.text
    }
}

#[derive(Default)]
struct Text {
    text: String,
}

impl Text {
    fn section(&mut self, header: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "\n{header}");
    }

    fn value(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name} = {value}");
    }

    fn listener(&mut self, listener: &Listener) {
        self.section("[[listener]]");
        self.value("address", quoted(&listener.address));
        if let Some(mode) = listener.mode {
            self.value("mode", quoted(format_args!("{mode:o}")));
        }
        let mut switches: Vec<String> = Refusal::ALL
            .iter()
            .map(|refusal| {
                format!(
                    "{} = {}",
                    refusal.word(),
                    listener.refusals.contains(*refusal)
                )
            })
            .collect();
        switches.push(format!(
            "override-fields = {}",
            listener.refusals.override_fields
        ));
        self.value("refusals", format!("{{ {} }}", switches.join(", ")));
        if !listener.tls.is_empty() {
            let pair = |files: &CertificateFiles| {
                format!(
                    "{{ certificate = {}, key = {} }}",
                    path_text(&files.certificate),
                    path_text(&files.key)
                )
            };
            let pairs: Vec<String> = listener.tls.iter().map(pair).collect();
            self.value("tls", format!("[{}]", pairs.join(", ")));
        }
        if let Some(clients) = &listener.clients {
            let word = if clients.required {
                "required"
            } else {
                "optional"
            };
            self.value("client_ca", path_text(&clients.authorities));
            self.value("client_certificates", quoted(word));
        }
        self.value("http2", listener.http2);
        if let Some(path) = &listener.health_path {
            self.value("health_path", quoted(path));
        }
        self.value("proxy_protocol", list(&listener.proxies.names()));
        self.value("trusted_proxies", list(&listener.trusted.names()));
    }

    fn site(&mut self, site: &SiteConfig) {
        self.section("[[site]]");
        self.value("name", quoted(&site.name));
        self.value("hosts", list(&site.hosts));
        if let Some(preset) = site.preset {
            self.value("preset", quoted(preset.word()));
        }
        self.servers(&site.upstreams);
        // The settings give all servers that are written in a site the same.
        let inline = site.groups().filter(|group| group.name.is_empty());
        let mut servers = inline.flat_map(ServerGroup::servers);
        let tls = servers.find_map(|server| server.tls.as_ref());
        self.tls(tls, "upstream_ca", "upstream_name");
        if let Some(path) = &site.document_root {
            self.value("document_root", path_text(path));
        }
        if site.version.is_some() || site.preset.is_some() {
            self.version(site.version.as_ref());
        }
        for route in &site.routes {
            self.section("[[site.route]]");
            self.value("paths", list(&route.paths));
            self.servers(&route.upstreams);
        }
    }

    fn webhook(&mut self, webhook: &WebhookConfig) {
        self.section("[notify.webhook]");
        self.value("url", quoted(&webhook.url));
        match &webhook.secret {
            WebhookSecret::File(path) => self.value("secret_file", path_text(path)),
            // What is printed is shown to others.
            WebhookSecret::Inline(_) => self.text.push_str("# secret is not shown\n"),
        }
        if let Some(path) = &webhook.authorities {
            self.value("ca", path_text(path));
        }
        if let Some(proxy) = &webhook.proxy {
            self.value("proxy", quoted(proxy));
        }
        self.value("deadline", duration(webhook.deadline));
    }

    fn version(&mut self, probe: Option<&VersionProbe>) {
        self.section("[site.version]");
        let Some(probe) = probe else {
            self.value("enabled", false);
            return;
        };
        match &probe.source {
            VersionSource::Exchange => self.value("preset", quoted(Preset::Exchange.word())),
            VersionSource::Other {
                target,
                field,
                pattern,
            } => {
                self.value("product", quoted(&probe.product));
                self.value("path", quoted(target));
                if let Some(field) = field {
                    self.value("field", quoted(field));
                }
                self.value("pattern", quoted(pattern.text()));
            }
        }
        if let Some(host) = &probe.host {
            self.value("host", quoted(host));
        }
        self.value("interval", duration(probe.interval));
        self.value("timeout", duration(probe.timeout));
    }

    fn servers(&mut self, group: &ServerGroup) {
        match group.name.is_empty() {
            true => {
                let servers: Vec<&Server> = group.servers().collect();
                self.value("upstreams", list(&servers));
            }
            false => self.value("upstream", quoted(&group.name)),
        }
    }

    fn tls(&mut self, tls: Option<&ServerTls>, authorities: &str, name: &str) {
        if let Some(path) = tls.and_then(|tls| tls.authorities.as_deref()) {
            self.value(authorities, path_text(path));
        }
        if let Some(expected) = tls.and_then(|tls| tls.name.as_deref()) {
            self.value(name, quoted(expected));
        }
    }

    /// Every named upstream that a site uses, once.
    fn upstreams(&mut self, config: &Config) {
        let mut known = BTreeSet::new();
        for group in config.sites.iter().flat_map(SiteConfig::groups) {
            if !group.name.is_empty() && known.insert(&group.name) {
                self.upstream(group);
            }
        }
    }

    fn upstream(&mut self, group: &ServerGroup) {
        self.section("[[upstream]]");
        self.value("name", quoted(&group.name));
        let member = |member: &Member| {
            let Member {
                server,
                weight,
                backup,
            } = member;
            format!(
                "{{ url = {}, weight = {weight}, backup = {backup} }}",
                quoted(server)
            )
        };
        let members: Vec<String> = group.members.iter().map(member).collect();
        self.value("servers", format!("[{}]", members.join(", ")));
        if group.servers().all(|server| server.http2) {
            self.value("http2", true);
        }
        let tls = group.servers().find_map(|server| server.tls.as_ref());
        self.tls(tls, "ca", "server_name");
        self.value("balance", quoted(group.balance.word()));
        if !group.slow_start.is_zero() {
            self.value("slow_start", duration(group.slow_start));
        }
        self.value("attempts", group.attempts);
        if let Some(count) = group.connections {
            self.value("connections", count);
        }
        self.value("queue", group.queue);
        self.value("queue_timeout", duration(group.queue_timeout));
        if let Some(count) = group.idle_connections {
            self.value("idle_connections", count);
        }
        for (name, timeout) in [
            ("connect_timeout", group.connect_timeout),
            ("response_timeout", group.response_timeout),
        ] {
            if let Some(timeout) = timeout {
                self.value(name, duration(timeout));
            }
        }
        self.section("[upstream.ejection]");
        self.value("failures", group.ejection.failures);
        self.value("server_errors", group.ejection.server_errors);
        self.value("time", duration(group.ejection.time));
        self.value("longest", duration(group.ejection.longest));
        if let Some(check) = &group.health {
            self.health(check);
        }
    }

    fn health(&mut self, check: &HealthCheck) {
        self.section("[upstream.health]");
        self.value("path", quoted(&check.target));
        self.value("method", quoted(&check.method));
        if let Some(host) = &check.host {
            self.value("host", quoted(host));
        }
        let range = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let ranges: Vec<String> = check.expected.iter().map(range).collect();
        self.value("expect", list(&ranges));
        self.value("interval", duration(check.interval));
        self.value("timeout", duration(check.timeout));
        self.value("rise", check.rise);
        self.value("fall", check.fall);
    }

    fn feed(&mut self, feed: &FeedConfig) {
        self.section("[[feed]]");
        self.value("name", quoted(&feed.name));
        self.value("url", quoted(&feed.source));
        self.value("mirrors", list(&feed.mirrors));
        self.value("trust", quoted(feed.trust.name()));
        if let Trust::Dsse { name, root } = &feed.trust {
            if let Ok(chain) = RootChain::pinned(root) {
                let version = chain.newest().version();
                let _ = writeln!(self.text, "# root {version}, {}", chain.pin());
            }
            self.value("publishes", quoted(name));
        }
        if let Trust::XmlDsigX509(policy) = &feed.trust {
            for digest in policy.roots.digests() {
                let _ = writeln!(self.text, "# root {digest}");
            }
            for digest in policy.timestamp_roots.digests() {
                let _ = writeln!(self.text, "# timestamp root {digest}");
            }
            self.value("required_ekus", list(&policy.required_ekus));
            self.value("require_timestamp", policy.require_timestamp);
            self.value("signers", list(&policy.allowed_signers));
            self.value("denied_signers", list(&policy.denied_signers));
        }
        if let Some(proxy) = &feed.proxy {
            self.value("proxy", quoted(proxy));
        }
        if let Some(file) = &feed.ca_file {
            self.value("ca", path_text(file));
        }
        self.value("interval", duration(feed.interval));
        self.value("deadline", duration(feed.deadline));
        self.value("connect_deadline", duration(feed.connect_deadline));
        self.value("stale_after", duration(feed.stale_after));
        if !matches!(feed.trust, Trust::Dsse { .. }) {
            self.value("accept_former", feed.accept_former);
        }
        self.value("size_limit", size(feed.size_limit));
    }

    fn sidecar(&mut self, link: &SidecarLink) {
        self.section("[[sidecar]]");
        self.value("server", quoted(&link.server));
        match &link.place {
            SidecarPlace::Socket(path) => self.value("socket", path_text(path)),
            SidecarPlace::Address {
                host,
                port,
                files,
                trust,
                name,
            } => {
                let address = match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                };
                self.value("address", quoted(address));
                self.value("certificate", path_text(&files.certificate));
                self.value("key", path_text(&files.key));
                if let Some(path) = &trust.authorities {
                    self.value("ca", path_text(path));
                }
                let pins: Vec<_> = trust.pins.iter().copied().map(Digest::new).collect();
                self.value("pins", list(&pins));
                if let Some(name) = name {
                    self.value("tls_name", quoted(name));
                }
            }
        }
        self.value("deadline", duration(link.deadline));
    }

    fn pool(&mut self, pool: &PoolPaths) {
        self.section("[[pool]]");
        self.value("name", quoted(&pool.pool));
        self.value("paths", list(&pool.paths));
    }

    fn policy(&mut self, config: &Config) {
        let policy = &config.control.policy;
        self.section("[policy]");
        self.value("organisation_enabled", policy.organisation_enabled);
        self.value("server_enabled", policy.server_enabled);
        self.value("blocked", list(&policy.blocked));
        let approval = match policy.approval_required {
            true => "required",
            false => "published",
        };
        self.value("approval", quoted(approval));
        let approval_of = match policy.approval_of {
            ApprovalOf::Content => "content",
            ApprovalOf::Id => "id",
        };
        self.value("approval_of", quoted(approval_of));
        self.value("audit", list(&policy.audit));
        self.value("ring", policy.ring);
        self.value("builds", builds(&policy.builds));
        let retirement = match policy.retirement {
            Retirement::Automatic => "automatic",
            Retirement::Propose => "propose",
        };
        self.value("retirement", quoted(retirement));
        self.value("groups", list(&config.control.groups));
        self.value("benign_limit", policy.benign_limit);
        self.value("trust_despite_benign", list(&policy.trust_despite_benign));
        self.value("exception_lifetime", duration(policy.exception_lifetime));
    }

    fn exception(&mut self, exception: &Exception) {
        self.section("[[exception]]");
        self.value("name", quoted(exception.name()));
        self.value("mitigation", quoted(exception.mitigation()));
        if let Some(rule) = exception.rule() {
            self.value("rule", quoted(rule));
        }
        self.value("path", quoted(exception.path()));
        self.value("clients", list(exception.clients()));
        self.value("owner", quoted(exception.owner()));
        self.value("reason", quoted(exception.reason()));
        self.value("expires", quoted(exception.expires()));
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        self.section("[limits]");
        self.value("head", size(limits.head.bytes));
        self.value("field", size(limits.head.field));
        self.value("fields", limits.head.fields);
        self.value("target", size(limits.head.target));
        self.value("trailers", size(limits.head.trailers));
        self.value("head_timeout", duration(limits.head_timeout));
        self.value("idle_timeout", duration(limits.idle_timeout));
        self.value("body_timeout", duration(limits.body_timeout));
        self.value("body_minimum", size(limits.body_minimum));
        self.value("response_timeout", duration(limits.response_timeout));
        self.value("long_poll_timeout", duration(limits.long_poll_timeout));
        self.value("long_poll_paths", list(&limits.long_poll_paths));
        self.value("connect_timeout", duration(limits.connect_timeout));
        self.value("half_close_timeout", duration(limits.half_close_timeout));
        self.value("connections", limits.connections);
        self.value("connections_per_client", limits.connections_per_client);
        self.value("http2_streams", limits.http2_streams);
        self.value(
            "idle_upstream_connections",
            limits.idle_upstream_connections,
        );
        self.value(
            "idle_upstream_timeout",
            duration(limits.idle_upstream_timeout),
        );
        self.value("drained_body", format!("\"{}B\"", limits.drained_body));
    }
}

fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn path_text(path: &Path) -> String {
    quoted(path.display())
}

fn target_text(target: &LogTarget) -> String {
    match target {
        LogTarget::File(path) => path_text(path),
        LogTarget::Stderr => quoted("stderr"),
        LogTarget::Stdout => quoted("-"),
    }
}

fn list(values: &[impl Display]) -> String {
    let values: Vec<String> = values.iter().map(quoted).collect();
    format!("[{}]", values.join(", "))
}

fn builds(builds: &[(String, [u32; 4])]) -> String {
    let mut products: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (product, [a, b, c, d]) in builds {
        let own = products.entry(product).or_default();
        own.push(format!("{a}.{b}.{c}.{d}"));
    }
    let products: Vec<String> = products
        .iter()
        .map(|(product, builds)| format!("{} = {}", quoted(product), list(builds)))
        .collect();
    match products.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", products.join(", ")),
    }
}

fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("\"{}s\"", duration.as_secs()),
        _ => format!("\"{}ms\"", duration.as_millis()),
    }
}

fn size(bytes: usize) -> String {
    match bytes % 1_024 {
        0 => format!("\"{}KiB\"", bytes / 1_024),
        _ => format!("\"{bytes}B\""),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let written = r#"
            rules = ["/r/a \"b\".xml"]
            access_log = "-"
            state_dir = "/s"
            health_paths = ["/health"]
            [[listener]]
            address = "[::1]:2"
            refusals = { fragment = false, override-fields = false }
            trusted_proxies = ["fd00::/8"]
            [forwarding]
            read = "forwarded"
            send = ["x-real-ip", "forwarded"]
            [[site]]
            name = "Mail"
            hosts = ["mail.example"]
            upstreams = ["http://[::1]:81"]
            [[feed]]
            name = "microsoft"
            url = "https://feed.example/x"
            trust = "microsoft-eocs"
            interval = "1500ms"
            [policy]
            blocked = ["M2"]
            approval = "required"
            builds = { exchange = ["15.2.1118.20", "15.2.986.36"], "a b" = ["1.2.3.4"] }
            [limits]
            head = "100KiB"
            [log]
            decisions_per_second = 0
        "#;
        let path = Path::new("/etc/stopgap.toml");
        let printed = Config::parse(written, path).unwrap().to_toml();
        let again =
            Config::parse(&printed, path).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.to_toml(), printed);
        assert_eq!(again.control.rules, [Path::new("/r/a \"b\".xml")]);
        assert_eq!(
            again.control.feeds[0].interval,
            Duration::from_millis(1_500)
        );
        assert!(!again.listeners[0].refusals.fragment);
        assert_eq!(
            again.listeners[0].trusted.networks[0].to_string(),
            "fd00::/8"
        );
        assert_eq!(again.log.decisions_per_second, 0);
        assert_eq!(again.forwarding.read.word(), "forwarded");
        assert_eq!(again.forwarding.send.names(), ["forwarded", "x-real-ip"]);
        assert!(!again.listeners[0].refusals.override_fields);
        assert_eq!(again.control.honest_paths[0], "/health");
    }
}
