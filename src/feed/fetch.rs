//! Brings a feed's bytes here, within limits of time and size.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use http::uri::{Authority, Scheme};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Bytes, Incoming};

use super::config::{FeedConfig, Source};
use super::connect;
use super::error::{FeedError, Kind};
use crate::signature::envelope::ROOT_BYTES;

/// The most redirections followed in one fetch.
pub const REDIRECT_LIMIT: usize = 5;

/// The most roots taken in one fetch; the next one goes on from there.
pub const ROOT_LIMIT: usize = 32;

/// The longest validator that is remembered, in bytes; a host that sends a longer one is asked for the whole document.
pub const VALIDATOR_BYTES: usize = 1_024;

/// What one fetch brought, which nobody has verified yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fetched {
    /// The roots after those that are known, in order; only our own format has any.
    pub roots: Vec<Vec<u8>>,
    /// The document.
    pub document: Vec<u8>,
    /// What the host said about this version of the document.
    validators: Validators,
}

/// What tells a host which version of a document is known here (RFC 9110 section 8.8), as it said it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let take = |name: HeaderName| {
            let value = headers.get(name)?;
            (value.len() <= VALIDATOR_BYTES).then(|| value.clone())
        };
        Self {
            etag: take(header::ETAG),
            last_modified: take(header::LAST_MODIFIED),
        }
    }

    const fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// Fetches one feed over and over, and asks a host only for what is new to it.
///
/// What a host left out since it had not changed is taken from memory, so that whoever verifies sees the same octets as
/// if they had been sent: an old document does not become fresh by an answer that nobody signed.
#[derive(Debug)]
pub struct Fetcher {
    config: FeedConfig,
    /// What was accepted last, and which place gave it.
    known: Option<(Source, Fetched)>,
}

impl Fetcher {
    /// A fetcher that knows no document yet.
    pub const fn new(config: FeedConfig) -> Self {
        Self {
            config,
            known: None,
        }
    }

    /// The feed's settings.
    pub const fn config(&self) -> &FeedConfig {
        &self.config
    }

    /// Fetches from one of the feed's places the roots from this version on, until there is none, and then the document.
    ///
    /// `N.root.json` lies beside the document. At most [`ROOT_LIMIT`] roots are taken; without a version, none. A new
    /// connection is made each time, since the next fetch is an hour away. Over HTTP, redirections are followed within
    /// the place's host only, and no content encoding is taken.
    ///
    /// # Errors
    ///
    /// When a root or the document does not arrive whole within the limits. The deadline covers all of them.
    pub async fn fetch(
        &self,
        place: &Source,
        first_root: Option<u64>,
    ) -> Result<Fetched, FeedError> {
        let known = self.known.as_ref().filter(|(from, _)| from == place);
        let known = known.map(|(_, known)| known);
        within_deadline(
            &self.config,
            fetch_all(&self.config, place, first_root, known),
        )
        .await
    }

    /// Notes that what this place gave was accepted.
    pub fn accepted(&mut self, place: &Source, fetched: Fetched) {
        // Only the newest document is known: an earlier one, that another place may still give, is not to be asked for.
        self.known = (!fetched.validators.is_empty()).then(|| (place.clone(), fetched));
    }
}

async fn fetch_all(
    config: &FeedConfig,
    place: &Source,
    first_root: Option<u64>,
    known: Option<&Fetched>,
) -> Result<Fetched, FeedError> {
    let document = place.document(&config.trust);
    let mut fetched = Fetched::default();
    let mut next = first_root;
    while let Some(version) = next.filter(|_| fetched.roots.len() < ROOT_LIMIT) {
        let source = document.beside(&format!("{version}.root.json"));
        match fetch_one(config, &source, ROOT_BYTES, None).await {
            Ok(root) => fetched.roots.push(root.document),
            Err(error) if error.is_absent() => break,
            Err(error) => return Err(error),
        }
        next = version.checked_add(1);
    }
    let found = fetch_one(config, &document, config.size_limit, known).await?;
    fetched.document = found.document;
    fetched.validators = found.validators;
    Ok(fetched)
}

/// Fetches the roots of the feed from this version on and its document, once, from its first place.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub async fn fetch_with_roots(
    config: &FeedConfig,
    first_root: Option<u64>,
) -> Result<Fetched, FeedError> {
    within_deadline(config, fetch_all(config, &config.source, first_root, None)).await
}

/// Fetches the bytes of the feed's document from its first place, which nobody has verified yet.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub async fn fetch(config: &FeedConfig) -> Result<Vec<u8>, FeedError> {
    Ok(fetch_with_roots(config, None).await?.document)
}

async fn within_deadline<T>(
    config: &FeedConfig,
    work: impl Future<Output = Result<T, FeedError>>,
) -> Result<T, FeedError> {
    tokio::time::timeout(config.deadline, work)
        .await
        .map_err(|_| FeedError::new(Kind::Deadline(config.deadline)))?
}

async fn fetch_one(
    config: &FeedConfig,
    source: &Source,
    limit: usize,
    known: Option<&Fetched>,
) -> Result<Fetched, FeedError> {
    match source {
        Source::File(path) => Ok(Fetched {
            document: fetch_file(path, limit).await?,
            ..Fetched::default()
        }),
        Source::Http(uri) => fetch_http(config, uri, limit, known).await,
    }
}

async fn fetch_file(path: &Path, limit: usize) -> Result<Vec<u8>, FeedError> {
    let owned = path.to_owned();
    let bytes = tokio::task::spawn_blocking(move || read_file(&owned, limit))
        .await
        .map_err(|error| FeedError::file(path, io::Error::other(error)))?
        .map_err(|error| FeedError::file(path, error))?;
    within(bytes, limit)
}

fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn within(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, FeedError> {
    match bytes.len() > limit {
        true => Err(FeedError::new(Kind::TooLarge(limit))),
        false => Ok(bytes),
    }
}

async fn fetch_http(
    config: &FeedConfig,
    start: &Uri,
    limit: usize,
    known: Option<&Fetched>,
) -> Result<Fetched, FeedError> {
    let mut uri = start.clone();
    for _ in 0..=REDIRECT_LIMIT {
        let response = exchange(config, &uri, known).await?;
        match (response.status(), known) {
            (StatusCode::OK, _) => {
                let validators = Validators::of(response.headers());
                return Ok(Fetched {
                    document: receive(response, limit).await?,
                    validators,
                    ..Fetched::default()
                });
            }
            // To a request without a condition it would be an answer to another question.
            (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(known.clone()),
            (status, _) if is_redirect(status) => uri = redirected(&uri, &response)?,
            (status, _) => return Err(FeedError::new(Kind::Status(status.as_u16()))),
        }
    }
    Err(FeedError::new(Kind::TooManyRedirects(REDIRECT_LIMIT)))
}

async fn exchange(
    config: &FeedConfig,
    uri: &Uri,
    known: Option<&Fetched>,
) -> Result<Response<Incoming>, FeedError> {
    let mut link = connect::open(config, uri).await?;
    let target = match link.absolute_form {
        true => uri.clone(),
        false => origin_form(uri),
    };
    let host = uri.authority().map_or("", Authority::as_str);
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/xml, text/xml, */*;q=0.1")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .header(
            header::USER_AGENT,
            concat!("stopgap/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| FeedError::because(Kind::Exchange, error))?;
    if let Some(known) = known {
        // RFC 9110 section 13.1: a host that understands the first passes over the second.
        let headers = request.headers_mut();
        let Validators {
            etag,
            last_modified,
        } = &known.validators;
        headers.extend(etag.clone().map(|tag| (header::IF_NONE_MATCH, tag)));
        headers.extend(
            last_modified
                .clone()
                .map(|time| (header::IF_MODIFIED_SINCE, time)),
        );
    }
    link.sender
        .send_request(request)
        .await
        .map_err(|error| FeedError::because(Kind::Exchange, error))
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirection leads, if that is within the configured host: same host and port, or from `http` to `https`
/// on their usual ports.
fn redirected(from: &Uri, response: &Response<Incoming>) -> Result<Uri, FeedError> {
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    resolve(from, location)
        .ok_or_else(|| FeedError::new(Kind::RedirectedAway(location.chars().take(256).collect())))
}

fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let to: Uri = location.parse().ok()?;
    let same_host = to.host()?.eq_ignore_ascii_case(from.host()?);
    let plain_host = !to.authority()?.as_str().contains('@');
    let upgrade = from.scheme() == Some(&Scheme::HTTP)
        && to.scheme() == Some(&Scheme::HTTPS)
        && (port(from), port(&to)) == (Some(80), Some(443));
    let same_place = from.scheme() == to.scheme() && port(from) == port(&to);
    (same_host && plain_host && (same_place || upgrade)).then_some(to)
}

/// The port of an `http` or `https` URL, the usual one when it names none.
pub(super) fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or_else(|| match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

async fn receive(response: Response<Incoming>, limit: usize) -> Result<Vec<u8>, FeedError> {
    let coding = response
        .headers()
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .find(|coding| !coding.eq_ignore_ascii_case("identity"));
    if let Some(coding) = coding {
        return Err(FeedError::new(Kind::Encoded(coding)));
    }
    let body = response.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(FeedError::new(Kind::TooLarge(limit)));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(FeedError::new(Kind::TooLarge(limit)))
        }
        Err(error) => Err(FeedError::because(Kind::Body, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_within_the_host() {
        let cases = [
            ("https://a.test/feed", "/other", true),
            ("https://a.test/feed", "https://A.test/other?x=1", true),
            ("https://a.test/feed", "https://a.test:443/other", true),
            ("http://a.test/feed", "https://a.test/feed", true),
            ("https://a.test/feed", "http://a.test/feed", false),
            ("https://a.test/feed", "https://a.test:444/feed", false),
            ("http://a.test:8080/feed", "https://a.test/feed", false),
            ("https://a.test/feed", "https://b.test/feed", false),
            ("https://a.test/feed", "https://x@a.test/feed", false),
            ("https://a.test/feed", "//b.test/feed", false),
            ("https://a.test/feed", "", false),
            ("https://a.test/feed", "file:///etc/passwd", false),
        ];
        for (from, location, followed) in cases {
            let from: Uri = from.parse().unwrap();
            assert_eq!(
                resolve(&from, location).is_some(),
                followed,
                "{from} to {location:?}"
            );
        }
    }

    #[tokio::test]
    async fn file_is_read_up_to_the_limit() {
        use crate::feed::Trust;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345678").unwrap();
        let source = Source::File(file.path().to_owned());
        let mut config = FeedConfig::new("a", source, Trust::MicrosoftEocs);
        config.size_limit = 8;
        assert_eq!(fetch(&config).await.unwrap(), b"12345678");
        config.size_limit = 7;
        assert!(matches!(
            fetch(&config).await.unwrap_err().kind(),
            Kind::TooLarge(7)
        ));
        config.source = Source::File("/nowhere/feed.xml".into());
        let error = fetch(&config).await.unwrap_err();
        assert!(error.explain().contains("/nowhere/feed.xml"), "{error}");
    }
}
