//! A webhook that is told: the document in a POST, signed as the Standard Webhooks specification has it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{End, Tally};
use crate::feed::chance;
use crate::model::{UnixTime, explain};
use crate::net::{Stream, TlsClient, exchange};
use crate::signature::{WebhookKey, random_octets};

/// Time for one attempt by default, connecting included.
pub const WEBHOOK_DEADLINE: Duration = Duration::from_secs(10);

/// How often one document is sent, if it is not taken: over about a quarter of an hour by default.
pub const WEBHOOK_ATTEMPTS: u32 = 10;

/// The longest wait between two attempts.
pub const WEBHOOK_LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Bytes of a file with secrets.
const SECRET_FILE: u64 = 16 * 1_024;

/// Secrets in a file: the one in use, and those before and after it.
const SECRETS: usize = 8;

/// Bytes of a proxy's answer to a CONNECT.
const TUNNEL_HEAD: usize = 16 * 1_024;

/// Where documents are sent, and how they are signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookConfig {
    /// An `http` or `https` URL.
    pub url: Uri,
    /// What documents are signed with.
    pub secret: WebhookSecret,
    /// The only authorities trusted, in PEM; those of the system when this is `None`.
    pub authorities: Option<PathBuf>,
    /// The HTTP proxy on the way, as `http://host:port`.
    pub proxy: Option<Uri>,
    /// Time for one attempt, connecting included.
    pub deadline: Duration,
}

/// What documents are signed with.
#[derive(Clone, Eq, PartialEq)]
pub enum WebhookSecret {
    /// A file with a secret on each line, read for each attempt; with several, each signs.
    File(PathBuf),
    /// The secret itself.
    Inline(String),
}

impl fmt::Debug for WebhookSecret {
    /// Nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(_) => f.write_str("Inline"),
        }
    }
}

impl WebhookSecret {
    /// Reads the secrets.
    ///
    /// # Errors
    ///
    /// When there is none, one cannot be used, or the file cannot be read; the text holds nothing of a secret.
    pub fn keys(&self) -> Result<Vec<WebhookKey>, String> {
        let path = match self {
            Self::Inline(text) => return Ok(vec![WebhookKey::parse(text)?]),
            Self::File(path) => path,
        };
        let named = |reason: &dyn fmt::Display| format!("{}: {reason}", path.display());
        let text = read(path).map_err(|error| named(&error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Result<Vec<_>, _> = lines.take(SECRETS + 1).map(WebhookKey::parse).collect();
        match keys.map_err(|reason| named(&reason))? {
            keys if keys.is_empty() => Err(named(&"there is no secret in it")),
            keys if keys.len() > SECRETS => {
                Err(named(&format!("more than {SECRETS} secrets are in it")))
            }
            keys => Ok(keys),
        }
    }
}

fn read(path: &PathBuf) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(SECRET_FILE).read_to_string(&mut text)?;
    Ok(text)
}

impl WebhookConfig {
    /// Where it is, without path and query, in which some receivers want secrets.
    pub(super) fn place(&self) -> String {
        let scheme = self.url.scheme_str().unwrap_or_default();
        format!("{scheme}://{}", host_and_port(&self.url))
    }
}

/// Sends each document, one at a time.
pub(super) struct Sender {
    pub(super) config: WebhookConfig,
    pub(super) retry: Duration,
    pub(super) clock: fn() -> UnixTime,
    pub(super) tally: Tally,
}

impl Sender {
    /// Sends each document until nobody leaves any more.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Arc<[u8]>>) {
        while let Some(document) = waiting.recv().await {
            let document = Bytes::from_owner(document);
            let end = match self.tell(&document).await {
                true => End::Delivered,
                false => End::Failed,
            };
            self.tally.count(end);
        }
    }

    async fn tell(&self, document: &Bytes) -> bool {
        // The same for every attempt, so that a receiver can tell a repetition.
        let id = message_id();
        let mut wait = self.retry;
        for attempt in 1..=WEBHOOK_ATTEMPTS {
            let once = timeout(self.config.deadline, self.once(&id, document));
            let failure = match once.await {
                Ok(Ok(())) => return true,
                Ok(Err(reason)) => reason,
                Err(_) => format!("not taken within {} s", self.config.deadline.as_secs_f32()),
            };
            self.tally.fail(attempt, &failure);
            if attempt < WEBHOOK_ATTEMPTS {
                // Between half of it and all, so that what failed together comes back apart.
                sleep(wait.mul_f64(0.5 + 0.5 * chance())).await;
                wait = wait.saturating_mul(2).min(WEBHOOK_LONGEST_RETRY);
            }
        }
        false
    }

    async fn once(&self, id: &str, document: &Bytes) -> Result<(), String> {
        let secret = self.config.secret.clone();
        let keys = tokio::task::spawn_blocking(move || secret.keys()).await;
        let keys = keys.map_err(|error| error.to_string())??;
        let seconds = (self.clock)().seconds();
        let signatures = keys.iter().map(|key| key.sign(id, seconds, document));
        let signatures: Vec<String> = signatures.collect();
        let url = &self.config.url;
        let secure = url.scheme_str() == Some("https");
        let target = match (&self.config.proxy, secure) {
            // RFC 9112 section 3.2.2: a proxy reads the whole URL.
            (Some(_), false) => url.to_string(),
            _ => url
                .path_and_query()
                .map_or("/", |own| own.as_str())
                .to_owned(),
        };
        let request = Request::post(target)
            .header(HOST, host_and_port(url))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("stopgap/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .body(Full::new(document.clone()))
            .map_err(|error| error.to_string())?;
        // Nothing of the answer counts but its status.
        let answer = exchange(self.connect().await?, request, 0)
            .await
            .map_err(|error| explain(&error))?;
        let status = answer.status();
        match status.is_success() {
            true => Ok(()),
            false if status.is_redirection() => Err(format!(
                "answered with {}: redirections are not followed, write the address where it is",
                status.as_u16()
            )),
            false => Err(format!("answered with {}", status.as_u16())),
        }
    }

    async fn connect(&self) -> Result<Stream<TcpStream>, String> {
        let url = &self.config.url;
        let secure = url.scheme_str() == Some("https");
        let first = self.config.proxy.as_ref().unwrap_or(url);
        let place = (bare_host(first), port(first));
        let mut socket = TcpStream::connect(place)
            .await
            .map_err(|error| format!("no connection to {}: {error}", host_and_port(first)))?;
        if !secure {
            return Ok(Stream::Plain(socket));
        }
        if self.config.proxy.is_some() {
            tunnel(&mut socket, &format!("{}:{}", host(url), port(url))).await?;
        }
        let (authorities, name) = (self.config.authorities.clone(), bare_host(url).to_owned());
        // Read each time, so that a renewed authority counts.
        let load = move || TlsClient::load(authorities.as_deref(), &name);
        let client = tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| format!("no TLS: {error}"))?
            .map_err(|error| format!("no TLS: {}", explain(&error)))?;
        let stream = client.connect(socket).await;
        stream.map_err(|error| format!("no TLS: {error}"))
    }
}

/// Asks the proxy for a tunnel (RFC 9110 section 9.3.6).
async fn tunnel(socket: &mut TcpStream, place: &str) -> Result<(), String> {
    let broken = |error: io::Error| format!("the proxy: {error}");
    let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= TUNNEL_HEAD {
            return Err("the proxy's answer is too long".to_owned());
        }
        // One at a time, since what follows is the receiver's.
        head.push(socket.read_u8().await.map_err(broken)?);
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.split(' ').nth(1).unwrap_or_default();
    match status.len() == 3 && status.starts_with('2') {
        true => Ok(()),
        false => Err(format!("the proxy answered with {status}")),
    }
}

/// An id that no other document has.
fn message_id() -> String {
    let octets = random_octets().unwrap_or_else(|| {
        // Without random numbers it must still differ from document to document.
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&chance().to_bits().to_be_bytes());
        octets
    });
    let digits = octets[..16].iter().map(|octet| format!("{octet:02x}"));
    format!("msg_{}", digits.collect::<String>())
}

fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default()
}

/// The host without the brackets of an IPv6 literal.
fn bare_host(url: &Uri) -> &str {
    host(url).trim_matches(['[', ']'])
}

fn port(url: &Uri) -> u16 {
    let usual = match url.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    url.port_u16().unwrap_or(usual)
}

/// The host, and the port if it is written, without a user.
fn host_and_port(url: &Uri) -> String {
    match url.port_u16() {
        Some(port) => format!("{}:{port}", host(url)),
        None => host(url).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let file = WebhookSecret::File(path.clone());
        let secret = "0123456789abcdef01234567";
        for (text, count) in [
            (format!("{secret}\n"), Some(1)),
            (format!("\n {secret}\r\n{secret}"), Some(2)),
            (format!("{secret}\n").repeat(SECRETS), Some(SECRETS)),
            (format!("{secret}\n").repeat(SECRETS + 1), None),
            (String::new(), None),
            ("short-secret".to_owned(), None),
        ] {
            std::fs::write(&path, &text).unwrap();
            let keys = file.keys();
            assert_eq!(keys.as_ref().ok().map(Vec::len), count, "{text}");
            if let Err(reason) = keys {
                assert!(reason.contains("secrets: "), "{reason}");
                assert!(!reason.contains("short-"), "{reason}");
            }
        }
        std::fs::remove_file(&path).unwrap();
        assert!(file.keys().is_err());
        let inline = WebhookSecret::Inline(secret.to_owned());
        assert_eq!(inline.keys().unwrap().len(), 1);
        assert_eq!(format!("{inline:?}"), "Inline");
    }

    #[test]
    fn places_are_shown_without_what_may_be_secret() {
        let config = |url: &'static str| WebhookConfig {
            url: Uri::from_static(url),
            secret: WebhookSecret::Inline(String::new()),
            authorities: None,
            proxy: None,
            deadline: WEBHOOK_DEADLINE,
        };
        for (url, place) in [
            ("https://a.test/hook/KEY?token=T", "https://a.test"),
            ("http://user:word@[::1]:81/", "http://[::1]:81"),
        ] {
            assert_eq!(config(url).place(), place);
        }
        assert_ne!(message_id(), message_id());
        assert_eq!(bare_host(&Uri::from_static("http://[::1]:81/")), "::1");
    }
}
