//! `[[exception]]`: requests that a mitigation does not stop for a while, from file text to settings.

use std::ops::Range;

use toml::Spanned;

use super::document::Document;
use super::error::ConfigError;
use crate::model::{Exception, ExceptionDraft};

/// `[[exception]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileException {
    name: Spanned<String>,
    mitigation: Spanned<String>,
    rule: Option<Spanned<String>>,
    path: Spanned<String>,
    clients: Spanned<Vec<String>>,
    owner: Spanned<String>,
    reason: Spanned<String>,
    expires: Spanned<String>,
}

impl FileException {
    /// Where a key stands.
    fn span(&self, key: &str) -> Range<usize> {
        match key {
            "mitigation" => self.mitigation.span(),
            "rule" => self.rule.as_ref().map_or(self.name.span(), Spanned::span),
            "path" => self.path.span(),
            "clients" => self.clients.span(),
            "owner" => self.owner.span(),
            "reason" => self.reason.span(),
            "expires" => self.expires.span(),
            _ => self.name.span(),
        }
    }
}

/// Checks what was written, but for how far ahead it ends: that is for whoever knows the time.
pub(super) fn check(
    written: &[FileException],
    document: &Document<'_>,
) -> Result<Vec<Exception>, ConfigError> {
    let mut exceptions: Vec<Exception> = Vec::new();
    for own in written {
        let exception = Exception::read(&ExceptionDraft {
            name: own.name.get_ref(),
            mitigation: own.mitigation.get_ref(),
            rule: own.rule.as_ref().map(|rule| rule.get_ref().as_str()),
            path: own.path.get_ref(),
            clients: own.clients.get_ref().iter().map(String::as_str).collect(),
            owner: own.owner.get_ref(),
            reason: own.reason.get_ref(),
            expires: own.expires.get_ref(),
        });
        let exception =
            exception.map_err(|error| document.fault(own.span(error.key()), error.problem()))?;
        if exceptions
            .iter()
            .any(|known| known.name() == exception.name())
        {
            let problem = "another exception has this name already; choose another";
            return Err(document.fault(own.name.span(), problem));
        }
        exceptions.push(exception);
    }
    Ok(exceptions)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    const WHOLE: &str = "[[exception]]\nname = \"room-7\"\nmitigation = \"M1.1\"\nrule = \"a rule\"\n\
        path = \"/autodiscover\"\nclients = [\"192.0.2.0/24\", \"fd00::7\"]\nowner = \"A. Person\"\n\
        reason = \"the phone\"\nexpires = \"2026-12-31T00:00:00Z\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/stopgap.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn exception_is_read_and_printed() {
        let text = format!("[policy]\nexception_lifetime = \"30d\"\n{WHOLE}");
        let config = parse(&text).unwrap();
        let control = &config.control;
        assert_eq!(control.policy.exception_lifetime.as_secs(), 30 * 86_400);
        assert_eq!(control.exceptions[0].rule(), Some("a rule"));
        let again = parse(&config.to_toml()).unwrap();
        assert_eq!(again.control.exceptions, control.exceptions);
        assert_eq!(
            again.control.policy.exception_lifetime.as_secs(),
            30 * 86_400
        );
        assert!(parse("").unwrap().control.exceptions.is_empty());
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (line, from, to, expected) in [
            (2, "\"room-7\"", "\"room 7\"", "letters, digits"),
            (3, "M1.1", "m1", "no mitigation id"),
            (4, "a rule", " ", "empty"),
            (5, "/autodiscover", "autodiscover", "begins with a slash"),
            (6, "fd00::7", "fd00::7/129", "neither an address"),
            (7, "A. Person", "", "write who answers"),
            (8, "the phone", "", "write why"),
            (9, "2026-12-31T00:00:00Z", "2026-12-31", "write it in UTC"),
            (1, "owner = \"A. Person\"\n", "", "`owner` is missing"),
            (
                1,
                "expires = \"2026-12-31T00:00:00Z\"\n",
                "",
                "`expires` is missing",
            ),
        ] {
            let text = WHOLE.replace(from, to);
            assert_ne!(text, WHOLE);
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains(&format!("line {line},")), "{text}: {error}");
        }
        let error = parse(&format!("{WHOLE}{WHOLE}")).unwrap_err();
        assert!(
            error.contains("line 11,") && error.contains("already"),
            "{error}"
        );
    }
}
