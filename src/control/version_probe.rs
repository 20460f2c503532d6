//! Asks one server which build of its product it runs, and finds the build in its answer.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tokio::net::TcpStream;

use crate::mitigation::Build;
use crate::model::explain;
use crate::net::{Stream, TlsClient, connect_unix, exchange};
use crate::rules::pattern::{
    Groups, Matched, Pattern, PatternCache, PatternError, PatternOptions, PatternSyntax,
};

/// Time between two questions to one server by default.
pub const VERSION_INTERVAL: Duration = Duration::from_secs(300);

/// Time for one question by default.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer in which a build is looked for.
pub const VERSION_BODY: usize = 256 * 1_024;

/// Builds that are looked at in one answer.
const FOUND: usize = 64;

/// The product that [`VersionSource::Exchange`] is about, as mitigations name it.
pub const EXCHANGE: &str = "exchange";

/// What Exchange is asked for: the page of its login, which names its resources, and what leads to it.
const EXCHANGE_TARGETS: [&str; 2] = ["/owa/auth/logon.aspx", "/owa/"];

/// The field in which Exchange says its build.
const EXCHANGE_FIELD: &str = "X-OWA-Version";

/// The build in the paths of Exchange's resources, often without its last number.
const EXCHANGE_PATHS: &str = r"/owa/(?:auth/|prem/)?(\d+\.\d+\.\d+(?:\.\d+)?)/";

/// The whole value of a field.
const WHOLE: &str = r"^\s*(\d+(?:\.\d+){1,3})\s*$";

/// What calls itself so is known to be this.
const AGENT: &str = "stopgap-version-probe";

/// How the servers of one site are asked for the build of their product.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VersionProbe {
    /// The product, as mitigations name it.
    pub product: String,
    /// What is asked, and where the build is in the answer.
    pub source: VersionSource,
    /// The value of `Host`; the server's own address when this is `None`.
    pub host: Option<String>,
    /// Time between two questions to one server, a tenth more or less.
    pub interval: Duration,
    /// Time for one question, connecting included.
    pub timeout: Duration,
}

/// What is asked, and where the build is in the answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VersionSource {
    /// Exchange: the field `X-OWA-Version`, and the build in the paths of its resources.
    Exchange,
    /// Another product.
    Other {
        /// What is asked for, in origin form.
        target: String,
        /// The field that is looked at; the body when this is `None`.
        field: Option<String>,
        /// What is looked for there; its first group is the build.
        pattern: VersionPattern,
    },
}

/// A pattern whose first group is a build.
#[derive(Clone)]
pub struct VersionPattern {
    text: String,
    pattern: Pattern,
}

impl VersionPattern {
    /// Checks a pattern of ECMAScript.
    ///
    /// # Errors
    ///
    /// When it is none, or has no group.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern = compile(text).map_err(|error| error.to_string())?;
        if pattern.group_count() == 0 {
            return Err("no group says where the build is: write one, as in v(\\d+\\.\\d+)".into());
        }
        Ok(Self {
            text: text.to_owned(),
            pattern,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for VersionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Eq for VersionPattern {}

impl PartialEq for VersionPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn compile(text: &str) -> Result<Pattern, PatternError> {
    Pattern::new(text, PatternSyntax::EcmaScript, PatternOptions::default())
}

/// The servers of one site, and how they are asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SiteServers {
    /// The site.
    pub site: String,
    /// Every server that answers for it, those of its routes too.
    pub servers: Vec<ServerPlace>,
    /// How they are asked; they are not when this is `None`.
    pub probe: Option<VersionProbe>,
}

/// Where one server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerPlace {
    /// As the settings write it.
    pub name: String,
    /// A host name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The Unix socket that it is spoken to over, rather than at its host and port.
    pub socket: Option<PathBuf>,
    /// Whom it has to prove to be, when it is spoken to within TLS.
    pub tls: Option<ServerTrust>,
}

/// How a server is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTrust {
    /// The only authorities trusted, in PEM; those of the system when this is `None`.
    pub authorities: Option<PathBuf>,
    /// The name in its certificate.
    pub name: String,
}

/// A build, and where in an answer it was.
pub(super) type Found = (Build, String);

impl VersionProbe {
    /// Asks a server until it shows a whole build, or all that it shows.
    pub(super) async fn ask(&self, server: &ServerPlace) -> Result<Found, String> {
        let work = async {
            let mut found = Vec::new();
            let mut fault = None;
            for target in self.targets() {
                match self.ask_for(target, server).await {
                    Ok(more) => found.extend(more),
                    Err(reason) => fault = fault.or(Some(reason)),
                }
                if found.iter().any(|(build, _)| build.is_exact()) {
                    break;
                }
            }
            let none = || fault.unwrap_or_else(|| "its answer shows no build".to_owned());
            least(found).ok_or_else(none)
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    fn targets(&self) -> Vec<&str> {
        match &self.source {
            VersionSource::Exchange => EXCHANGE_TARGETS.to_vec(),
            VersionSource::Other { target, .. } => vec![target],
        }
    }

    async fn ask_for(&self, target: &str, server: &ServerPlace) -> Result<Vec<Found>, String> {
        let stream = connect(server).await?;
        let request = self.request(target, server)?;
        let answer = exchange(stream, request, VERSION_BODY)
            .await
            .map_err(|error| explain(&error))?;
        if answer.status().is_server_error() {
            return Err(format!("answered with {}", answer.status().as_u16()));
        }
        let coding = answer.headers().get(CONTENT_ENCODING);
        if let Some(coding) = coding.filter(|coding| *coding != "identity") {
            let coding = String::from_utf8_lossy(coding.as_bytes());
            return Err(format!("answered in the coding {coding}, unasked"));
        }
        // Searching may take a while, and orders do not wait for it.
        let source = self.source.clone();
        let found = tokio::task::spawn_blocking(move || source.find(&answer)).await;
        found.map_err(|error| error.to_string())?
    }

    fn request(&self, target: &str, server: &ServerPlace) -> Result<Request<Full<Bytes>>, String> {
        let own = || match server.host.contains(':') {
            _ if server.socket.is_some() => server.host.clone(),
            true => format!("[{}]:{}", server.host, server.port),
            false => format!("{}:{}", server.host, server.port),
        };
        Request::get(target)
            .header(HOST, self.host.clone().unwrap_or_else(own))
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "*/*")
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close")
            .body(Full::default())
            .map_err(|error| error.to_string())
    }
}

impl VersionSource {
    /// Every build that an answer shows, and where.
    fn find(&self, answer: &Response<Bytes>) -> Result<Vec<Found>, String> {
        let own = |text| compile(text).map_err(|error| error.to_string());
        let places = match self {
            Self::Exchange => vec![
                (Some(EXCHANGE_FIELD), own(WHOLE)?),
                (None, own(EXCHANGE_PATHS)?),
            ],
            Self::Other { field, pattern, .. } => {
                vec![(field.as_deref(), pattern.pattern.clone())]
            }
        };
        let mut found = Vec::new();
        for (field, pattern) in places {
            let Some(field) = field else {
                let builds = search(&pattern, answer.body(), "the body")?;
                found.extend(builds.map(|build| (build, "body".to_owned())));
                continue;
            };
            // Settings hold names of fields only.
            let name = HeaderName::try_from(field).map_err(|error| error.to_string())?;
            for value in answer.headers().get_all(name) {
                let builds = search(&pattern, value.as_bytes(), field)?;
                found.extend(builds.map(|build| (build, field.to_owned())));
            }
        }
        Ok(found)
    }
}

/// The builds that the first group of a pattern finds.
fn search(
    pattern: &Pattern,
    input: &[u8],
    place: &str,
) -> Result<impl Iterator<Item = Build> + use<>, String> {
    let (mut cache, mut groups) = (PatternCache::new(), Groups::default());
    let mut found = Vec::new();
    let mut start = 0;
    while found.len() < FOUND {
        match pattern.captures(&mut cache, input, start, &mut groups) {
            Matched::Yes => {}
            Matched::No => break,
            Matched::OutOfSteps => {
                return Err(format!(
                    "{place} cannot be searched: write a simpler pattern"
                ));
            }
        }
        let build = groups.get(1).and_then(|span| {
            let text = std::str::from_utf8(&input[span]).ok()?;
            text.parse::<Build>().ok()
        });
        found.extend(build);
        let Some(whole) = groups.get(0) else { break };
        start = whole.end.max(start + 1);
    }
    Ok(found.into_iter())
}

async fn connect(server: &ServerPlace) -> Result<Stream<TcpStream>, String> {
    let socket = match &server.socket {
        Some(path) => connect_unix(path).await,
        None => TcpStream::connect((server.host.as_str(), server.port)).await,
    };
    let socket = socket.map_err(|error| format!("no connection: {error}"))?;
    let Some(trust) = server.tls.clone() else {
        return Ok(Stream::Plain(socket));
    };
    // Read each time, so that a renewed authority counts.
    let load = move || TlsClient::load(trust.authorities.as_deref(), &trust.name);
    let loaded = tokio::task::spawn_blocking(load).await;
    let client = match loaded {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(format!("no TLS: {}", explain(&error))),
        Err(error) => return Err(format!("no TLS: {error}")),
    };
    let stream = client.connect(socket).await;
    stream.map_err(|error| format!("no TLS: {error}"))
}

/// The build that is safe to believe: what says less than another one is left out, and the lowest of the rest counts.
fn least(found: Vec<Found>) -> Option<Found> {
    let builds: Vec<Build> = found.iter().map(|(build, _)| *build).collect();
    let is_whole = |build: &Build| {
        let mut others = builds.iter();
        !others.any(|other| other != build && build.covers(other))
    };
    let whole = found.into_iter().filter(|(build, _)| is_whole(build));
    whole.min_by_key(|(build, _)| build.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &VersionSource, fields: &[(&str, &str)], body: &str) -> Option<String> {
        let mut answer = Response::builder();
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let answer = answer
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        let (build, place) = least(source.find(&answer).unwrap())?;
        Some(format!("{build} in {place}"))
    }

    #[test]
    fn exchange_shows_its_build_in_a_field_and_in_paths() {
        let field = |value| [("x-owa-version", value)];
        let path = |build: &str| format!("<link href=\"/owa/auth/{build}/themes/a.css\">");
        let of = |fields: &[_], body: &str| shown(&VersionSource::Exchange, fields, body);
        for (fields, body, expected) in [
            (
                &field("15.2.1118.20")[..],
                String::new(),
                "15.2.1118.20 in X-OWA-Version",
            ),
            (&[], path("15.2.1118"), "15.2.1118 in body"),
            (
                &[],
                path("15.1.225.42").replace("auth", "PREM"),
                "15.1.225.42 in body",
            ),
            (
                &field("15.2.1118.20"),
                path("15.2.1118"),
                "15.2.1118.20 in X-OWA-Version",
            ),
            // What does not agree is as old as its oldest part.
            (&field("15.2.1118.20"), path("15.2.986"), "15.2.986 in body"),
            (
                &[],
                path("15.2.1118.9") + &path("15.2.986"),
                "15.2.986 in body",
            ),
        ] {
            assert_eq!(of(fields, &body).as_deref(), Some(expected), "{body}");
        }
        for (fields, body) in [
            (&field("Exchange 15.2")[..], String::new()),
            (&field("15.2.1118.20.1"), String::new()),
            (&[], "/owa/auth/logon.aspx /ecp/15.2.1118/a".to_owned()),
            (&[], path("15.2.99999999999")),
        ] {
            assert_eq!(of(fields, &body), None, "{body}");
        }
    }

    #[test]
    fn other_products_say_where_to_look() {
        let source = |field: Option<&str>, pattern: &str| VersionSource::Other {
            target: "/".to_owned(),
            field: field.map(str::to_owned),
            pattern: VersionPattern::new(pattern).unwrap(),
        };
        let body = source(None, r"Version: (\d+\.\d+\.\d+)");
        assert_eq!(
            shown(&body, &[], "x Version: 2.4.57-a").as_deref(),
            Some("2.4.57 in body")
        );
        let field = source(Some("Server"), r"^App/([\d.]+)");
        let fields = [("server", "App/7.4"), ("server", "App/7.3.1")];
        assert_eq!(
            shown(&field, &fields, "").as_deref(),
            Some("7.3.1 in Server")
        );
        assert_eq!(shown(&field, &[("server", "nginx/1.2")], ""), None);
        assert!(VersionPattern::new("v(").is_err());
        assert!(VersionPattern::new("v1").unwrap_err().contains("write one"));
    }

    #[test]
    fn number_of_builds_in_an_answer_is_bounded() {
        let pattern = VersionPattern::new("/([0-9.]+)/").unwrap();
        for (written, read) in [(FOUND - 1, FOUND - 1), (FOUND, FOUND), (FOUND + 1, FOUND)] {
            let body = "/1.2/".repeat(written);
            let found = search(&pattern.pattern, body.as_bytes(), "body").unwrap();
            assert_eq!(found.count(), read);
        }
    }
}
