//! `[notify]`: who is told of changes, from file text to settings.

use std::ffi::OsString;

use http::Uri;
use toml::Spanned;

use super::check::duration;
use super::document::Document;
use super::error::ConfigError;
use super::file::{FileNotify, FileWebhook};
use crate::control::{
    NOTIFY_DEADLINE, NotifyConfig, WEBHOOK_DEADLINE, WebhookConfig, WebhookSecret,
};

/// Checks what was written.
pub(super) fn notify(
    written: FileNotify,
    document: &Document<'_>,
) -> Result<NotifyConfig, ConfigError> {
    let webhook = written
        .webhook
        .map(|webhook| self::webhook(webhook, document));
    Ok(NotifyConfig {
        command: written.command.into_iter().map(OsString::from).collect(),
        deadline: duration(written.deadline, NOTIFY_DEADLINE),
        webhook: webhook.transpose()?,
        ..NotifyConfig::default()
    })
}

fn webhook(
    written: Spanned<FileWebhook>,
    document: &Document<'_>,
) -> Result<WebhookConfig, ConfigError> {
    let span = written.span();
    let written = written.into_inner();
    let url: Option<Uri> = written.url.get_ref().parse().ok();
    let url = url.filter(|url: &Uri| {
        let web = matches!(url.scheme_str(), Some("http" | "https"));
        let plain = url
            .authority()
            .is_some_and(|own| !own.as_str().contains('@'));
        web && plain && url.host().is_some_and(|host| !host.is_empty())
    });
    let Some(url) = url else {
        let problem = "this is no address of a webhook; write https://HOST/PATH";
        return Err(document.fault(written.url.span(), problem));
    };
    let (secret, span) = match (written.secret, written.secret_file) {
        (Some(text), None) => {
            let span = text.span();
            (WebhookSecret::Inline(text.into_inner()), span)
        }
        (None, Some(path)) => {
            let file = document.resolve(path.get_ref());
            (WebhookSecret::File(file), path.span())
        }
        (Some(text), Some(_)) => {
            let problem = "the secret is in one place: write `secret` or `secret_file`";
            return Err(document.fault(text.span(), problem));
        }
        (None, None) => {
            let problem = "a receiver must know who tells it: write `secret_file`, or `secret`; \
                           `openssl rand -hex 32` makes one";
            return Err(document.fault(span, problem));
        }
    };
    if let Err(reason) = secret.keys() {
        return Err(document.fault(span, reason));
    }
    if let Some(ca) = &written.ca
        && url.scheme_str() == Some("http")
    {
        let problem = "this webhook is not spoken to within TLS; write https:// in `url`";
        return Err(document.fault(ca.span(), problem));
    }
    Ok(WebhookConfig {
        url,
        secret,
        authorities: written.ca.map(|path| document.resolve(path.get_ref())),
        proxy: written.proxy.map(|proxy| proxy.0.0),
        deadline: duration(written.deadline, WEBHOOK_DEADLINE),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/stopgap/stopgap.toml"))
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn webhook_is_read_and_printed_without_an_inline_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        let text = format!(
            "[notify]\ncommand = ['/bin/tell']\n[notify.webhook]\nurl = 'https://h.example:8443/a?b'\n\
             secret_file = '{}'\nca = 'ca.pem'\nproxy = 'http://p:3128'\ndeadline = '3s'\n",
            path.display()
        );
        let config = parse(&text).unwrap();
        let webhook = config.control.notify.webhook.clone().unwrap();
        let expected = WebhookConfig {
            url: "https://h.example:8443/a?b".parse().unwrap(),
            secret: WebhookSecret::File(path.clone()),
            authorities: Some(PathBuf::from("/etc/stopgap/ca.pem")),
            proxy: Some("http://p:3128".parse().unwrap()),
            deadline: Duration::from_secs(3),
        };
        assert_eq!(webhook, expected);
        let again = parse(&config.to_toml()).unwrap();
        assert_eq!(again.control.notify, config.control.notify);
        let inline = format!("[notify.webhook]\nurl = 'http://h/'\nsecret = '{SECRET}'\n");
        let printed = parse(&inline).unwrap().to_toml();
        assert!(!printed.contains(SECRET), "{printed}");
        assert!(printed.contains("# secret is not shown"), "{printed}");
    }

    #[test]
    fn faults_name_key_and_remedy() {
        for (text, key, remedy) in [
            ("url = 'https://h/'", "notify.webhook", "`secret_file`"),
            ("url = 'ftp://h/'", "notify.webhook.url", "https://"),
            ("url = 'https://u:p@h/'", "notify.webhook.url", "https://"),
            ("url = '/a'", "notify.webhook.url", "https://"),
            (
                "url = 'https://h/'\nsecret = 'short'",
                "notify.webhook.secret",
                "24 to 1024",
            ),
            (
                "url = 'https://h/'\nsecret = 'a'\nsecret_file = 'b'",
                "notify.webhook.secret",
                "one place",
            ),
            (
                "url = 'https://h/'\nsecret_file = '/nowhere'",
                "notify.webhook.secret_file",
                "/nowhere",
            ),
            (
                "url = 'http://h/'\nsecret = '0123456789abcdef01234567'\nca = 'a'",
                "notify.webhook.ca",
                "https://",
            ),
        ] {
            let error = parse(&format!("[notify.webhook]\n{text}\n")).unwrap_err();
            assert_eq!(error.key(), key, "{text}: {error}");
            assert!(error.to_string().contains(remedy), "{text}: {error}");
        }
    }
}
