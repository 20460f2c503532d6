//! An exception: requests that one mitigation lets pass for a while, on somebody's word.

use std::fmt;
use std::net::IpAddr;

use super::{MitigationId, Network, UnixTime};

/// The longest name of an exception, in characters.
pub const EXCEPTION_NAME_LIMIT: usize = 64;

/// The longest owner, reason, rule and path of an exception, in characters.
pub const EXCEPTION_TEXT_LIMIT: usize = 500;

/// The most networks of clients of one exception.
pub const EXCEPTION_NETWORKS_LIMIT: usize = 64;

/// Requests of some clients for some paths, which a mitigation does not stop until a given time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exception {
    name: String,
    mitigation: MitigationId,
    rule: Option<String>,
    path: String,
    clients: Vec<Network>,
    owner: String,
    reason: String,
    expires: UnixTime,
}

/// An exception as somebody wrote it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExceptionDraft<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The mitigation that does not stop the requests.
    pub mitigation: &'a str,
    /// The only rule of it that does not; every rule of it without one.
    pub rule: Option<&'a str>,
    /// The path prefix of the requests.
    pub path: &'a str,
    /// The networks that the clients are in.
    pub clients: Vec<&'a str>,
    /// Who answers for it.
    pub owner: &'a str,
    /// Why it is there.
    pub reason: &'a str,
    /// When it ends, as RFC 3339 in UTC.
    pub expires: &'a str,
}

/// Why an exception cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidException {
    key: &'static str,
    problem: String,
}

impl InvalidException {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }

    /// The key at fault, as settings name it.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// What is wrong with it, and what to write.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for InvalidException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.key, self.problem)
    }
}

impl std::error::Error for InvalidException {}

impl Exception {
    /// Reads what somebody wrote.
    ///
    /// # Errors
    ///
    /// For the first key whose value cannot be used, and when nobody and nothing would be left for the mitigation.
    pub fn read(draft: &ExceptionDraft<'_>) -> Result<Self, InvalidException> {
        let mitigation: MitigationId = draft
            .mitigation
            .parse()
            .map_err(|error| InvalidException::new("mitigation", format!("{error}")))?;
        let path = read_path(draft.path)?;
        let clients = read_clients(&draft.clients)?;
        if path == "/" && clients.iter().any(Network::is_everyone) {
            let problem = format!(
                "every path and everyone: that is no exception; block {mitigation} instead, or only watch it"
            );
            return Err(InvalidException::new("path", problem));
        }
        Ok(Self {
            name: read_name(draft.name)?,
            mitigation,
            rule: draft.rule.map(|rule| words("rule", rule)).transpose()?,
            path,
            clients,
            owner: words("owner", draft.owner)?,
            reason: words("reason", draft.reason)?,
            expires: UnixTime::parse_rfc3339(draft.expires).ok_or_else(|| {
                let problem = format!(
                    "{:?} is no time: write it in UTC, like 2026-12-31T00:00:00Z",
                    shortened(draft.expires)
                );
                InvalidException::new("expires", problem)
            })?,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mitigation that does not stop the requests; `M1.1` stands for `M1.1.0` too.
    pub const fn mitigation(&self) -> &MitigationId {
        &self.mitigation
    }

    /// The only rule of it that does not; `None` for every rule of it.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// The path prefix of the requests: whole segments, letter case does not count.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The networks that the clients are in.
    pub fn clients(&self) -> &[Network] {
        &self.clients
    }

    /// Who answers for it.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Why it is there.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When it ends.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Whether a rule of a mitigation is one that it is about.
    pub fn is_about(&self, mitigation: &MitigationId, rule: &str) -> bool {
        self.mitigation.same_mitigation(mitigation)
            && self.rule.as_deref().is_none_or(|own| own == rule)
    }

    /// Whether a client is one that it is for.
    pub fn is_for(&self, client: IpAddr) -> bool {
        self.clients.iter().any(|network| network.contains(client))
    }
}

fn read_name(name: &str) -> Result<String, InvalidException> {
    let usable = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match usable && (1..=EXCEPTION_NAME_LIMIT).contains(&name.len()) {
        true => Ok(name.to_owned()),
        false => {
            let problem = format!(
                "a name has one to {EXCEPTION_NAME_LIMIT} letters, digits and characters - _ ."
            );
            Err(InvalidException::new("name", problem))
        }
    }
}

fn read_path(path: &str) -> Result<String, InvalidException> {
    let path = words("path", path)?;
    let is_plain = path.starts_with('/')
        && !path.contains(['?', '#', '%', '\\', ';'])
        && path[1..].split('/').rev().enumerate().all(|(at, segment)| {
            // One slash may end it. What Windows drops from the end of a name would never be found.
            !segment.ends_with(['.', ' ']) && (at == 0 || !segment.is_empty())
        });
    match is_plain {
        true if path == "/" => Ok(path),
        true => Ok(path.trim_end_matches('/').to_owned()),
        false => Err(InvalidException::new(
            "path",
            "a path begins with a slash and stands as a server sees it: no escapes, query, parameters, empty segments or \
             segments that end with a dot",
        )),
    }
}

fn read_clients(clients: &[&str]) -> Result<Vec<Network>, InvalidException> {
    if !(1..=EXCEPTION_NETWORKS_LIMIT).contains(&clients.len()) {
        let problem = format!(
            "write one to {EXCEPTION_NETWORKS_LIMIT} addresses or ranges, like 192.0.2.0/24"
        );
        return Err(InvalidException::new("clients", problem));
    }
    let read = |text: &&str| {
        text.parse()
            .map_err(|error| InvalidException::new("clients", format!("{error}")))
    };
    clients.iter().map(read).collect()
}

/// A text that says something, in one line.
fn words(key: &'static str, text: &str) -> Result<String, InvalidException> {
    let text = text.trim();
    if text.is_empty() {
        let problem = match key {
            "owner" => "an exception has an owner: write who answers for it",
            "reason" => "an exception has a reason: write why it is there",
            _ => "this is empty",
        };
        return Err(InvalidException::new(key, problem));
    }
    if text.chars().any(char::is_control) {
        let problem = "this holds a control character: write one line of text";
        return Err(InvalidException::new(key, problem));
    }
    if text.chars().count() > EXCEPTION_TEXT_LIMIT {
        let problem = format!("this is longer than {EXCEPTION_TEXT_LIMIT} characters");
        return Err(InvalidException::new(key, problem));
    }
    Ok(text.to_owned())
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft<'a>() -> ExceptionDraft<'a> {
        ExceptionDraft {
            name: "room-7",
            mitigation: "M1.1",
            rule: None,
            path: "/autodiscover/",
            clients: vec!["192.0.2.0/24"],
            owner: "A. Person",
            reason: "the phone in room 7",
            expires: "2026-12-31T00:00:00Z",
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let exception = Exception::read(&draft()).unwrap();
        assert_eq!(exception.path(), "/autodiscover");
        assert_eq!(exception.expires().to_string(), "2026-12-31T00:00:00Z");
        assert!(exception.is_for("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!exception.is_for("192.0.3.1".parse().unwrap()));
        let id = |text: &str| text.parse().unwrap();
        assert!(exception.is_about(&id("M1.1.0"), "any"));
        assert!(!exception.is_about(&id("M1.2"), "any"));
        let of_one_rule = ExceptionDraft {
            rule: Some("one"),
            ..draft()
        };
        let exception = Exception::read(&of_one_rule).unwrap();
        assert!(exception.is_about(&id("M1.1"), "one"));
        assert!(!exception.is_about(&id("M1.1"), "two"));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_key() {
        let long = "a".repeat(EXCEPTION_TEXT_LIMIT + 1);
        let long_path = format!("/{}", "a".repeat(EXCEPTION_TEXT_LIMIT));
        let fits = "a".repeat(EXCEPTION_TEXT_LIMIT);
        let many = vec!["10.0.0.1"; EXCEPTION_NETWORKS_LIMIT + 1];
        let name = "a".repeat(EXCEPTION_NAME_LIMIT + 1);
        type Change<'a> = Box<dyn Fn(&mut ExceptionDraft<'a>) + 'a>;
        let cases: Vec<(&str, &str, Change<'_>)> = vec![
            ("name", "letters, digits", Box::new(|d| d.name = "a b")),
            ("name", "letters, digits", Box::new(|d| d.name = "")),
            ("name", "64", Box::new(|d| d.name = &name)),
            (
                "mitigation",
                "no mitigation id",
                Box::new(|d| d.mitigation = "m1"),
            ),
            ("rule", "empty", Box::new(|d| d.rule = Some(" "))),
            ("path", "slash", Box::new(|d| d.path = "owa")),
            ("path", "escapes", Box::new(|d| d.path = "/o%77a")),
            ("path", "segments", Box::new(|d| d.path = "/owa/../ecp")),
            ("path", "segments", Box::new(|d| d.path = "/owa//x")),
            ("path", "segments", Box::new(|d| d.path = "/owa./x")),
            ("path", "longer than", Box::new(|d| d.path = &long_path)),
            ("clients", "one to 64", Box::new(|d| d.clients.clear())),
            (
                "clients",
                "one to 64",
                Box::new(|d| d.clients.clone_from(&many)),
            ),
            (
                "clients",
                "neither",
                Box::new(|d| d.clients = vec!["10.0.0.0/33"]),
            ),
            ("owner", "who answers", Box::new(|d| d.owner = " ")),
            ("reason", "why", Box::new(|d| d.reason = "")),
            ("reason", "control", Box::new(|d| d.reason = "a\nb")),
            ("reason", "500", Box::new(|d| d.reason = &long)),
            ("expires", "like 2026", Box::new(|d| d.expires = "tomorrow")),
        ];
        for (key, problem, change) in cases {
            let mut draft = draft();
            change(&mut draft);
            let error = Exception::read(&draft).unwrap_err();
            assert_eq!(error.key(), key, "{error}");
            assert!(error.problem().contains(problem), "{error}");
        }
        let mut longest = draft();
        longest.reason = &fits;
        assert!(Exception::read(&longest).is_ok());
    }

    #[test]
    fn exception_for_everything_is_refused() {
        for (path, client, usable) in [
            ("/", "0.0.0.0/0", false),
            ("/", "::/0", false),
            ("/", "10.0.0.0/8", true),
            ("/owa", "0.0.0.0/0", true),
        ] {
            let draft = ExceptionDraft {
                path,
                clients: vec![client],
                ..draft()
            };
            let read = Exception::read(&draft);
            assert_eq!(read.is_ok(), usable, "{path} {client}");
        }
    }
}
